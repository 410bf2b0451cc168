#include "nats.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { frame_data = 0, frame_headers = 1, frame_reset = 3, frame_settings = 4, frame_ping = 6 };
enum { frame_goaway = 7, frame_window = 8 };
enum { flag_ack = 1, flag_end_stream = 1, flag_end_headers = 4 };
enum { setting_push = 2, setting_window = 4, setting_frame_size = 5 };
enum { frame_head = 9, default_window = 65535, stream = 1 };
/// Bytes taken before the server is told; half the window, when that is less.
#define ACKNOWLEDGE_EVERY (256 << 10)

network net;

static int poller;
static connection *first_dirty;

// MARK: trouble

static void note_error(const char *text, size_t count) {
  net.errors += 1;
  if (net.last_error[0] != 0) return;
  if (count > sizeof net.last_error - 1) count = sizeof net.last_error - 1;
  for (size_t i = 0; i < count; i++) {
    char c = text[i];
    net.last_error[i] = (c == '"' || c == '\\' || c < 32 || c > 126) ? '\'' : c;
  }
  net.last_error[count] = 0;
}

void connection_end(connection *c, const char *reason) {
  if (c->closed) return;
  c->closed = true;
  net.closed += 1;
  note_error(reason, strlen(reason));
  epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
  net.receive_end(c);
}

// MARK: output

static void mark_dirty(connection *c) {
  if (c->dirty) return;
  c->dirty = true;
  c->next_dirty = first_dirty;
  first_dirty = c;
}

void connection_write(connection *c, const void *bytes, size_t count) {
  byte_queue_append(&c->socket, bytes, count);
  mark_dirty(c);
}

static void watch_write(connection *c, bool on) {
  if (c->watches_write == on) return;
  struct epoll_event event = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
  c->watches_write = on;
}

static void flush_connection(connection *c) {
  while (!c->closed && byte_queue_count(&c->socket) > 0) {
    ssize_t sent = send(c->fd, byte_queue_first(&c->socket), byte_queue_count(&c->socket), MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno != EAGAIN) {
        connection_end(c, strerror(errno));
      } else {
        watch_write(c, true);
      }
      return;
    }
    byte_queue_consume(&c->socket, (size_t)sent);
  }
  if (c->closed) return;
  watch_write(c, false);
}

static void flush_dirty(void) {
  while (first_dirty != NULL) {
    connection *c = first_dirty;
    first_dirty = c->next_dirty;
    c->dirty = false;
    if (!c->watches_write) flush_connection(c);
  }
}

static void write_frame_head(byte_queue *out, size_t count, int type, int flags, int id) {
  uint8_t head[frame_head] = {
      (uint8_t)(count >> 16), (uint8_t)(count >> 8), (uint8_t)count, (uint8_t)type, (uint8_t)flags,
      0,                      0,                     0,              (uint8_t)id};
  byte_queue_append(out, head, sizeof head);
}

static void write_window_update(connection *c, int id, uint32_t count) {
  uint32_t big_endian = htonl(count);
  write_frame_head(&c->socket, sizeof big_endian, frame_window, 0, id);
  byte_queue_append(&c->socket, &big_endian, sizeof big_endian);
}

bool connection_has_room(const connection *c, size_t count) {
  return c->connection_window >= (int64_t)count && c->stream_window >= (int64_t)count;
}

void write_data_frames(const connection *c, byte_queue *frames, byte_range bytes) {
  while (bytes.count > 0) {
    size_t part = bytes.count < c->frame_size ? bytes.count : c->frame_size;
    write_frame_head(frames, part, frame_data, 0, stream);
    byte_queue_append(frames, bytes.bytes, part);
    bytes = (byte_range){bytes.bytes + part, bytes.count - part};
  }
}

void connection_send(connection *c, byte_range frames, size_t count) {
  byte_queue_append(&c->socket, frames.bytes, frames.count);
  c->connection_window -= (int64_t)count;
  c->stream_window -= (int64_t)count;
  mark_dirty(c);
}

void connection_send_message(connection *c, const byte_queue *message) {
  byte_queue grpc = {0};
  byte_queue frames = {0};
  write_grpc_frame(&grpc, message);
  write_data_frames(c, &frames, byte_queue_range(&grpc));
  connection_send(c, byte_queue_range(&frames), byte_queue_count(&grpc));
  byte_queue_free(&grpc);
  byte_queue_free(&frames);
}

// MARK: input

static uint32_t read_u32(const uint8_t *bytes) {
  uint32_t value;
  memcpy(&value, bytes, sizeof value);
  return ntohl(value);
}

/// Hands over the whole messages at the start of `bytes`; answers how many bytes they took.
static size_t receive_messages(connection *c, byte_range bytes, uint64_t now) {
  size_t taken = 0;
  while (bytes.count - taken >= GRPC_PREFIX_BYTES) {
    const uint8_t *prefix = bytes.bytes + taken;
    size_t size = read_u32(prefix + 1);
    if (bytes.count - taken - GRPC_PREFIX_BYTES < size) break;
    net.receive_message(c, (byte_range){prefix + GRPC_PREFIX_BYTES, size}, now);
    taken += GRPC_PREFIX_BYTES + size;
  }
  return taken;
}

static void receive_data(connection *c, byte_range bytes, uint64_t now) {
  c->unacknowledged += (uint32_t)bytes.count;
  if (c->unacknowledged >= c->acknowledge_every) {
    write_window_update(c, 0, c->unacknowledged);
    write_window_update(c, stream, c->unacknowledged);
    c->unacknowledged = 0;
    mark_dirty(c);
  }
  if (byte_queue_count(&c->partial) == 0) {
    size_t taken = receive_messages(c, bytes, now);
    if (taken < bytes.count) byte_queue_append(&c->partial, bytes.bytes + taken, bytes.count - taken);
    return;
  }
  byte_queue_append(&c->partial, bytes.bytes, bytes.count);
  byte_queue_consume(&c->partial, receive_messages(c, byte_queue_range(&c->partial), now));
}

static void receive_settings(connection *c, byte_range bytes) {
  for (size_t i = 0; i + 6 <= bytes.count; i += 6) {
    uint32_t name = (uint32_t)bytes.bytes[i] << 8 | bytes.bytes[i + 1];
    uint32_t value = read_u32(bytes.bytes + i + 2);
    if (name == setting_window) {
      c->stream_window += (int64_t)value - c->initial_window;
      c->initial_window = value;
    } else if (name == setting_frame_size) {
      c->frame_size = value;
    }
  }
  write_frame_head(&c->socket, 0, frame_settings, flag_ack, 0);
  mark_dirty(c);
}

static void receive_window_update(connection *c, const uint8_t *bytes, bool of_stream) {
  int64_t count = read_u32(bytes) & 0x7fffffff;
  if (of_stream) {
    c->stream_window += count;
  } else {
    c->connection_window += count;
  }
  net.receive_window(c);
}

static void receive_frame(connection *c, const uint8_t *head, byte_range bytes, uint64_t now) {
  int flags = head[4];
  bool of_stream = (read_u32(head + 5) & 0x7fffffff) != 0;
  switch (head[3]) {
    case frame_data: receive_data(c, bytes, now); break;
    case frame_headers:
      c->open = true;
      if (flags & flag_end_stream) connection_end(c, "the server answered with an error status");
      return;
    case frame_settings:
      if (!(flags & flag_ack)) receive_settings(c, bytes);
      break;
    case frame_ping:
      if (flags & flag_ack || bytes.count != 8) break;
      write_frame_head(&c->socket, 8, frame_ping, flag_ack, 0);
      byte_queue_append(&c->socket, bytes.bytes, 8);
      mark_dirty(c);
      break;
    case frame_window:
      if (bytes.count == 4) receive_window_update(c, bytes.bytes, of_stream);
      break;
    case frame_reset: connection_end(c, "the server reset the stream"); break;
    case frame_goaway: connection_end(c, "the server sent GOAWAY"); break;
    default: break;
  }
}

/// Handles the whole frames at the start of `bytes`; answers how many bytes they took.
static size_t receive_frames(connection *c, byte_range bytes, uint64_t now) {
  size_t taken = 0;
  while (bytes.count - taken >= frame_head && !c->closed) {
    const uint8_t *head = bytes.bytes + taken;
    size_t size = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
    if (bytes.count - taken - frame_head < size) break;
    receive_frame(c, head, (byte_range){head + frame_head, size}, now);
    taken += frame_head + size;
  }
  return taken;
}

static void read_connection(connection *c) {
  static uint8_t scratch[1 << 18];
  ssize_t count = recv(c->fd, scratch, sizeof scratch, 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) {
    connection_end(c, count == 0 ? "connection closed by the server" : strerror(errno));
    return;
  }
  // The kernel forgets this option with every acknowledgement.
  int on = 1;
  if (net.options->quick_acks) setsockopt(c->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
  uint64_t now = clock_now_ns();
  byte_range bytes = {scratch, (size_t)count};
  size_t (*receive)(connection *, byte_range, uint64_t) =
      net.options->family == family_nats ? nats_receive : receive_frames;
  if (byte_queue_count(&c->unparsed) == 0) {
    size_t taken = receive(c, bytes, now);
    if (taken < bytes.count) byte_queue_append(&c->unparsed, scratch + taken, bytes.count - taken);
    return;
  }
  byte_queue_append(&c->unparsed, scratch, bytes.count);
  byte_queue_consume(&c->unparsed, receive(c, byte_queue_range(&c->unparsed), now));
}

// MARK: life

/// A header field without indexing and without Huffman coding (RFC 7541 section 6.2.2).
static void write_header_field(byte_queue *out, const char *name, const char *value) {
  size_t name_count = strlen(name);
  size_t count = strlen(value);
  uint8_t head[2] = {0, (uint8_t)name_count};
  byte_queue_append(out, head, sizeof head);
  byte_queue_append(out, name, name_count);
  uint8_t first = count < 127 ? (uint8_t)count : 127;
  byte_queue_append(out, &first, 1);
  if (count >= 127) write_varint(out, count - 127);
  byte_queue_append(out, value, count);
}

static void write_request(connection *c) {
  char authority[80];
  snprintf(authority, sizeof authority, "%s:%d", net.options->host, net.options->port);
  byte_queue fields = {0};
  byte_queue_append(&fields, "\x83\x86", 2);  // :method POST, :scheme http
  write_header_field(&fields, ":path", "/dataplane.proto.v1.DataPlaneService/OpenChannel");
  write_header_field(&fields, ":authority", authority);
  write_header_field(&fields, "te", "trailers");
  write_header_field(&fields, "content-type", "application/grpc");
  write_header_field(&fields, "user-agent", "posthouse-slimbench");
  if (net.options->token != NULL) write_header_field(&fields, "authorization", net.options->token);
  write_frame_head(&c->socket, byte_queue_count(&fields), frame_headers, flag_end_headers, stream);
  byte_queue_append(&c->socket, byte_queue_first(&fields), byte_queue_count(&fields));
  byte_queue_free(&fields);
}

static void write_preface(connection *c, uint32_t window) {
  static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
  byte_queue_append(&c->socket, preface, sizeof preface - 1);
  uint8_t settings[12] = {
      0, setting_push,   0, 0, 0, 0, 0, setting_window, (uint8_t)(window >> 24), (uint8_t)(window >> 16),
      (uint8_t)(window >> 8), (uint8_t)window};
  write_frame_head(&c->socket, sizeof settings, frame_settings, 0, 0);
  byte_queue_append(&c->socket, settings, sizeof settings);
  if (window > default_window) write_window_update(c, 0, window - default_window);
}

connection *connection_open(void *owner, uint32_t window) {
  connection *c = calloc(1, sizeof *c);
  if (c == NULL) die("out of memory");
  c->owner = owner;
  c->connection_window = default_window;
  c->stream_window = default_window;
  c->initial_window = default_window;
  c->frame_size = 16384;
  c->acknowledge_every = window / 2 < ACKNOWLEDGE_EVERY ? window / 2 : ACKNOWLEDGE_EVERY;
  c->fd = socket_connect(net.options->host, net.options->port);
  if (c->fd < 0) die("connect");
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
  epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
  if (net.options->family == family_nats) {
    // It takes what TCP takes.
    c->connection_window = c->stream_window = INT64_MAX / 2;
    nats_write_connect(c);
    return c;
  }
  write_preface(c, window);
  write_request(c);
  mark_dirty(c);
  return c;
}

void connection_stall(connection *c) {
  epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
}

void connection_close_stalled(connection *c) {
  close(c->fd);
  byte_queue_free(&c->socket);
  byte_queue_free(&c->unparsed);
  byte_queue_free(&c->partial);
  free(c);
}

void network_start(const options *o) {
  net.options = o;
  poller = epoll_create1(EPOLL_CLOEXEC);
  if (poller < 0) die("epoll_create1");
}

void network_turn(int64_t timeout_ns) {
  static struct epoll_event events[512];
  flush_dirty();
  if (timeout_ns < 0) timeout_ns = 0;
  struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
  int count = epoll_pwait2(poller, events, 512, &timeout, NULL);
  for (int i = 0; i < count; i++) {
    connection *c = events[i].data.ptr;
    if (c->closed) continue;
    if (events[i].events & EPOLLOUT) flush_connection(c);
    if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_connection(c);
  }
  flush_dirty();
}
