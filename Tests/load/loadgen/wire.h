// The messages the load generator writes and reads, as gRPC frames: only the fields it needs.
#pragma once

#include "options.h"

#define GRPC_PREFIX_BYTES 5

/// A place in somebody's buffer. `bytes` NULL: not there.
typedef struct {
  const uint8_t *bytes;
  size_t count;
} byte_range;

void write_varint(byte_queue *out, uint64_t value);
void write_varint_field(byte_queue *out, int field, uint64_t value);
void write_bytes_field(byte_queue *out, int field, const void *bytes, size_t count);
/// Puts the 5-byte gRPC prefix and the message behind what `out` holds.
void write_grpc_frame(byte_queue *out, const byte_queue *message);

/// The first length-delimited field `field`.
byte_range find_bytes(byte_range message, int field);
/// The first varint field `field`, or 0.
uint64_t find_varint(byte_range message, int field);

/// The name of channel `index` of this run: `org/bench-RUN/chINDEX`. `run` differs between runs, so that what
/// an earlier run left in an archive is never replayed into this one.
void channel_name(char *text, size_t capacity, const options *o, uint32_t run, int index);

/// A gRPC frame `Message{subscribe}` for a channel; `agent` tells subscribers apart on the slim-a wire.
byte_queue subscribe_frame(const options *o, uint32_t run, int channel, int agent);

/// A gRPC frame `Message{publish}` with room for `size` payload bytes, which are its last bytes.
byte_queue publish_frame(const options *o, uint32_t run, int channel);

/// The payload of a delivered `Message{publish}`, suffix included.
byte_range delivered_payload(byte_range message);
