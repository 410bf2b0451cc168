// Loads a registry (agentanycast.v1.RegistryService) with unary calls: connections x calls in flight, each call's
// latency, one JSON object at the end. One thread.
//
//   registryload register|heartbeat|discover --port P --agents N --skills M [--connections C] [--inflight K]
//                [--seconds S] [--limit L] [--pids A,B]
//
// `register` makes N agents, agent i with skill i mod M; the others go on for S seconds over random agents or skills.
#include <errno.h>
#include <nghttp2/nghttp2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "measure.h"

#define CONNECTIONS_MOST 64
#define INFLIGHT_MOST 256

typedef struct connection connection;

typedef struct {
  connection *owner;
  uint64_t began;
  byte_queue body;
  size_t sent;
  size_t received;
  bool ok;
} call;

struct connection {
  nghttp2_session *session;
  int fd;
  bool watches_write;
  byte_queue out;
  call *free[INFLIGHT_MOST];
  int free_count;
};

static const char *operation = "discover";
static int port, connections = 1, inflight = 1, limit = 1;
static uint64_t agents = 100000, skills = 10000;
static double seconds = 3;
static process_list server;

static connection all[CONNECTIONS_MOST];
static int poller;
static histogram latencies;
static uint64_t begun, done, failed, answer_bytes;
static bool stopping;
static uint64_t dice = 88172645463325252ull;
static char path[96], authority[64];

static uint64_t roll(void) {
  dice ^= dice << 13;
  dice ^= dice >> 7;
  dice ^= dice << 17;
  return dice;
}

/// Ids as long as libp2p's.
static int peer_id(char *into, uint64_t i) {
  return sprintf(into, "12D3KooW%044llu", (unsigned long long)i);
}

static void make_request(byte_queue *out) {
  byte_queue message = {0}, skill = {0};
  char text[128];
  if (strcmp(operation, "register") == 0) {
    uint64_t i = begun;
    write_bytes_field(&message, 1, text, (size_t)peer_id(text, i));
    int n = sprintf(text, "skill-%llu", (unsigned long long)(i % skills));
    write_bytes_field(&skill, 1, text, (size_t)n);
    write_bytes_field(&skill, 2, "Translates texts between two languages", 38);
    write_bytes_field(&message, 2, byte_queue_first(&skill), byte_queue_count(&skill));
    write_bytes_field(&message, 3, "Translator", 10);
    write_bytes_field(&message, 4, "An agent of the benchmark, with a sentence about itself and what it does", 72);
  } else if (strcmp(operation, "heartbeat") == 0) {
    write_bytes_field(&message, 1, text, (size_t)peer_id(text, roll() % agents));
  } else {
    int n = sprintf(text, "skill-%llu", (unsigned long long)(roll() % skills));
    write_bytes_field(&message, 1, text, (size_t)n);
    write_varint_field(&message, 3, (uint64_t)limit);
  }
  write_grpc_frame(out, &message);
  byte_queue_free(&message);
  byte_queue_free(&skill);
}

static ssize_t provide(
    nghttp2_session *session, int32_t stream, uint8_t *into, size_t capacity, uint32_t *flags,
    nghttp2_data_source *source, void *user) {
  call *c = source->ptr;
  size_t left = byte_queue_count(&c->body) - c->sent;
  size_t count = left < capacity ? left : capacity;
  memcpy(into, byte_queue_first(&c->body) + c->sent, count);
  c->sent += count;
  if (count == left) *flags |= NGHTTP2_DATA_FLAG_EOF;
  return (ssize_t)count;
}

#define FIELD(n, v) {(uint8_t *)(n), (uint8_t *)(v), strlen(n), strlen(v), NGHTTP2_NV_FLAG_NONE}

static void begin(connection *c) {
  while (c->free_count > 0 && !stopping) {
    if (strcmp(operation, "register") == 0 && begun >= agents) return;
    call *one = c->free[--c->free_count];
    byte_queue_free(&one->body);
    memset(&one->body, 0, sizeof one->body);
    one->sent = one->received = 0;
    one->ok = false;
    make_request(&one->body);
    begun += 1;
    one->began = clock_now_ns();
    nghttp2_nv fields[] = {
        FIELD(":method", "POST"), FIELD(":scheme", "http"), FIELD(":path", path),
        FIELD(":authority", authority), FIELD("te", "trailers"), FIELD("content-type", "application/grpc")};
    nghttp2_data_provider body = {.source.ptr = one, .read_callback = provide};
    if (nghttp2_submit_request(c->session, NULL, fields, 6, &body, one) < 0) die("no stream left");
  }
}

static int on_header(
    nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t name_count,
    const uint8_t *value, size_t value_count, uint8_t flags, void *user) {
  if (name_count == 11 && memcmp(name, "grpc-status", 11) == 0) {
    call *one = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (one != NULL) one->ok = value_count == 1 && value[0] == '0';
  }
  return 0;
}

static int on_data(
    nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *bytes, size_t count, void *user) {
  call *one = nghttp2_session_get_stream_user_data(session, stream);
  if (one != NULL) one->received += count;
  return 0;
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t code, void *user) {
  connection *c = user;
  call *one = nghttp2_session_get_stream_user_data(session, stream);
  if (one == NULL) return 0;
  histogram_add(&latencies, clock_now_ns() - one->began);
  answer_bytes += one->received;
  if (one->ok) done += 1; else failed += 1;
  c->free[c->free_count++] = one;
  return 0;
}

static void watch(connection *c, bool write) {
  if (c->watches_write == write) return;
  c->watches_write = write;
  struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = c};
  epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event);
}

static void flush_out(connection *c) {
  for (;;) {
    const uint8_t *bytes;
    ssize_t count;
    while (byte_queue_count(&c->out) < 65536 && (count = nghttp2_session_mem_send(c->session, &bytes)) > 0) {
      byte_queue_append(&c->out, bytes, (size_t)count);
    }
    if (byte_queue_count(&c->out) == 0) break;
    ssize_t sent = send(c->fd, byte_queue_first(&c->out), byte_queue_count(&c->out), MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN) return watch(c, true);
    if (sent < 0) die("send");
    byte_queue_consume(&c->out, (size_t)sent);
  }
  watch(c, false);
}

static void receive(connection *c) {
  static uint8_t buffer[256 << 10];
  ssize_t count = recv(c->fd, buffer, sizeof buffer, 0);
  if (count == 0) die("the server closed a connection");
  if (count < 0) {
    if (errno == EAGAIN) return;
    die("recv");
  }
  if (nghttp2_session_mem_recv(c->session, buffer, (size_t)count) < 0) die("HTTP/2");
}

static void open_connections(void) {
  nghttp2_session_callbacks *callbacks;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
  poller = epoll_create1(0);
  for (int i = 0; i < connections; i++) {
    connection *c = &all[i];
    c->fd = socket_connect("127.0.0.1", port);
    if (c->fd < 0) die("connect");
    nghttp2_session_client_new(&c->session, callbacks, c);
    nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 4 << 20}};
    nghttp2_submit_settings(c->session, 0, settings, 1);
    nghttp2_session_set_local_window_size(c->session, 0, 0, 16 << 20);
    for (int k = 0; k < inflight; k++) {
      call *one = calloc(1, sizeof(call));
      one->owner = c;
      c->free[c->free_count++] = one;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event);
  }
}

static bool is_idle(void) {
  for (int i = 0; i < connections; i++) if (all[i].free_count < inflight) return false;
  return true;
}

int main(int count, char **words) {
  if (count > 1) operation = words[1];
  for (int i = 2; i + 1 < count; i += 2) {
    const char *name = words[i], *value = words[i + 1];
    if (!strcmp(name, "--port")) port = atoi(value);
    else if (!strcmp(name, "--agents")) agents = strtoull(value, NULL, 10);
    else if (!strcmp(name, "--skills")) skills = strtoull(value, NULL, 10);
    else if (!strcmp(name, "--connections")) connections = atoi(value);
    else if (!strcmp(name, "--inflight")) inflight = atoi(value);
    else if (!strcmp(name, "--seconds")) seconds = atof(value);
    else if (!strcmp(name, "--limit")) limit = atoi(value);
    else if (!strcmp(name, "--pids")) process_list_parse(&server, value);
    else die(name);
  }
  const char *method = !strcmp(operation, "register")    ? "RegisterSkills"
                       : !strcmp(operation, "heartbeat") ? "Heartbeat"
                                                         : "DiscoverBySkill";
  if (connections < 1 || connections > CONNECTIONS_MOST || inflight < 1 || inflight > INFLIGHT_MOST ||
      agents < 1 || skills < 1) {
    die("an option is out of range");
  }
  sprintf(path, "/agentanycast.v1.RegistryService/%s", method);
  sprintf(authority, "127.0.0.1:%d", port);
  open_connections();
  cpu_account from = cpu_account_read(&server);
  uint64_t start = clock_now_ns(), last = start;
  uint64_t end = start + (uint64_t)(seconds * 1e9);
  bool is_register = !strcmp(operation, "register");
  for (;;) {
    for (int i = 0; i < connections; i++) {
      begin(&all[i]);
      if (!all[i].watches_write) flush_out(&all[i]);
    }
    if (is_idle()) break;
    struct epoll_event events[CONNECTIONS_MOST];
    int ready = epoll_wait(poller, events, CONNECTIONS_MOST, 10000);
    if (ready == 0) die("nothing came for 10 s");
    for (int i = 0; i < ready; i++) {
      connection *c = events[i].data.ptr;
      if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(c);
      if (events[i].events & EPOLLOUT) flush_out(c);
    }
    last = clock_now_ns();
    if (!is_register && last >= end) stopping = true;
  }
  cpu_account to = cpu_account_read(&server);
  double elapsed = (double)(last - start) / 1e9, calls = done > 0 ? (double)done : 1;
  printf(
      "{\"calls\":%llu,\"failed\":%llu,\"per_s\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,"
      "\"answer_bytes\":%llu,\"srv_us_per_call\":%.3f,\"cli_us_per_call\":%.3f",
      (unsigned long long)done, (unsigned long long)failed, (double)done / elapsed,
      histogram_percentile_us(&latencies, 50), histogram_percentile_us(&latencies, 99),
      (double)latencies.largest / 1000, (unsigned long long)answer_bytes,
      (to.server - from.server) * 1e6 / calls, (to.client - from.client) * 1e6 / calls);
  cpu_account_print(stdout, from, to);
  puts("}");
  return failed > 0;
}
