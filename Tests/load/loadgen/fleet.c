#include "fleet.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// Payload: "load", kind u32, time u64, sequence u64, then zeros. It begins with letters so that it can never be
// taken for an MLS message, which begins with 0001.
enum { kind_probe = 1, kind_message = 2 };
enum { kind_at = 4, time_at = 8, sequence_at = 16, header_bytes = 24, suffix_bytes = 8 };

static const char data_plane[] = "/dataplane.proto.v1.DataPlaneService/OpenChannel";
static const uint64_t second = 1000000000;

fleet load;

// MARK: receiving

static uint64_t read_big_endian(const uint8_t *bytes) {
  uint64_t value;
  memcpy(&value, bytes, sizeof value);
  return __builtin_bswap64(value);
}

static void check_suffix(subscriber *s, byte_range payload) {
  uint64_t sequence = read_big_endian(payload.bytes + payload.count - suffix_bytes);
  if (s->last_suffix != 0 && sequence != s->last_suffix + 1) load.suffix_gaps += 1;
  s->last_suffix = sequence;
}

static void receive_delivery(subscriber *s, byte_range payload, uint64_t now) {
  uint64_t sent_at;
  uint64_t sequence;
  memcpy(&sent_at, payload.bytes + time_at, sizeof sent_at);
  memcpy(&sequence, payload.bytes + sequence_at, sizeof sequence);
  if (sequence < s->expected) {
    load.duplicates += 1;
    return;
  }
  load.gaps += sequence - s->expected;
  s->expected = sequence + 1;
  channel *c = &load.channels[s->channel];
  c->received += 1;
  if (load.measuring) {
    load.deliveries += 1;
    histogram_add(&load.latency, now - sent_at);
  }
  if (!c->refill) {
    c->refill = true;
    load.refills[load.refill_count] = s->channel;
    load.refill_count += 1;
  }
}

static void receive_message(client *from, byte_range message, uint64_t now) {
  subscriber *s = from->owner;
  byte_range payload = delivered_payload(message);
  if (s == NULL || payload.count < header_bytes || memcmp(payload.bytes, "load", 4) != 0) return;
  if (payload.count == net.options->size + suffix_bytes) check_suffix(s, payload);
  uint32_t kind;
  memcpy(&kind, payload.bytes + kind_at, sizeof kind);
  if (kind == kind_message) {
    receive_delivery(s, payload, now);
  } else if (!s->probed) {
    s->probed = true;
    load.probed += 1;
  }
}

// MARK: sending

static void send_payload(channel *c, uint32_t kind, uint64_t time, uint64_t sequence) {
  uint8_t *payload = c->frame.bytes + c->frame.end - net.options->size;
  memcpy(payload, "load", 4);
  memcpy(payload + kind_at, &kind, sizeof kind);
  memcpy(payload + time_at, &time, sizeof time);
  memcpy(payload + sequence_at, &sequence, sizeof sequence);
  client_send(c->publisher, byte_queue_first(&c->frame), byte_queue_count(&c->frame));
}

void fleet_publish(int index, uint64_t now) {
  channel *c = &load.channels[index];
  send_payload(c, kind_message, now, c->sent);
  c->sent += 1;
}

// MARK: life

static void *allocate(size_t count, size_t size) {
  void *memory = calloc(count, size);
  if (memory == NULL) die("out of memory");
  return memory;
}

/// Lets connections settle in bunches, so that a listener's backlog is never overrun.
static void wait_until_open(int first, int end) {
  uint64_t deadline = clock_now_ns() + 30 * second;
  for (int i = first; i < end; i++) {
    while (!load.subscribers[i].client->open && !load.subscribers[i].client->closed) {
      network_turn(10000000);
      if (clock_now_ns() > deadline) {
        fprintf(stderr, "loadgen: streams are not answered; %s\n", net.last_error);
        exit(4);
      }
    }
  }
}

static void open_subscribers(const options *o, uint32_t run) {
  for (int i = 0; i < load.subscriber_count; i++) {
    subscriber *s = &load.subscribers[i];
    s->channel = i % load.channel_count;
    load.channels[s->channel].subscribers += 1;
    s->client = client_open(o->port, data_plane, s);
    byte_queue frame = subscribe_frame(o, run, s->channel, i);
    client_send(s->client, byte_queue_first(&frame), byte_queue_count(&frame));
    byte_queue_free(&frame);
    if (i % 128 == 127) wait_until_open(i - 127, i + 1);
  }
  wait_until_open(load.subscriber_count - load.subscriber_count % 128, load.subscriber_count);
}

void fleet_open(const options *o, int channels, int subscribers, bool shared_publisher) {
  uint32_t run = o->run != 0 ? o->run : (uint32_t)getpid() * 2654435761u ^ (uint32_t)time(NULL);
  network_start(o, receive_message);
  load.channel_count = channels;
  load.subscriber_count = channels * subscribers;
  load.channels = allocate((size_t)channels, sizeof(channel));
  load.subscribers = allocate((size_t)load.subscriber_count, sizeof(subscriber));
  load.refills = allocate((size_t)channels, sizeof(int));
  open_subscribers(o, run);
  for (int i = 0; i < channels; i++) {
    channel *c = &load.channels[i];
    c->publisher = shared_publisher && i > 0 ? load.channels[0].publisher : client_open(o->publish_port, data_plane, NULL);
    c->frame = publish_frame(o, run, i);
  }
}

static void send_probes(void) {
  bool *waiting = allocate((size_t)load.channel_count, sizeof(bool));
  for (int i = 0; i < load.subscriber_count; i++) {
    if (!load.subscribers[i].probed) waiting[load.subscribers[i].channel] = true;
  }
  for (int i = 0; i < load.channel_count; i++) {
    if (waiting[i]) send_payload(&load.channels[i], kind_probe, 0, 0);
  }
  free(waiting);
}

void fleet_wait_until_subscribed(void) {
  uint64_t deadline = clock_now_ns() + 60 * second;
  uint64_t next_probe = 0;
  while (load.probed < load.subscriber_count) {
    uint64_t now = clock_now_ns();
    if (now > deadline || net.closed > 0) {
      fprintf(
          stderr, "loadgen: only %d of %d subscribers get messages; %s\n", load.probed,
          load.subscriber_count, net.last_error);
      exit(4);
    }
    if (now >= next_probe) {
      send_probes();
      next_probe = now + second / 10;
    }
    network_turn(10000000);
  }
}

uint64_t fleet_outstanding(void) {
  uint64_t missing = 0;
  for (int i = 0; i < load.channel_count; i++) {
    const channel *c = &load.channels[i];
    missing += c->sent * (uint64_t)c->subscribers - c->received;
  }
  return missing;
}

void fleet_drain(void) {
  uint64_t missing = fleet_outstanding();
  uint64_t deadline = clock_now_ns() + 5 * second;
  while (missing > 0 && clock_now_ns() < deadline) {
    network_turn(5000000);
    uint64_t now_missing = fleet_outstanding();
    if (now_missing < missing) deadline = clock_now_ns() + 5 * second;
    missing = now_missing;
  }
}
