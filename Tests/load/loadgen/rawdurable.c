#include "acks.h"
#include "modes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

// The protocol of limitlog: count u32 (of what follows), type u8, channel u32, payload; little-endian.
enum { header_bytes = 9, type_put = 4, type_ack = 5 };

typedef struct {
  int fd;
  int channel;
  request_ring requests;
  byte_queue socket;
  byte_queue partial;
  bool watches_write;
} publisher;

static const options *settings;
static publisher *publishers;
static uint8_t *request;
static int poller;
static uint64_t errors;
static char last_error[100];

static void flush_publisher(publisher *p) {
  while (byte_queue_count(&p->socket) > 0) {
    ssize_t sent = send(p->fd, byte_queue_first(&p->socket), byte_queue_count(&p->socket), MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) break;
    if (sent < 0) {
      errors += 1;
      snprintf(last_error, sizeof last_error, "send: %s", strerror(errno));
      return;
    }
    byte_queue_consume(&p->socket, (size_t)sent);
  }
  bool full = byte_queue_count(&p->socket) > 0;
  if (full == p->watches_write) return;
  struct epoll_event event = {.events = EPOLLIN | (full ? EPOLLOUT : 0), .data.ptr = p};
  epoll_ctl(poller, EPOLL_CTL_MOD, p->fd, &event);
  p->watches_write = full;
}

static void send_request(publisher *p) {
  uint32_t count = (uint32_t)(5 + settings->size);
  uint32_t channel = (uint32_t)p->channel;
  memcpy(request, &count, 4);
  request[4] = type_put;
  memcpy(request + 5, &channel, 4);
  byte_queue_append(&p->socket, request, header_bytes + settings->size);
  request_ring_sent(&p->requests, settings->depth);
}

static void receive_answers(publisher *p, uint64_t now) {
  while (byte_queue_count(&p->partial) >= header_bytes) {
    if (byte_queue_first(&p->partial)[4] != type_ack) acks.disorder += 1;
    byte_queue_consume(&p->partial, header_bytes);
    if (!request_ring_answered(&p->requests, settings->depth, now, false)) acks.disorder += 1;
    if (!acks.stopping) send_request(p);
  }
}

static void read_publisher(publisher *p) {
  uint8_t bytes[16384];
  ssize_t count = recv(p->fd, bytes, sizeof bytes, 0);
  if (count < 0 && errno == EAGAIN) return;
  if (count <= 0) {
    errors += 1;
    snprintf(last_error, sizeof last_error, "connection closed by the server");
    epoll_ctl(poller, EPOLL_CTL_DEL, p->fd, NULL);
    return;
  }
  byte_queue_append(&p->partial, bytes, (size_t)count);
  receive_answers(p, clock_now_ns());
  flush_publisher(p);
}

static void turn(int64_t timeout_ns) {
  struct epoll_event events[256];
  struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
  int count = epoll_pwait2(poller, events, 256, &timeout, NULL);
  for (int i = 0; i < count; i++) {
    publisher *p = events[i].data.ptr;
    if (events[i].events & EPOLLOUT) flush_publisher(p);
    if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_publisher(p);
  }
}

static uint64_t open_requests(void) {
  uint64_t open = 0;
  for (int i = 0; i < settings->connections; i++) {
    open += publishers[i].requests.sent - publishers[i].requests.answered;
  }
  return open;
}

static bool is_broken(void) { return errors > 0; }

int run_rawdurable(const options *o) {
  settings = o;
  poller = epoll_create1(EPOLL_CLOEXEC);
  request = calloc(1, header_bytes + o->size);
  publishers = calloc((size_t)o->connections, sizeof *publishers);
  if (poller < 0 || request == NULL || publishers == NULL) die("out of memory");
  for (int i = 0; i < o->connections; i++) {
    publisher *p = &publishers[i];
    p->channel = i % o->channels;
    p->requests = request_ring_make(o->depth);
    p->fd = socket_connect(o->host, o->port);
    if (p->fd < 0) die("connect");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = p};
    epoll_ctl(poller, EPOLL_CTL_ADD, p->fd, &event);
  }
  for (int i = 0; i < o->connections; i++) {
    for (int k = 0; k < o->depth; k++) send_request(&publishers[i]);
    flush_publisher(&publishers[i]);
  }
  acks_drive(o, (ack_driver){turn, open_requests, is_broken}, "rawdurable", last_error, &errors);
  return 0;
}
