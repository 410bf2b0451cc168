// limitlog: the least an acknowledged, durable publish can cost. One thread: what has arrived in a turn is written
// together, synced once, then acknowledged (group commit).
//
// usage: limitlog PORT none|append:FILE|prealloc:FILE|rocksdb:DIR
//   none      acknowledges without writing: the cost of the transport alone
//   append    a growing file: fdatasync also writes the new size
//   prealloc  a file written once before, then over and over: fdatasync writes data only; the physical limit
//   rocksdb   one synced WriteBatch a turn
//
// Protocol, little-endian: count u32 (of what follows), type u8 (4 put, 5 acknowledged), channel u32, payload.
#include "measure.h"

#include <errno.h>
#include <fcntl.h>
#include <rocksdb/c.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { header_bytes = 9, type_put = 4, type_ack = 5 };
enum { channel_bound = 65536, request_bound = 4 << 20, prealloc_bytes = 256 << 20 };

typedef struct {
  int fd;
  byte_queue incoming;
  byte_queue outgoing;
  int due;            // acknowledgements this turn's commit will release
  bool watches_write;
  bool closed;
} connection;

typedef enum { log_none, log_append, log_prealloc, log_rocksdb } log_kind;

static log_kind kind;
static int file = -1;
static off_t file_end;
static byte_queue batch;                 // append, prealloc: records of this turn
static rocksdb_t *database;
static rocksdb_writeoptions_t *synced;
static rocksdb_writebatch_t *write_batch;
static uint64_t next_sequence[channel_bound];

static connection **due;                 // connections with acknowledgements to send
static size_t due_count;
static size_t due_capacity;
static int poller;

// MARK: the log

static void open_prealloc(const char *path) {
  file = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (file < 0) die(path);
  size_t piece = 1 << 20;
  uint8_t *zeros = calloc(1, piece);
  for (int i = 0; i < prealloc_bytes / (int)piece; i++) {
    if (write(file, zeros, piece) != (ssize_t)piece) die("write");
  }
  free(zeros);
  if (fsync(file) != 0) die("fsync");
}

static void open_rocksdb(const char *path) {
  char *error = NULL;
  rocksdb_options_t *settings = rocksdb_options_create();
  rocksdb_options_set_create_if_missing(settings, 1);
  rocksdb_options_set_write_buffer_size(settings, 64 << 20);
  rocksdb_options_set_max_background_jobs(settings, 2);
  database = rocksdb_open(settings, path, &error);
  if (error != NULL) {
    fprintf(stderr, "limitlog: %s\n", error);
    exit(2);
  }
  synced = rocksdb_writeoptions_create();
  rocksdb_writeoptions_set_sync(synced, 1);
  write_batch = rocksdb_writebatch_create();
}

static void open_log(const char *text) {
  const char *path = strchr(text, ':');
  path = path == NULL ? "" : path + 1;
  if (strcmp(text, "none") == 0) {
    kind = log_none;
  } else if (strncmp(text, "append:", 7) == 0) {
    kind = log_append;
    file = open(path, O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0600);
    if (file < 0) die(path);
  } else if (strncmp(text, "prealloc:", 9) == 0) {
    kind = log_prealloc;
    open_prealloc(path);
  } else if (strncmp(text, "rocksdb:", 8) == 0) {
    kind = log_rocksdb;
    open_rocksdb(path);
  } else {
    fprintf(stderr, "usage: limitlog PORT none|append:FILE|prealloc:FILE|rocksdb:DIR\n");
    exit(1);
  }
}

static void add_record(uint32_t channel, const uint8_t *payload, size_t count) {
  uint64_t sequence = next_sequence[channel % channel_bound]++;
  if (kind == log_rocksdb) {
    uint8_t key[12];
    uint32_t channel_key = __builtin_bswap32(channel);
    uint64_t sequence_key = __builtin_bswap64(sequence);
    memcpy(key, &channel_key, 4);
    memcpy(key + 4, &sequence_key, 8);
    rocksdb_writebatch_put(write_batch, (const char *)key, sizeof key, (const char *)payload, count);
  } else if (kind != log_none) {
    uint32_t head[4] = {(uint32_t)sequence, (uint32_t)(sequence >> 32), channel, (uint32_t)count};
    byte_queue_append(&batch, head, sizeof head);
    byte_queue_append(&batch, payload, count);
  }
}

static void write_file(void) {
  if (kind == log_prealloc && file_end + (off_t)byte_queue_count(&batch) > prealloc_bytes) file_end = 0;
  while (byte_queue_count(&batch) > 0) {
    ssize_t count = pwrite(file, byte_queue_first(&batch), byte_queue_count(&batch), file_end);
    if (count <= 0) die("pwrite");
    byte_queue_consume(&batch, (size_t)count);
    file_end += count;
  }
  if (fdatasync(file) != 0) die("fdatasync");
}

static void write_rocksdb(void) {
  char *error = NULL;
  rocksdb_write(database, synced, write_batch, &error);
  if (error != NULL) {
    fprintf(stderr, "limitlog: %s\n", error);
    exit(2);
  }
  rocksdb_writebatch_clear(write_batch);
}

// MARK: connections

static void flush_connection(connection *c) {
  while (byte_queue_count(&c->outgoing) > 0) {
    size_t waiting = byte_queue_count(&c->outgoing);
    ssize_t sent = send(c->fd, byte_queue_first(&c->outgoing), waiting, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) break;
    byte_queue_consume(&c->outgoing, sent < 0 ? waiting : (size_t)sent);
  }
  bool full = byte_queue_count(&c->outgoing) > 0;
  if (full == c->watches_write) return;
  struct epoll_event event = {.events = EPOLLIN | (full ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
  c->watches_write = full;
}

/// Remembers that `c` gets one more acknowledgement after the commit.
static void owe(connection *c) {
  c->due += 1;
  if (c->due > 1) return;
  if (due_count == due_capacity) {
    due_capacity = due_capacity > 0 ? due_capacity * 2 : 64;
    due = realloc(due, due_capacity * sizeof *due);
    if (due == NULL) die("out of memory");
  }
  due[due_count] = c;
  due_count += 1;
}

static void commit(void) {
  if (due_count == 0) return;
  if (kind == log_rocksdb) {
    write_rocksdb();
  } else if (kind != log_none) {
    write_file();
  }
  static const uint8_t acknowledged[header_bytes] = {5, 0, 0, 0, type_ack};
  for (size_t i = 0; i < due_count; i++) {
    connection *c = due[i];
    while (c->due > 0) {
      if (!c->closed) byte_queue_append(&c->outgoing, acknowledged, sizeof acknowledged);
      c->due -= 1;
    }
    if (!c->closed) flush_connection(c);
  }
  due_count = 0;
}

/// The connection itself is not freed: this turn's commit may still owe it something.
static void close_connection(connection *c) {
  c->closed = true;
  close(c->fd);
  byte_queue_free(&c->incoming);
  byte_queue_free(&c->outgoing);
}

static void receive_requests(connection *c) {
  while (byte_queue_count(&c->incoming) >= header_bytes) {
    const uint8_t *request = byte_queue_first(&c->incoming);
    uint32_t count;
    uint32_t channel;
    memcpy(&count, request, 4);
    memcpy(&channel, request + 5, 4);
    if (count < 5 || count > request_bound || request[4] != type_put) {
      close_connection(c);
      return;
    }
    if (byte_queue_count(&c->incoming) < 4 + (size_t)count) break;
    add_record(channel, request + header_bytes, count - 5);
    owe(c);
    byte_queue_consume(&c->incoming, 4 + (size_t)count);
  }
}

static void read_connection(connection *c) {
  static uint8_t scratch[1 << 18];
  ssize_t count = recv(c->fd, scratch, sizeof scratch, 0);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) {
    close_connection(c);
    return;
  }
  byte_queue_append(&c->incoming, scratch, (size_t)count);
  receive_requests(c);
}

static void accept_connections(int listener) {
  int fd;
  while ((fd = socket_accept(listener)) >= 0) {
    connection *c = calloc(1, sizeof *c);
    if (c == NULL) die("out of memory");
    c->fd = fd;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
  }
}

int main(int count, char **arguments) {
  if (count != 3) {
    fprintf(stderr, "usage: limitlog PORT none|append:FILE|prealloc:FILE|rocksdb:DIR\n");
    return 1;
  }
  int port = atoi(arguments[1]);
  signal(SIGPIPE, SIG_IGN);
  raise_file_limit();
  open_log(arguments[2]);
  int listener = socket_listen(&port);
  if (listener < 0) die("listen");
  poller = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
  printf("READY raw=127.0.0.1:%d\n", port);
  fflush(stdout);
  static struct epoll_event events[1024];
  for (;;) {
    int ready = epoll_wait(poller, events, 1024, -1);
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
    commit();
  }
}
