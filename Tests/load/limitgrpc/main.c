// limitgrpc: the least a gRPC relay can do. One thread, epoll, nghttp2; what `bench` calls the C limit.
//
// It speaks enough of SLIM's DataPlaneService/OpenChannel: a Message{subscribe} adds the stream to the channel
// its destination names, a Message{publish} is forwarded unchanged to the channel's streams. No rights, no order
// between loops, no archive, no suffix, no bounds: it is no server, it is a yardstick.
#include "measure.h"

#include <errno.h>
#include <malloc.h>
#include <nghttp2/nghttp2.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define WINDOW (16 << 20)
#define SEND_BATCH 131072
#define TABLE_SIZE (1 << 17)

typedef struct connection connection;
typedef struct stream stream;

struct stream {
  connection *connection;
  int32_t id;
  byte_queue incoming;
  byte_queue outgoing;
  bool deferred;
  bool ended;       // the client half-closed
  uint64_t channel; // the key of the one it subscribed to; 0: none
};

struct connection {
  int fd;
  nghttp2_session *session;
  byte_queue socket;
  bool watches_write;
  bool dirty;
  bool closed;
  connection *next_dirty;
};

/// The streams of one channel; the table is open-addressed and never shrinks.
typedef struct {
  uint64_t key;
  stream **members;
  int count;
  int capacity;
} channel;

static channel table[TABLE_SIZE];
static int poller;
static connection *first_dirty;

// MARK: reading protobuf

typedef struct {
  const uint8_t *bytes;
  size_t count;
} range;

static uint64_t take_varint(range *r) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64 && r->count > 0; shift += 7) {
    uint8_t byte = *r->bytes;
    r->bytes += 1;
    r->count -= 1;
    value |= (uint64_t)(byte & 127) << shift;
    if (byte < 128) break;
  }
  return value;
}

/// The first length-delimited field `field`; nothing at the end or at damage.
static range find_field(range rest, int field) {
  while (rest.count > 0) {
    uint64_t key = take_varint(&rest);
    uint64_t size = 0;
    switch (key & 7) {
      case 0: take_varint(&rest); break;
      case 1: size = 8; break;
      case 2: size = take_varint(&rest); break;
      case 5: size = 4; break;
      default: return (range){NULL, 0};
    }
    if (size > rest.count) break;
    if ((int)(key >> 3) == field && (key & 7) == 2) return (range){rest.bytes, (size_t)size};
    rest.bytes += size;
    rest.count -= size;
  }
  return (range){NULL, 0};
}

/// FNV-1a over the text name of the destination, never 0.
static uint64_t channel_key(range request) {
  range header = find_field(request, 1);
  range destination = find_field(header, 2);
  range text = find_field(destination, 2);
  uint64_t hash = 0xcbf29ce484222325ull;
  for (size_t i = 0; i < text.count; i++) hash = (hash ^ text.bytes[i]) * 0x100000001b3ull;
  return hash | 1;
}

// MARK: channels

static channel *find_channel(uint64_t key) {
  for (size_t i = 0; i < TABLE_SIZE; i++) {
    channel *c = &table[(key + i) % TABLE_SIZE];
    if (c->key == key) return c;
    if (c->key == 0) {
      c->key = key;
      return c;
    }
  }
  fprintf(stderr, "limitgrpc: too many channels\n");
  exit(1);
}

static void join_channel(stream *s, uint64_t key) {
  if (s->channel != 0) return;
  channel *c = find_channel(key);
  if (c->count == c->capacity) {
    c->capacity = c->capacity > 0 ? c->capacity * 2 : 2;
    c->members = realloc(c->members, (size_t)c->capacity * sizeof *c->members);
    if (c->members == NULL) die("out of memory");
  }
  c->members[c->count] = s;
  c->count += 1;
  s->channel = key;
}

static void leave_channel(stream *s) {
  if (s->channel == 0) return;
  channel *c = find_channel(s->channel);
  for (int i = 0; i < c->count; i++) {
    if (c->members[i] != s) continue;
    c->count -= 1;
    c->members[i] = c->members[c->count];
    break;
  }
  s->channel = 0;
}

// MARK: output

static void mark_dirty(connection *c) {
  if (c->dirty) return;
  c->dirty = true;
  c->next_dirty = first_dirty;
  first_dirty = c;
}

static void resume(stream *s) {
  if (s->deferred) {
    s->deferred = false;
    nghttp2_session_resume_data(s->connection->session, s->id);
  }
  mark_dirty(s->connection);
}

static void watch_write(connection *c, bool on) {
  if (c->watches_write == on) return;
  struct epoll_event event = {.events = EPOLLIN | (on ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
  c->watches_write = on;
}

static void flush_connection(connection *c) {
  for (;;) {
    if (byte_queue_count(&c->socket) < SEND_BATCH) {
      const uint8_t *bytes;
      ssize_t count = nghttp2_session_mem_send(c->session, &bytes);
      if (count > 0) {
        byte_queue_append(&c->socket, bytes, (size_t)count);
        continue;
      }
    }
    size_t waiting = byte_queue_count(&c->socket);
    if (waiting == 0) break;
    ssize_t sent = send(c->fd, byte_queue_first(&c->socket), waiting, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) {
      watch_write(c, true);
      return;
    }
    // A broken connection is noticed where it is read.
    byte_queue_consume(&c->socket, sent < 0 ? waiting : (size_t)sent);
  }
  byte_queue_free(&c->socket);
  watch_write(c, false);
}

static ssize_t provide_body(
    nghttp2_session *session, int32_t id, uint8_t *into, size_t capacity, uint32_t *flags,
    nghttp2_data_source *source, void *user) {
  stream *s = source->ptr;
  size_t count = byte_queue_count(&s->outgoing);
  if (count == 0 && s->ended) {
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    nghttp2_nv status = {(uint8_t *)"grpc-status", (uint8_t *)"0", 11, 1, NGHTTP2_NV_FLAG_NONE};
    nghttp2_submit_trailer(session, id, &status, 1);
    return 0;
  }
  if (count == 0) {
    s->deferred = true;
    byte_queue_free(&s->outgoing);
    return NGHTTP2_ERR_DEFERRED;
  }
  if (count > capacity) count = capacity;
  memcpy(into, byte_queue_first(&s->outgoing), count);
  byte_queue_consume(&s->outgoing, count);
  return (ssize_t)count;
}

// MARK: input

/// `frame` is a whole gRPC frame, prefix included.
static void receive_frame(stream *s, range frame) {
  range message = {frame.bytes + 5, frame.count - 5};
  range publish = find_field(message, 3);
  if (publish.bytes != NULL) {
    channel *c = find_channel(channel_key(publish));
    for (int i = 0; i < c->count; i++) {
      byte_queue_append(&c->members[i]->outgoing, frame.bytes, frame.count);
      resume(c->members[i]);
    }
    return;
  }
  range subscribe = find_field(message, 1);
  if (subscribe.bytes != NULL) join_channel(s, channel_key(subscribe));
}

static int receive_data(
    nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *bytes, size_t count, void *user) {
  stream *s = nghttp2_session_get_stream_user_data(session, id);
  if (s == NULL) return 0;
  byte_queue_append(&s->incoming, bytes, count);
  while (byte_queue_count(&s->incoming) >= 5) {
    const uint8_t *prefix = byte_queue_first(&s->incoming);
    size_t size = (size_t)prefix[1] << 24 | (size_t)prefix[2] << 16 | (size_t)prefix[3] << 8 | prefix[4];
    if (byte_queue_count(&s->incoming) < 5 + size) break;
    receive_frame(s, (range){prefix, 5 + size});
    byte_queue_consume(&s->incoming, 5 + size);
  }
  if (byte_queue_count(&s->incoming) == 0) byte_queue_free(&s->incoming);
  return 0;
}

static int receive_stream_start(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
  if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
  stream *s = calloc(1, sizeof *s);
  if (s == NULL) die("out of memory");
  s->connection = user;
  s->id = frame->hd.stream_id;
  nghttp2_session_set_stream_user_data(session, s->id, s);
  return 0;
}

/// Response headers go out at once: the published clients wait for them.
static void answer_headers(stream *s) {
  nghttp2_nv fields[] = {
      {(uint8_t *)":status", (uint8_t *)"200", 7, 3, NGHTTP2_NV_FLAG_NONE},
      {(uint8_t *)"content-type", (uint8_t *)"application/grpc", 12, 16, NGHTTP2_NV_FLAG_NONE},
  };
  nghttp2_data_provider body = {.source.ptr = s, .read_callback = provide_body};
  nghttp2_submit_response(s->connection->session, s->id, fields, 2, &body);
  mark_dirty(s->connection);
}

static int receive_whole_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user) {
  if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return 0;
  stream *s = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
  if (s == NULL) return 0;
  if (frame->hd.type == NGHTTP2_HEADERS) answer_headers(s);
  if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) {
    s->ended = true;
    resume(s);
  }
  return 0;
}

static void free_stream(stream *s) {
  leave_channel(s);
  byte_queue_free(&s->incoming);
  byte_queue_free(&s->outgoing);
  free(s);
}

static int receive_stream_end(nghttp2_session *session, int32_t id, uint32_t code, void *user) {
  stream *s = nghttp2_session_get_stream_user_data(session, id);
  if (s != NULL) free_stream(s);
  nghttp2_session_set_stream_user_data(session, id, NULL);
  return 0;
}

// MARK: connections

static nghttp2_session_callbacks *callbacks;

/// Clients of the yardstick open one stream a connection with id 1.
static void close_connection(connection *c) {
  c->closed = true;
  stream *s = nghttp2_session_get_stream_user_data(c->session, 1);
  if (s != NULL) free_stream(s);
  nghttp2_session_del(c->session);
  byte_queue_free(&c->socket);
  close(c->fd);
}

static void accept_connections(int listener) {
  int fd;
  while ((fd = socket_accept(listener)) >= 0) {
    connection *c = calloc(1, sizeof *c);
    if (c == NULL) die("out of memory");
    c->fd = fd;
    nghttp2_session_server_new(&c->session, callbacks, c);
    nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW},
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1},
    };
    nghttp2_submit_settings(c->session, NGHTTP2_FLAG_NONE, settings, 2);
    nghttp2_session_set_local_window_size(c->session, NGHTTP2_FLAG_NONE, 0, WINDOW);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    mark_dirty(c);
  }
}

static void read_connection(connection *c) {
  static uint8_t scratch[1 << 18];
  ssize_t count = recv(c->fd, scratch, sizeof scratch, 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0 || nghttp2_session_mem_recv(c->session, scratch, (size_t)count) < 0) {
    close_connection(c);
    return;
  }
  mark_dirty(c);
}

static void flush_dirty(void) {
  while (first_dirty != NULL) {
    connection *c = first_dirty;
    first_dirty = c->next_dirty;
    c->dirty = false;
    if (c->closed) {
      free(c);
    } else if (!c->watches_write) {
      flush_connection(c);
    }
  }
}

int main(int count, char **arguments) {
  int port = count > 1 ? atoi(arguments[1]) : 0;
  signal(SIGPIPE, SIG_IGN);
  raise_file_limit();
  // Buffers come and go with every turn: without this each turn pays for fresh pages of the kernel.
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, receive_stream_start);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, receive_data);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, receive_whole_frame);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, receive_stream_end);
  int listener = socket_listen(&port);
  if (listener < 0) die("listen");
  poller = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
  printf("READY grpc=127.0.0.1:%d\n", port);
  fflush(stdout);
  static struct epoll_event events[512];
  for (;;) {
    int ready = epoll_wait(poller, events, 512, -1);
    for (int i = 0; i < ready; i++) {
      connection *c = events[i].data.ptr;
      if (c == NULL) {
        accept_connections(listener);
        continue;
      }
      if (c->closed) continue;
      if (events[i].events & EPOLLOUT) flush_connection(c);
      if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_connection(c);
    }
    flush_dirty();
  }
}
