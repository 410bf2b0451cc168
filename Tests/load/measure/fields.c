#include "measure.h"

#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

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

bool next_field(byte_range *rest, message_field *field) {
  uint64_t key;
  uint64_t count = 0;
  if (rest->count == 0 || !read_varint(rest, &key)) return false;
  *field = (message_field){.number = (int)(key >> 3), .type = key & 7};
  switch (field->type) {
    case 0: return read_varint(rest, &field->value);
    case 1: count = 8; break;
    case 2:
      if (!read_varint(rest, &count)) return false;
      break;
    case 5: count = 4; break;
    default: return false;
  }
  if (count > rest->count) return false;
  field->bytes = (byte_range){rest->bytes, (size_t)count};
  rest->bytes += count;
  rest->count -= count;
  return true;
}

byte_range find_bytes(byte_range message, int field) {
  message_field found;
  while (message.bytes != NULL && next_field(&message, &found)) {
    if (found.number == field && found.type == 2) return found.bytes;
  }
  return (byte_range){NULL, 0};
}

uint64_t find_varint(byte_range message, int field) {
  message_field found;
  while (message.bytes != NULL && next_field(&message, &found)) {
    if (found.number == field && found.type == 0) return found.value;
  }
  return 0;
}

uint64_t slim_component(const char *text) {
  uint8_t bytes[256];
  size_t count = strnlen(text, sizeof bytes - 1);
  memcpy(bytes, text, count);
  bytes[count] = 0xff;
  return XXH64(bytes, count + 1, 0);
}
