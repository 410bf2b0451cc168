#pragma once
// What Swift's Glibc module does not show (epoll, accept4, eventfd, statx) or cannot import
// (function-like macros, variadics). Nothing here decides anything.
// _GNU_SOURCE is defined in the .c files only: here it would give C structs (fd_set) another shape than
// in Swift's Glibc module, and no file could import both.
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>

int sys_epoll_create(void);
/// op is EPOLL_CTL_*; data comes back in the event. Returns 0 or -1 with errno.
int sys_epoll_ctl(int ep, int op, int fd, uint32_t events, uint64_t data);
static inline uint64_t sys_event_data(const struct epoll_event *e) { return e->data.u64; }
static inline uint32_t sys_event_mask(const struct epoll_event *e) { return e->events; }
int sys_eventfd(void);

/// Monotonic and wall clocks in nanoseconds.
int64_t sys_monotonic_ns(void);
int64_t sys_wall_ns(void);

/// Names the calling thread as `top -H` shows it: 15 bytes at most.
void sys_name_thread(const char *name);

/// Blocks SIGTERM, SIGINT and SIGHUP in this thread and those it starts from now on.
void sys_signals_block(void);
/// Waits for one of them; returns its number.
int sys_signal_wait(void);
/// 1 when SIGTERM or SIGINT waits to be fetched.
int sys_signal_is_pending(void);
/// Sends SIGTERM to this process.
void sys_signal_terminate(void);
/// Writes everything; 0, or -1 with errno.
int sys_write_all(int fd, const void *bytes, size_t count);
/// Leaves heap and stacks out of core dumps of this process; 0, or -1 with errno.
int sys_dump_no_memory(void);
/// Blocks of up to 32 MiB come from the heap, and up to 256 MiB that are free at its end stay with the process.
void sys_keep_memory(void);
/// A crash ends the process at once, as the kernel does it: the runtime's backtracer prints registers and
/// what they point at, which may be a secret, and delays the restart.
void sys_plain_crashes(void);
/// Ends the process after flushing stdio.
void sys_exit(int code) __attribute__((noreturn));
