#include "client.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

// The windows the published SDK grants.
#define STREAM_WINDOW (2 << 20)
#define CONNECTION_WINDOW (5 << 20)
/// Bytes gathered from nghttp2 before the socket is written.
#define SEND_BATCH 65536

network net;

static nghttp2_session_callbacks *callbacks;
static int poller;
static client *first_dirty;
static uint64_t turn_time;

// MARK: trouble

/// Keeps the first trouble's text, made safe for JSON.
static void note_error(const char *text, size_t count) {
  net.errors += 1;
  if (net.last_error[0] != 0) return;
  if (count > sizeof net.last_error - 1) count = sizeof net.last_error - 1;
  for (size_t i = 0; i < count; i++) {
    char c = text[i];
    net.last_error[i] = (c == '"' || c == '\\' || c < 32) ? '\'' : c;
  }
  net.last_error[count] = 0;
}

static void end_connection(client *c, const char *reason) {
  if (c->closed) return;
  c->closed = true;
  net.closed += 1;
  note_error(reason, strlen(reason));
  epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL);
}

// MARK: output

static void mark_dirty(client *c) {
  if (c->dirty) return;
  c->dirty = true;
  c->next_dirty = first_dirty;
  first_dirty = c;
}

static void watch_write(client *c, bool on) {
  if (c->watches_write == on) return;
  struct epoll_event event = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
  c->watches_write = on;
}

/// Moves frames from nghttp2 to the socket until either has no more.
static void flush_client(client *c) {
  while (!c->closed) {
    if (byte_queue_count(&c->socket) < SEND_BATCH) {
      const uint8_t *bytes;
      ssize_t count = nghttp2_session_mem_send(c->session, &bytes);
      if (count > 0) {
        byte_queue_append(&c->socket, bytes, (size_t)count);
        continue;
      }
    }
    if (byte_queue_count(&c->socket) == 0) break;
    ssize_t sent = send(c->fd, byte_queue_first(&c->socket), byte_queue_count(&c->socket), MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EAGAIN) {
        watch_write(c, true);
      } else {
        end_connection(c, strerror(errno));
      }
      return;
    }
    byte_queue_consume(&c->socket, (size_t)sent);
  }
  if (!c->closed) watch_write(c, false);
}

static void flush_dirty(void) {
  while (first_dirty != NULL) {
    client *c = first_dirty;
    first_dirty = c->next_dirty;
    c->dirty = false;
    if (!c->watches_write) flush_client(c);
  }
}

void client_send(client *c, const void *frames, size_t count) {
  byte_queue_append(&c->outgoing, frames, count);
  if (c->deferred) {
    c->deferred = false;
    nghttp2_session_resume_data(c->session, c->stream);
  }
  mark_dirty(c);
}

/// nghttp2 asks for the next bytes of the request body.
static ssize_t provide_body(
    nghttp2_session *session, int32_t stream, uint8_t *into, size_t capacity, uint32_t *flags,
    nghttp2_data_source *source, void *user) {
  client *c = user;
  size_t count = byte_queue_count(&c->outgoing);
  if (count == 0) {
    c->deferred = true;
    return NGHTTP2_ERR_DEFERRED;
  }
  if (count > capacity) count = capacity;
  memcpy(into, byte_queue_first(&c->outgoing), count);
  byte_queue_consume(&c->outgoing, count);
  return (ssize_t)count;
}

// MARK: input

/// Hands over the whole messages at the start of `bytes`; answers how many bytes they took.
static size_t receive_messages(client *c, const uint8_t *bytes, size_t count) {
  size_t taken = 0;
  while (count - taken >= GRPC_PREFIX_BYTES) {
    const uint8_t *prefix = bytes + taken;
    size_t size = (size_t)prefix[1] << 24 | (size_t)prefix[2] << 16 | (size_t)prefix[3] << 8 | prefix[4];
    if (count - taken - GRPC_PREFIX_BYTES < size) break;
    net.receive_message(c, (byte_range){prefix + GRPC_PREFIX_BYTES, size}, turn_time);
    taken += GRPC_PREFIX_BYTES + size;
  }
  return taken;
}

static int receive_data(
    nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *bytes, size_t count,
    void *user) {
  client *c = user;
  if (byte_queue_count(&c->partial) == 0) {
    size_t taken = receive_messages(c, bytes, count);
    if (taken < count) byte_queue_append(&c->partial, bytes + taken, count - taken);
    return 0;
  }
  byte_queue_append(&c->partial, bytes, count);
  size_t taken = receive_messages(c, byte_queue_first(&c->partial), byte_queue_count(&c->partial));
  byte_queue_consume(&c->partial, taken);
  return 0;
}

static bool is_named(const char *name, const uint8_t *bytes, size_t count) {
  return strlen(name) == count && memcmp(name, bytes, count) == 0;
}

static int receive_header(
    nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_count,
    const uint8_t *value, size_t value_count, uint8_t flags, void *user) {
  client *c = user;
  if (is_named(":status", name, name_count)) {
    c->open = true;
    if (!is_named("200", value, value_count)) note_error("HTTP status is not 200", 22);
  } else if (is_named("grpc-status", name, name_count)) {
    char text[40];
    int count = snprintf(text, sizeof text, "grpc-status %.*s", (int)(value_count % 20), value);
    if (!is_named("0", value, value_count)) note_error(text, (size_t)count);
  } else if (is_named("grpc-message", name, name_count) && value_count > 0) {
    // Says more than the status that came before it.
    net.last_error[0] = 0;
    note_error((const char *)value, value_count);
  }
  return 0;
}

static int receive_stream_end(nghttp2_session *session, int32_t stream, uint32_t code, void *user) {
  end_connection(user, "stream ended by the server");
  return 0;
}

static void read_client(client *c) {
  static uint8_t scratch[1 << 18];
  ssize_t count = recv(c->fd, scratch, sizeof scratch, 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) {
    end_connection(c, count == 0 ? "connection closed by the server" : strerror(errno));
    return;
  }
  turn_time = clock_now_ns();
  if (nghttp2_session_mem_recv(c->session, scratch, (size_t)count) < 0) {
    end_connection(c, "HTTP/2 error");
    return;
  }
  mark_dirty(c);
}

// MARK: life

static nghttp2_nv field(const char *name, const char *value) {
  return (nghttp2_nv){
      .name = (uint8_t *)name,
      .value = (uint8_t *)value,
      .namelen = strlen(name),
      .valuelen = strlen(value),
      .flags = NGHTTP2_NV_FLAG_NONE,
  };
}

static void submit_request(client *c, int port, const char *path) {
  char authority[80];
  snprintf(authority, sizeof authority, "%s:%d", net.options->host, port);
  nghttp2_nv fields[8] = {
      field(":method", "POST"),
      field(":scheme", "http"),
      field(":path", path),
      field(":authority", authority),
      field("content-type", "application/grpc"),
      field("te", "trailers"),
      field("user-agent", "posthouse-loadgen"),
  };
  size_t count = 7;
  if (net.options->token != NULL) {
    fields[count] = field("authorization", net.options->token);
    count += 1;
  }
  nghttp2_data_provider body = {.read_callback = provide_body};
  c->stream = nghttp2_submit_request(c->session, NULL, fields, count, &body, NULL);
}

client *client_open(int port, const char *path, void *owner) {
  client *c = calloc(1, sizeof *c);
  if (c == NULL) die("out of memory");
  c->owner = owner;
  c->fd = socket_connect(net.options->host, port);
  if (c->fd < 0) die("connect");
  if (nghttp2_session_client_new(&c->session, callbacks, c) != 0) die("nghttp2_session_client_new");
  nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, STREAM_WINDOW},
      {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
  };
  nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, 2);
  nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
  epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
  submit_request(c, port, path);
  mark_dirty(c);
  return c;
}

void network_start(const options *o, message_handler handler) {
  net = (network){.options = o, .receive_message = handler};
  poller = epoll_create1(EPOLL_CLOEXEC);
  if (poller < 0) die("epoll_create1");
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, receive_data);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, receive_header);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, receive_stream_end);
}

void network_turn(int64_t timeout_ns) {
  static struct epoll_event events[512];
  flush_dirty();
  if (timeout_ns < 0) timeout_ns = 0;
  struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};
  int count = epoll_pwait2(poller, events, 512, &timeout, NULL);
  for (int i = 0; i < count; i++) {
    client *c = events[i].data.ptr;
    if (c->closed) continue;
    if (events[i].events & EPOLLOUT) flush_client(c);
    if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_client(c);
  }
  flush_dirty();
}
