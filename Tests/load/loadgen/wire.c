#include "wire.h"

#include <stdlib.h>
#include <string.h>

// MARK: writing

/// Writes an embedded message and empties it.
static void write_message_field(byte_queue *out, int field, byte_queue *message) {
  write_bytes_field(out, field, byte_queue_first(message), byte_queue_count(message));
  byte_queue_free(message);
}

static void write_text_field(byte_queue *out, int field, const char *text) {
  write_bytes_field(out, field, text, strlen(text));
}

// MARK: reading

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
    char part[64];
    byte_queue encoded = {0};
    write_varint_field(&encoded, 1, slim_component(o->org));
    snprintf(part, sizeof part, "bench-%08x", run);
    write_varint_field(&encoded, 2, slim_component(part));
    snprintf(part, sizeof part, "ch%d", channel);
    write_varint_field(&encoded, 3, slim_component(part));
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
