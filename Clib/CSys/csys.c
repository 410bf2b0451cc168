#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "csys.h"
#include <sys/eventfd.h>
#include <time.h>

int sys_epoll_create(void) { return epoll_create1(EPOLL_CLOEXEC); }

int sys_epoll_ctl(int ep, int op, int fd, uint32_t events, uint64_t data) {
  struct epoll_event e = {.events = events, .data.u64 = data};
  return epoll_ctl(ep, op, fd, &e);
}

int sys_eventfd(void) { return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC); }

static int64_t clock_ns(clockid_t id) {
  struct timespec t;
  clock_gettime(id, &t);
  return (int64_t)t.tv_sec * 1000000000LL + t.tv_nsec;
}

int64_t sys_monotonic_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
int64_t sys_wall_ns(void) { return clock_ns(CLOCK_REALTIME); }

void sys_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }
