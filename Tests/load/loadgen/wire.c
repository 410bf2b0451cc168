#include "wire.h"

#include <stdlib.h>
#include <string.h>

// MARK: writing

void write_varint(byte_queue *out, uint64_t value) {
  uint8_t bytes[10];
  size_t count = 0;
  while (value > 127) {
    bytes[count++] = (uint8_t)(value | 128);
    value >>= 7;
  }
  bytes[count++] = (uint8_t)value;
  byte_queue_append(out, bytes, count);
}

void write_varint_field(byte_queue *out, int field, uint64_t value) {
  write_varint(out, (uint64_t)field << 3);
  write_varint(out, value);
}

void write_bytes_field(byte_queue *out, int field, const void *bytes, size_t count) {
  write_varint(out, (uint64_t)field << 3 | 2);
  write_varint(out, count);
  byte_queue_append(out, bytes, count);
}

void write_grpc_frame(byte_queue *out, const byte_queue *message) {
  size_t count = byte_queue_count(message);
  uint8_t prefix[GRPC_PREFIX_BYTES] = {
      0, (uint8_t)(count >> 24), (uint8_t)(count >> 16), (uint8_t)(count >> 8), (uint8_t)count};
  byte_queue_append(out, prefix, sizeof prefix);
  byte_queue_append(out, byte_queue_first(message), count);
}

/// Writes an embedded message and empties it.
static void write_message_field(byte_queue *out, int field, byte_queue *message) {
  write_bytes_field(out, field, byte_queue_first(message), byte_queue_count(message));
  byte_queue_free(message);
}

static void write_text_field(byte_queue *out, int field, const char *text) {
  write_bytes_field(out, field, text, strlen(text));
}

// MARK: reading

static bool read_varint(byte_range *rest, uint64_t *value) {
  *value = 0;
  for (int shift = 0; shift < 64 && rest->count > 0; shift += 7) {
    uint8_t byte = *rest->bytes;
    rest->bytes += 1;
    rest->count -= 1;
    *value |= (uint64_t)(byte & 127) << shift;
    if (byte < 128) return true;
  }
  return false;
}

static bool skip(byte_range *rest, size_t count) {
  if (count > rest->count) return false;
  rest->bytes += count;
  rest->count -= count;
  return true;
}

/// Finds the first `field` with the wire type `type` (0 or 2); false at the end or at damage.
static bool find(byte_range rest, int field, unsigned type, byte_range *bytes, uint64_t *value) {
  while (rest.count > 0) {
    uint64_t key = 0;
    uint64_t number = 0;
    if (!read_varint(&rest, &key)) return false;
    bool wanted = (int)(key >> 3) == field && (key & 7) == type;
    switch (key & 7) {
      case 0:
        if (!read_varint(&rest, &number)) return false;
        if (wanted) {
          *value = number;
          return true;
        }
        break;
      case 1:
        if (!skip(&rest, 8)) return false;
        break;
      case 2:
        if (!read_varint(&rest, &number)) return false;
        if (wanted && number <= rest.count) {
          *bytes = (byte_range){rest.bytes, (size_t)number};
          return true;
        }
        if (!skip(&rest, (size_t)number)) return false;
        break;
      case 5:
        if (!skip(&rest, 4)) return false;
        break;
      default:
        return false;
    }
  }
  return false;
}

byte_range find_bytes(byte_range message, int field) {
  byte_range found = {NULL, 0};
  uint64_t unused;
  if (message.bytes != NULL) find(message, field, 2, &found, &unused);
  return found;
}

uint64_t find_varint(byte_range message, int field) {
  byte_range unused;
  uint64_t value = 0;
  if (message.bytes != NULL) find(message, field, 0, &unused, &value);
  return value;
}

byte_range delivered_payload(byte_range message) {
  byte_range publish = find_bytes(message, 3);
  byte_range content = find_bytes(publish, 3);
  byte_range application = find_bytes(content, 1);
  return find_bytes(application, 2);
}

// MARK: SLIM messages

/// Who a slim-a destination means: everybody who subscribed to the channel.
#define SLIM_EVERYBODY UINT64_MAX
/// The largest fan-out a slim-a publish asks for.
#define SLIM_FANOUT 1000000

void channel_name(char *text, size_t capacity, const options *o, uint32_t run, int index) {
  snprintf(text, capacity, "%s/bench-%08x/ch%d", o->org, run, index);
}

static byte_queue text_name(const options *o, uint32_t run, int channel) {
  char part[64];
  byte_queue text = {0};
  write_text_field(&text, 1, o->org);
  snprintf(part, sizeof part, "bench-%08x", run);
  write_text_field(&text, 2, part);
  snprintf(part, sizeof part, "ch%d", channel);
  write_text_field(&text, 3, part);
  return text;
}

static byte_queue name(const options *o, uint32_t run, int channel, uint64_t agent) {
  byte_queue message = {0};
  if (o->wire == wire_slim_a) {
    byte_queue encoded = {0};
    write_varint_field(&encoded, 1, 0x1111);
    write_varint_field(&encoded, 2, run);
    write_varint_field(&encoded, 3, 1000 + (uint64_t)channel);
    write_varint_field(&encoded, 4, agent);
    write_message_field(&message, 1, &encoded);
  }
  byte_queue text = text_name(o, run, channel);
  write_message_field(&message, 2, &text);
  return message;
}

static byte_queue header(
    const options *o, uint32_t run, int channel, uint64_t source, uint64_t destination) {
  byte_queue message = {0};
  if (o->wire == wire_slim_a) {
    byte_queue from = name(o, run, channel, source);
    write_message_field(&message, 1, &from);
  }
  byte_queue to = name(o, run, channel, destination);
  write_message_field(&message, 2, &to);
  if (o->wire == wire_slim_a && destination == SLIM_EVERYBODY) {
    write_varint_field(&message, 3, SLIM_FANOUT);
  }
  return message;
}

static byte_queue frame_of(byte_queue *message) {
  byte_queue frame = {0};
  write_grpc_frame(&frame, message);
  byte_queue_free(message);
  return frame;
}

byte_queue subscribe_frame(const options *o, uint32_t run, int channel, int agent) {
  uint64_t id = (uint64_t)agent + 1;
  byte_queue subscribe = {0};
  byte_queue head = header(o, run, channel, id, id);
  write_message_field(&subscribe, 1, &head);
  byte_queue message = {0};
  write_message_field(&message, 1, &subscribe);
  return frame_of(&message);
}

byte_queue publish_frame(const options *o, uint32_t run, int channel) {
  byte_queue publish = {0};
  byte_queue head = header(o, run, channel, 999999, SLIM_EVERYBODY);
  write_message_field(&publish, 1, &head);

  byte_queue session = {0};
  write_varint_field(&session, 1, 2);  // multicast
  write_varint_field(&session, 2, 1);  // MSG
  if (o->wire == wire_slim_a) {
    write_varint_field(&session, 3, 7);
    write_varint_field(&session, 4, 1);
  }
  write_message_field(&publish, 2, &session);

  uint8_t *payload = calloc(1, o->size);
  if (payload == NULL) die("out of memory");
  byte_queue application = {0};
  if (o->wire == wire_slim_a) write_text_field(&application, 1, "msg");
  write_bytes_field(&application, 2, payload, o->size);
  free(payload);
  byte_queue content = {0};
  write_message_field(&content, 1, &application);
  write_message_field(&publish, 3, &content);

  byte_queue message = {0};
  write_message_field(&message, 3, &publish);
  return frame_of(&message);
}
