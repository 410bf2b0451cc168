#define _GNU_SOURCE 1
#ifndef _GNU_SOURCE
#define _GNU_SOURCE 1
#endif
#include "csys_net.h"
#include "csys.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static int fail(int fd) {
  int e = errno;
  if (fd >= 0) close(fd);
  return -e;
}

static int literal(const char *host, uint16_t port, struct sockaddr_storage *to, socklen_t *length) {
  struct sockaddr_in *v4 = (struct sockaddr_in *)to;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)to;
  memset(to, 0, sizeof *to);
  if (strcmp(host, "localhost") == 0) host = "127.0.0.1";
  if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    *length = sizeof *v4;
    return 0;
  }
  if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    *length = sizeof *v6;
    return 0;
  }
  return -EINVAL;
}

static int is_loopback(const struct sockaddr_storage *a) {
  if (a->ss_family == AF_INET)
    return (ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24) == 127;
  if (a->ss_family == AF_INET6) {
    const struct in6_addr *v6 = &((const struct sockaddr_in6 *)a)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127);
  }
  return 0;
}

int sys_listen_tcp(const char *host, uint16_t port, uint16_t *bound) {
  struct sockaddr_storage a;
  socklen_t length;
  int one = 1, bad = literal(host, port, &a, &length);
  if (bad) return bad;
  int fd = socket(a.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(-1);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (a.ss_family == AF_INET6) {
    int only = !IN6_IS_ADDR_UNSPECIFIED(&((struct sockaddr_in6 *)&a)->sin6_addr);
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
  }
  if (bind(fd, (struct sockaddr *)&a, length) || listen(fd, 4096)) return fail(fd);
  length = sizeof a;
  if (getsockname(fd, (struct sockaddr *)&a, &length)) return fail(fd);
  *bound = ntohs(a.ss_family == AF_INET ? ((struct sockaddr_in *)&a)->sin_port
                                        : ((struct sockaddr_in6 *)&a)->sin6_port);
  return fd;
}

static int unix_address(const char *path, struct sockaddr_un *a) {
  memset(a, 0, sizeof *a);
  a->sun_family = AF_UNIX;
  if (strlen(path) >= sizeof a->sun_path) return -ENAMETOOLONG;
  strcpy(a->sun_path, path);
  return 0;
}

int sys_connect_unix(const char *path) {
  struct sockaddr_un a;
  int bad = unix_address(path, &a);
  if (bad) return bad;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(-1);
  if (connect(fd, (struct sockaddr *)&a, sizeof a) && errno != EINPROGRESS) return fail(fd);
  return fd;
}

int sys_listen_unix(const char *path) {
  struct sockaddr_un a;
  struct stat s;
  int bad = unix_address(path, &a);
  if (bad) return bad;
  if (lstat(path, &s) == 0) {
    if (!S_ISSOCK(s.st_mode)) return -EEXIST;
    int there = sys_connect_unix(path);
    // EAGAIN: somebody listens and is busy. Only a refusal proves that nobody is there.
    if (there >= 0) close(there);
    if (there != -ECONNREFUSED) return -EADDRINUSE;
    unlink(path);
  }
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(-1);
  // Nobody can connect between bind and listen, so the mode is right before the first client.
  if (bind(fd, (struct sockaddr *)&a, sizeof a) || chmod(path, 0600) || listen(fd, 1024))
    return fail(fd);
  return fd;
}

int sys_listen_unix_replacing(const char *path) {
  struct sockaddr_un a;
  char beside[sizeof a.sun_path];
  int bad = unix_address(path, &a);
  if (bad) return bad;
  // In the same directory, or rename could not be atomic; short, so that a long path has room for it.
  const char *slash = strrchr(path, '/');
  int folder = slash ? (int)(slash - path) + 1 : 0;
  if (snprintf(beside, sizeof beside, "%.*s.%d", folder, path, (int)getpid()) >= (int)sizeof beside)
    return -ENAMETOOLONG;
  unlink(beside);
  bad = unix_address(beside, &a);
  if (bad) return bad;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(-1);
  if (bind(fd, (struct sockaddr *)&a, sizeof a)) return fail(fd);
  if (chmod(beside, 0600) || listen(fd, 1024) || rename(beside, path)) {
    int e = errno;
    unlink(beside);
    errno = e;
    return fail(fd);
  }
  return fd;
}

int sys_adopt_listener(int fd, char *text, size_t room) {
  struct sockaddr_storage a;
  socklen_t length = sizeof a;
  char host[INET6_ADDRSTRLEN] = "";
  int on = 0, kind = 0;
  socklen_t size = sizeof on;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &size)) return -errno;
  size = sizeof on;
  if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &size)) return -errno;
  if (getsockname(fd, (struct sockaddr *)&a, &length)) return -errno;
  if (kind != SOCK_STREAM || !on) return -EINVAL;
  if (a.ss_family == AF_INET) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)&a;
    inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
    snprintf(text, room, "%s:%u", host, ntohs(v4->sin_port));
  } else if (a.ss_family == AF_INET6) {
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a;
    inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
    snprintf(text, room, "[%s]:%u", host, ntohs(v6->sin6_port));
  } else {
    return -EAFNOSUPPORT;
  }
  int flags = fcntl(fd, F_GETFL);
  if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) || fcntl(fd, F_SETFD, FD_CLOEXEC))
    return -errno;
  return 0;
}

int sys_is_bound_to(int fd, const char *host, uint16_t port) {
  struct sockaddr_storage a, b;
  socklen_t length = sizeof a, other;
  if (literal(host, port, &b, &other) || getsockname(fd, (struct sockaddr *)&a, &length)) return 0;
  if (a.ss_family != b.ss_family) return 0;
  if (a.ss_family == AF_INET) {
    struct sockaddr_in *x = (struct sockaddr_in *)&a, *y = (struct sockaddr_in *)&b;
    return x->sin_addr.s_addr == y->sin_addr.s_addr && (port == 0 || x->sin_port == y->sin_port);
  }
  struct sockaddr_in6 *x = (struct sockaddr_in6 *)&a, *y = (struct sockaddr_in6 *)&b;
  return memcmp(&x->sin6_addr, &y->sin6_addr, sizeof x->sin6_addr) == 0 &&
         (port == 0 || x->sin6_port == y->sin6_port);
}

int sys_duplicate(int fd) {
  int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  return copy < 0 ? -errno : copy;
}

static void tune(int fd) {
  int one = 1, idle = 60, gap = 15, probes = 4;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &gap, sizeof gap);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
}

int sys_accept(int fd, char *text, size_t room, int *kind, uint32_t *uid) {
  struct sockaddr_storage a;
  socklen_t length = sizeof a;
  char host[INET6_ADDRSTRLEN] = "";
  int c;
  do c = accept4(fd, (struct sockaddr *)&a, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
  while (c < 0 && (errno == EINTR || errno == ECONNABORTED));
  if (c < 0) return fail(-1);
  *uid = UINT32_MAX;
  if (a.ss_family == AF_INET || a.ss_family == AF_INET6) {
    tune(c);
    *kind = is_loopback(&a) ? SYS_PEER_LOOPBACK : SYS_PEER_REMOTE;
    if (a.ss_family == AF_INET) {
      struct sockaddr_in *v4 = (struct sockaddr_in *)&a;
      inet_ntop(AF_INET, &v4->sin_addr, host, sizeof host);
      snprintf(text, room, "%s:%u", host, ntohs(v4->sin_port));
    } else {
      struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a;
      inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof host);
      snprintf(text, room, "[%s]:%u", host, ntohs(v6->sin6_port));
    }
  } else {
    struct ucred who;
    socklen_t size = sizeof who;
    *kind = SYS_PEER_UNIX;
    if (getsockopt(c, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0) *uid = who.uid;
    snprintf(text, room, "unix:uid=%u", *uid);
  }
  return c;
}

int sys_connect_tcp(const char *host, uint16_t port, int names, int *kind) {
  struct sockaddr_storage a;
  socklen_t length;
  if (literal(host, port, &a, &length)) {
    if (!names) return -EINVAL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    if (getaddrinfo(host, service, &hints, &found) || !found) return -EHOSTUNREACH;
    memcpy(&a, found->ai_addr, found->ai_addrlen);
    length = found->ai_addrlen;
    freeaddrinfo(found);
  }
  int fd = socket(a.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return fail(-1);
  tune(fd);
  *kind = is_loopback(&a) ? SYS_PEER_LOOPBACK : SYS_PEER_REMOTE;
  if (connect(fd, (struct sockaddr *)&a, length) && errno != EINPROGRESS) return fail(fd);
  return fd;
}

int sys_connect_result(int fd) {
  int e = 0;
  socklen_t length = sizeof e;
  if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &length)) return -errno;
  return -e;
}

ssize_t sys_recv(int fd, void *to, size_t room) {
  ssize_t n;
  do n = recv(fd, to, room, 0);
  while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : n;
}

ssize_t sys_send(int fd, const void *from, size_t count) {
  ssize_t n;
  do n = send(fd, from, count, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : n;
}

union control {
  struct cmsghdr aligned;
  char bytes[CMSG_SPACE(SYS_MAXIMUM_DESCRIPTORS * sizeof(int))];
};

ssize_t sys_send_descriptors(int fd, const void *from, size_t count, const int *descriptors, int n) {
  if (n < 0 || n > SYS_MAXIMUM_DESCRIPTORS) return -EMSGSIZE;
  union control control;
  memset(&control, 0, sizeof control);
  struct iovec part = {(void *)from, count};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (n > 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE((size_t)n * sizeof(int));
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN((size_t)n * sizeof(int));
    memcpy(CMSG_DATA(head), descriptors, (size_t)n * sizeof(int));
  }
  ssize_t sent;
  do sent = sendmsg(fd, &message, MSG_NOSIGNAL);
  while (sent < 0 && errno == EINTR);
  return sent < 0 ? -errno : sent;
}

ssize_t sys_recv_descriptors(int fd, void *to, size_t room, int *descriptors, int *n) {
  union control control;
  struct iovec part = {to, room};
  struct msghdr message = {.msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = control.bytes,
                           .msg_controllen = sizeof control.bytes};
  ssize_t got;
  *n = 0;
  do got = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
  while (got < 0 && errno == EINTR);
  if (got < 0) return -errno;
  for (struct cmsghdr *head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    int count = (int)((head->cmsg_len - CMSG_LEN(0)) / sizeof(int));
    for (int i = 0; i < count && *n < SYS_MAXIMUM_DESCRIPTORS; i++)
      memcpy(&descriptors[(*n)++], CMSG_DATA(head) + (size_t)i * sizeof(int), sizeof(int));
  }
  if (message.msg_flags & MSG_CTRUNC) {
    for (int i = 0; i < *n; i++) close(descriptors[i]);
    *n = 0;
    return -EMSGSIZE;
  }
  return got;
}

int sys_wait_readable(int fd, int milliseconds) {
  struct pollfd one = {.fd = fd, .events = POLLIN};
  int n;
  do n = poll(&one, 1, milliseconds);
  while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : n;
}

void sys_quickack(int fd) {
  int one = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
}

void sys_shutdown_write(int fd) { shutdown(fd, SHUT_WR); }
void sys_close(int fd) { close(fd); }
int sys_is_again(ssize_t negative) { return negative == -EAGAIN || negative == -EWOULDBLOCK; }
int sys_is_descriptor_shortage(ssize_t e) {
  return e == -EMFILE || e == -ENFILE || e == -ENOBUFS || e == -ENOMEM;
}

int sys_process_id(void) { return (int)getpid(); }

void sys_wake(int fd) {
  uint64_t one = 1;
  ssize_t n = write(fd, &one, sizeof one);
  (void)n;  // a full counter wakes as well
}
void sys_wake_clear(int fd) {
  uint64_t count;
  ssize_t n = read(fd, &count, sizeof count);
  (void)n;
}
void sys_ignore_sigpipe(void) { signal(SIGPIPE, SIG_IGN); }

uint64_t sys_raise_file_limit(void) {
  struct rlimit r;
  if (getrlimit(RLIMIT_NOFILE, &r)) return 0;
  if (r.rlim_cur < r.rlim_max) {
    struct rlimit up = {r.rlim_max, r.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &up) == 0) r = up;
  }
  return r.rlim_cur;
}

int sys_epoll_wait(int ep, struct epoll_event *events, int room, int milliseconds) {
  int n = epoll_wait(ep, events, room, milliseconds);
  if (n >= 0) return n;
  return errno == EINTR ? 0 : -errno;
}

const char *sys_error_text(int positive) {
  const char *text = strerrordesc_np(positive);
  return text ? text : "unknown error";
}

struct start {
  sys_thread_main main;
  void *argument;
  char name[16];
};
static void *begin(void *raw) {
  struct start s = *(struct start *)raw;
  free(raw);
  // Named from within: a detached thread may be gone when its maker gets round to it.
  pthread_setname_np(pthread_self(), s.name);
  // Signals belong to the thread that waits for them, never to a loop.
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_BLOCK, &all, NULL);
  return s.main(s.argument);
}

int sys_thread_start(sys_thread_main main, void *argument, const char *name) {
  struct start *s = malloc(sizeof *s);
  if (!s) return ENOMEM;
  s->main = main;
  s->argument = argument;
  snprintf(s->name, sizeof s->name, "%s", name);
  pthread_attr_t attr;
  pthread_t thread;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, 1 << 20);
  pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
  int e = pthread_create(&thread, &attr, begin, s);
  pthread_attr_destroy(&attr);
  if (e) {
    free(s);
    return e;
  }
  return 0;
}
uint64_t sys_thread_id(void) { return (uint64_t)pthread_self(); }

struct gate {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
};
void *sys_gate_new(void) {
  struct gate *g = malloc(sizeof *g);
  pthread_condattr_t attr;
  if (!g) abort();
  pthread_mutex_init(&g->mutex, NULL);
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&g->changed, &attr);
  pthread_condattr_destroy(&attr);
  return g;
}
void sys_gate_free(void *gate) {
  struct gate *g = gate;
  pthread_cond_destroy(&g->changed);
  pthread_mutex_destroy(&g->mutex);
  free(g);
}
void sys_gate_lock(void *gate) { pthread_mutex_lock(&((struct gate *)gate)->mutex); }
void sys_gate_unlock(void *gate) { pthread_mutex_unlock(&((struct gate *)gate)->mutex); }
void sys_gate_signal(void *gate) { pthread_cond_broadcast(&((struct gate *)gate)->changed); }
int sys_gate_wait(void *gate, int64_t until_ns) {
  struct gate *g = gate;
  if (until_ns == INT64_MAX) return pthread_cond_wait(&g->changed, &g->mutex) == ETIMEDOUT;
  struct timespec t = {until_ns / 1000000000LL, until_ns % 1000000000LL};
  return pthread_cond_timedwait(&g->changed, &g->mutex, &t) == ETIMEDOUT;
}

void sys_unlink(const char *path) { unlink(path); }
