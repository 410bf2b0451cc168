// What every load program needs: a clock, a latency histogram, CPU accounts, growing byte buffers, protobuf
// fields, and sockets. Linux only. All programs here have one thread.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

// MARK: clock

/// Nanoseconds of the monotonic clock.
uint64_t clock_now_ns(void);

// MARK: histogram

// Log-linear: 128 steps per doubling, so a value read back is off by less than 0.8 %.
#define HISTOGRAM_STEPS 128
#define HISTOGRAM_OCTAVES 44

/// Latencies in nanoseconds.
typedef struct {
  uint64_t counts[HISTOGRAM_OCTAVES * HISTOGRAM_STEPS];
  uint64_t total;
  uint64_t largest;
} histogram;

void histogram_add(histogram *h, uint64_t nanoseconds);
/// The value below which `percent` of the entries lie, in microseconds; -1 when empty.
double histogram_percentile_us(const histogram *h, double percent);

// MARK: CPU accounts

/// The processes whose CPU time is charged to the server.
typedef struct {
  int ids[64];
  int count;
} process_list;

/// Reads "12,34"; ids beyond the 64th are ignored.
void process_list_parse(process_list *list, const char *text);

/// CPU seconds used up to an instant, by whom.
typedef struct {
  double at;       // seconds of the monotonic clock
  double server;   // user + system time of the listed processes
  double client;   // user + system time of this process
  double busy;     // whole machine
  double stolen;   // taken by the hypervisor
  double waiting;  // idle with I/O outstanding
} cpu_account;

cpu_account cpu_account_read(const process_list *server);
/// Prints the members `secs` to `iowait_cores` of the result object, with a leading comma.
void cpu_account_print(FILE *out, cpu_account from, cpu_account to);

// MARK: bytes

/// A queue of bytes: appended at the end, consumed at the start.
typedef struct {
  uint8_t *bytes;
  size_t start;
  size_t end;
  size_t capacity;
} byte_queue;

static inline size_t byte_queue_count(const byte_queue *q) { return q->end - q->start; }
static inline const uint8_t *byte_queue_first(const byte_queue *q) { return q->bytes + q->start; }
void byte_queue_append(byte_queue *q, const void *bytes, size_t count);
/// Drops `count` bytes at the start.
void byte_queue_consume(byte_queue *q, size_t count);
/// Gives the memory back; for idle connections.
void byte_queue_free(byte_queue *q);

// MARK: messages

#define GRPC_PREFIX_BYTES 5

/// A place in somebody's buffer. `bytes` NULL: not there.
typedef struct {
  const uint8_t *bytes;
  size_t count;
} byte_range;

static inline byte_range byte_queue_range(const byte_queue *q) {
  return (byte_range){byte_queue_first(q), byte_queue_count(q)};
}

void write_varint(byte_queue *out, uint64_t value);
void write_varint_field(byte_queue *out, int field, uint64_t value);
void write_bytes_field(byte_queue *out, int field, const void *bytes, size_t count);
/// Puts the 5-byte gRPC prefix and the message behind what `out` holds.
void write_grpc_frame(byte_queue *out, const byte_queue *message);

/// One field of a protobuf message: `value` of a varint (type 0), `bytes` of anything else.
typedef struct {
  int number;
  unsigned type;
  uint64_t value;
  byte_range bytes;
} message_field;

/// Takes the next field off `rest`; false at the end or at damage.
bool next_field(byte_range *rest, message_field *field);
/// The first length-delimited field `field`.
byte_range find_bytes(byte_range message, int field);
/// The first varint field `field`, or 0.
uint64_t find_varint(byte_range message, int field);
/// The number that stands for a part of a SLIM name: XXH64, seed 0, of the text and a byte 0xff.
uint64_t slim_component(const char *text);

// MARK: sockets

/// A connected, non-blocking socket without Nagle, or -1 (errno is set). Waits up to a second for a listener.
int socket_connect(const char *host, int port);
/// A non-blocking listener on 127.0.0.1; `*port` 0 takes a free one and is set to it. -1: errno is set.
int socket_listen(int *port);
/// Accepts one connection as `socket_connect` would make it, or -1.
int socket_accept(int listener);
/// Raises the limit of open files as far as it goes: ten thousand idle connections need it.
void raise_file_limit(void);

// MARK: trouble

/// Prints "program: text: strerror" and exits with 2.
void die(const char *text) __attribute__((noreturn));
