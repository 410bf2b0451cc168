#pragma once
// Sockets as the loop needs them: non-blocking, close-on-exec, errors as -errno in the return value
// so that no errno crosses the language border.
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { SYS_PEER_REMOTE = 0, SYS_PEER_LOOPBACK = 1, SYS_PEER_UNIX = 2 };

/// Host is an IPv4 or IPv6 literal or "localhost"; port 0 picks one, *bound tells which.
int sys_listen_tcp(const char *host, uint16_t port, uint16_t *bound);
/// A socket file nobody answers on is removed first; the new one has mode 0600.
int sys_listen_unix(const char *path);
/// The same, but takes the place of whoever listens at `path`: bound beside it, renamed over it, so that
/// at every moment somebody answers there.
int sys_listen_unix_replacing(const char *path);
/// Makes an inherited descriptor close-on-exec and non-blocking. 0, or -ENOTSOCK, -EINVAL (no listening
/// TCP socket) and the like; `text` gets its address.
int sys_adopt_listener(int fd, char *text, size_t room);
/// 1 when `fd` is bound to this address; port 0 stands for any.
int sys_is_bound_to(int fd, const char *host, uint16_t port);
/// Another descriptor of the same socket, close-on-exec, or -errno.
int sys_duplicate(int fd);
/// Accepts one connection: TCP gets TCP_NODELAY and keepalive probes. `text` gets the peer's address,
/// `kind` one of SYS_PEER_*, `uid` the peer's user on a Unix socket.
int sys_accept(int fd, char *text, size_t room, int *kind, uint32_t *uid);
/// Starts a connection; `names` allows a blocking name look-up. 0 or more: the descriptor.
int sys_connect_tcp(const char *host, uint16_t port, int names, int *kind);
int sys_connect_unix(const char *path);
/// 0 when a started connection stands, else -errno.
int sys_connect_result(int fd);

/// Bytes moved, 0 at the end of the stream, or -errno. Never raises SIGPIPE.
ssize_t sys_recv(int fd, void *to, size_t room);
ssize_t sys_send(int fd, const void *from, size_t count);
void sys_quickack(int fd);
/// At most this many descriptors travel with one message.
enum sys_descriptors { SYS_MAXIMUM_DESCRIPTORS = 16 };
/// Bytes and the descriptors that go with them (SCM_RIGHTS, unix(7)), as one message. Bytes sent or -errno.
ssize_t sys_send_descriptors(int fd, const void *from, size_t count, const int *descriptors, int n);
/// Bytes received, with the descriptors that came with them: close-on-exec, theirs who calls. -EMSGSIZE
/// when more came than there is room for.
ssize_t sys_recv_descriptors(int fd, void *to, size_t room, int *descriptors, int *n);
/// 1 when there is something to read or the peer has closed, 0 when the time is over, or -errno.
int sys_wait_readable(int fd, int milliseconds);
void sys_shutdown_write(int fd);
void sys_close(int fd);
int sys_is_again(ssize_t negative);
int sys_is_descriptor_shortage(ssize_t negative);

int sys_process_id(void);

void sys_wake(int eventfd);
void sys_wake_clear(int eventfd);
void sys_ignore_sigpipe(void);
/// Raises the soft limit on open files to the hard one; returns the limit now in force.
uint64_t sys_raise_file_limit(void);
/// Epoll wait in milliseconds; a signal counts as no event.
struct epoll_event;
int sys_epoll_wait(int ep, struct epoll_event *events, int room, int milliseconds);
/// The text of an errno, thread-safe; valid for ever.
const char *sys_error_text(int positive);

/// Starts a detached thread with a name and 1 MiB of stack. 0 or errno.
typedef void *(*sys_thread_main)(void *);
int sys_thread_start(sys_thread_main main, void *argument, const char *name);
/// Small number that differs between living threads.
uint64_t sys_thread_id(void);

/// A mutex and a condition for the few places where a thread waits for a loop.
void *sys_gate_new(void);
void sys_gate_free(void *gate);
void sys_gate_lock(void *gate);
void sys_gate_unlock(void *gate);
void sys_gate_signal(void *gate);
/// Waits until signalled or the monotonic time; 1 when the time has passed. Locked before and after.
int sys_gate_wait(void *gate, int64_t until_ns);
void sys_unlink(const char *path);
