#include "fleet.h"
#include "nats.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// Payload: "load", kind u32, time u64, sequence u64, then zeros. It begins with letters so that it can never be
// taken for an MLS message, which begins with 0001.
enum { kind_probe = 1, kind_message = 2 };
enum { kind_at = 4, time_at = 8, sequence_at = 16, header_bytes = 24 };
/// What the published applications grant a node unasked.
#define APPLICATION_WINDOW (2 << 20)
/// What a stalled one grants: the least there is, so that the node must hold the rest.
#define STALLED_WINDOW 65535
/// One of this many deliveries has its MAC checked: all would make the client the bottleneck.
#define CHECK_EVERY 4096
/// Connections that are opened at once.
#define BATCH 128

static const uint64_t second = 1000000000;
static uint64_t subscription_base;

fleet load;

// MARK: receiving

static void ask_refill(int index) {
  channel *c = &load.channels[index];
  if (c->refill) return;
  c->refill = true;
  load.refills[load.refill_count] = index;
  load.refill_count += 1;
}

static byte_range payload_of(byte_range message) {
  size_t size = net.options->size;
  // Nothing but a relay's own additions could stand behind the payload.
  if (message.count >= size && memcmp(message.bytes + message.count - size, "load", 4) == 0) {
    return (byte_range){message.bytes + message.count - size, size};
  }
  return find_bytes(find_bytes(find_bytes(find_bytes(message, 3), 3), 1), 2);
}

static void receive_delivery(member *m, byte_range message, uint64_t now) {
  byte_range payload = payload_of(message);
  if (payload.count != net.options->size || memcmp(payload.bytes, "load", 4) != 0) return;
  uint32_t kind;
  uint64_t sent_at;
  uint64_t sequence;
  memcpy(&kind, payload.bytes + kind_at, sizeof kind);
  memcpy(&sent_at, payload.bytes + time_at, sizeof sent_at);
  memcpy(&sequence, payload.bytes + sequence_at, sizeof sequence);
  bool check = kind == kind_probe || m->expected % CHECK_EVERY == 0;
  if (check && m->link.has_key && !slim_mac_is_good(&m->link, message)) load.bad_macs += 1;
  if (kind == kind_probe) {
    load.probed += m->probed ? 0 : 1;
    m->probed = true;
    return;
  }
  if (sequence < m->expected) {
    load.duplicates += 1;
    return;
  }
  load.gaps += sequence - m->expected;
  m->expected = sequence + 1;
  load.channels[m->channel].received += 1;
  if (load.measuring) {
    load.deliveries += 1;
    histogram_add(&load.latency, now > sent_at ? now - sent_at : 0);
  }
  ask_refill(m->channel);
}

static void receive_message(connection *c, byte_range message, uint64_t now) {
  member *m = c->owner;
  if (!m->linked) {
    m->linked = slim_receive_link(&m->link, message);
    return;
  }
  if (m->acks_awaited > 0) {
    bool taken;
    if (slim_acknowledged(message, &taken) != 0) {
      if (!taken) {
        fprintf(stderr, "slimbench: the node refused a subscription\n");
        exit(4);
      }
      m->acks_awaited -= 1;
      return;
    }
  }
  if (!m->publishes && !m->stalls) receive_delivery(m, message, now);
}

static void receive_window(connection *c) {
  member *m = c->owner;
  if (m->publishes) ask_refill(m->channel);
}

static void receive_end(connection *c) {}

// MARK: sending

static void send_payload(channel *c, uint32_t kind, uint64_t time, uint64_t sequence) {
  uint8_t *payload = c->frames.bytes + c->frames.start + c->payload_at;
  memcpy(payload, "load", 4);
  memcpy(payload + kind_at, &kind, sizeof kind);
  memcpy(payload + time_at, &time, sizeof time);
  memcpy(payload + sequence_at, &sequence, sizeof sequence);
  connection_send(c->publisher.connection, byte_queue_range(&c->frames), c->data_count);
}

bool fleet_has_room(int index) {
  const channel *c = &load.channels[index];
  return connection_has_room(c->publisher.connection, c->data_count);
}

void fleet_publish(int index, uint64_t time) {
  channel *c = &load.channels[index];
  send_payload(c, kind_message, time, c->sent);
  c->sent += 1;
}

// MARK: life

static void *allocate(size_t count, size_t size) {
  void *memory = calloc(count, size);
  if (memory == NULL) die("out of memory");
  return memory;
}

static bool is_open(const member *m) { return m->connection->open; }
static bool is_linked(const member *m) { return m->linked; }
static bool is_subscribed(const member *m) { return m->acks_awaited == 0; }

/// Turns until each of `members` is `ready`; a connection that ends or half a minute ends the program.
static void wait_until(bool (*ready)(const member *), member **members, int count, const char *what) {
  uint64_t deadline = clock_now_ns() + 30 * second;
  for (int i = 0; i < count; i++) {
    while (!ready(members[i])) {
      network_turn(10000000);
      if (net.closed > 0 || clock_now_ns() > deadline) {
        fprintf(stderr, "slimbench: %s; %s\n", what, net.last_error);
        exit(4);
      }
    }
  }
}

static slim_name channel_name(const options *o, char *text, size_t capacity, int index) {
  snprintf(text, capacity, "ch%d-%llx", index, (unsigned long long)subscription_base);
  slim_id group = {subscription_base + 1, (uint64_t)index + 1};
  return (slim_name){o->org, "bench", text, o->family == family_a ? SLIM_EVERYBODY : group};
}

static slim_name own_name(const options *o, uint64_t number) {
  return (slim_name){o->org, "bench", "app", {subscription_base, number + 1}};
}

static void subscribe(const options *o, member *m, uint64_t number, slim_name to) {
  static uint64_t last_id;
  last_id += 1;
  byte_queue message = {0};
  slim_write_subscribe(
      &message, o, &m->link, own_name(o, number), to, o->acks ? subscription_base + last_id : 0);
  m->acks_awaited += o->acks ? 1 : 0;
  connection_send_message(m->connection, &message);
  byte_queue_free(&message);
}

/// Opens members side by side, so many that a listener's backlog is not overrun. `numbers[i]`: who it is.
static void open_members(
    const options *o, member **members, const uint64_t *numbers, int count, uint32_t window) {
  for (int i = 0; i < count; i++) members[i]->connection = connection_open(members[i], window);
  wait_until(is_open, members, count, "streams are not answered");
  for (int i = 0; i < count; i++) {
    members[i]->linked = o->family == family_a || o->yardstick;
    if (members[i]->linked) continue;
    byte_queue message = {0};
    slim_write_link(&message, &members[i]->link);
    connection_send_message(members[i]->connection, &message);
    byte_queue_free(&message);
  }
  wait_until(is_linked, members, count, "links are not answered");
  char text[64];
  for (int i = 0; i < count; i++) {
    // The yardstick takes one subscription a stream.
    if (!o->yardstick) subscribe(o, members[i], numbers[i], own_name(o, numbers[i]));
    if (members[i]->publishes) continue;
    if (o->family == family_nats) {
      nats_write_subscribe(members[i]->connection, channel_name(o, text, sizeof text, members[i]->channel).service);
      continue;
    }
    subscribe(o, members[i], numbers[i], channel_name(o, text, sizeof text, members[i]->channel));
  }
  wait_until(is_subscribed, members, count, "subscriptions are not acknowledged");
}

/// `members` of one size, numbered from `first`.
static void open_all(const options *o, member *members, int count, uint64_t first, uint32_t window) {
  member *batch[BATCH];
  uint64_t numbers[BATCH];
  for (int done = 0; done < count;) {
    int size = count - done < BATCH ? count - done : BATCH;
    for (int i = 0; i < size; i++) {
      batch[i] = &members[done + i];
      numbers[i] = first + (uint64_t)(done + i);
    }
    open_members(o, batch, numbers, size, window);
    done += size;
  }
}

member *fleet_open_stalled(const options *o) {
  int count = o->stalled * load.channel_count;
  member *members = allocate((size_t)count, sizeof *members);
  for (int i = 0; i < count; i++) {
    members[i].channel = i % load.channel_count;
    members[i].stalls = true;
  }
  open_all(o, members, count, 30000000, STALLED_WINDOW);
  for (int i = 0; i < count; i++) connection_stall(members[i].connection);
  return members;
}

void fleet_close_stalled(const options *o, member *stalled) {
  if (stalled == NULL) return;
  for (int i = 0; i < o->stalled * load.channel_count; i++) connection_close_stalled(stalled[i].connection);
  free(stalled);
}

static void prepare_frames(const options *o, int index, uint64_t number) {
  channel *c = &load.channels[index];
  char text[64];
  if (o->family == family_nats) {
    c->payload_at = nats_write_publish(&c->frames, channel_name(o, text, sizeof text, index).service, o->size);
    c->data_count = byte_queue_count(&c->frames);
    return;
  }
  byte_queue message = {0};
  byte_queue grpc = {0};
  uint32_t fanout = load.per_channel == 1 && strcmp(o->mode, "stall") != 0 ? 1 : 256;
  slim_write_publish(
      &message, o, &c->publisher.link, own_name(o, number), channel_name(o, text, sizeof text, index),
      fanout);
  write_grpc_frame(&grpc, &message);
  c->data_count = byte_queue_count(&grpc);
  size_t head = c->data_count - o->size;
  // The payload's first bytes are written at every publish: they must not be cut by a frame.
  if (head + header_bytes > c->publisher.connection->frame_size) die("the node's frames are too small");
  write_data_frames(c->publisher.connection, &c->frames, byte_queue_range(&grpc));
  c->payload_at = head + 9;
  byte_queue_free(&message);
  byte_queue_free(&grpc);
}

static void open_publishers(const options *o, bool shared) {
  int count = shared ? 1 : load.channel_count;
  member *batch[BATCH];
  uint64_t numbers[BATCH];
  for (int done = 0; done < count;) {
    int size = count - done < BATCH ? count - done : BATCH;
    for (int i = 0; i < size; i++) {
      batch[i] = &load.channels[done + i].publisher;
      batch[i]->channel = done + i;
      batch[i]->publishes = true;
      numbers[i] = 20000000 + (uint64_t)(done + i);
    }
    open_members(o, batch, numbers, size, APPLICATION_WINDOW);
    done += size;
  }
  for (int i = 0; i < load.channel_count; i++) {
    if (shared) load.channels[i].publisher = load.channels[0].publisher;
    prepare_frames(o, i, 20000000 + (uint64_t)(shared ? 0 : i));
  }
}

/// Publishes until each subscriber has got something: then nothing that follows can be missed.
static void probe(void) {
  uint64_t deadline = clock_now_ns() + 60 * second;
  uint64_t next = 0;
  while (load.probed < load.subscriber_count) {
    uint64_t now = clock_now_ns();
    if (now > deadline || net.closed > 0) {
      fprintf(
          stderr, "slimbench: only %d of %d subscribers get messages; %s\n", load.probed,
          load.subscriber_count, net.last_error);
      exit(4);
    }
    if (now >= next) {
      bool *waiting = allocate((size_t)load.channel_count, sizeof(bool));
      for (int i = 0; i < load.subscriber_count; i++) {
        if (!load.subscribers[i].probed) waiting[load.subscribers[i].channel] = true;
      }
      for (int i = 0; i < load.channel_count; i++) {
        if (waiting[i] && fleet_has_room(i)) send_payload(&load.channels[i], kind_probe, 0, 0);
      }
      free(waiting);
      next = now + second / 5;
    }
    network_turn(10000000);
  }
}

void fleet_open(const options *o, int channels, int per_channel, bool shared_publisher) {
  net.receive_message = receive_message;
  net.receive_window = receive_window;
  net.receive_end = receive_end;
  network_start(o);
  // Subscription ids of two runs must differ: there are nodes that key them globally.
  subscription_base = ((uint64_t)getpid() * 2654435761u ^ (uint64_t)time(NULL)) << 26;
  load.channel_count = channels;
  load.per_channel = per_channel;
  load.subscriber_count = channels * per_channel;
  load.channels = allocate((size_t)channels, sizeof(channel));
  load.subscribers = allocate((size_t)load.subscriber_count, sizeof(member));
  load.refills = allocate((size_t)channels, sizeof(int));
  for (int i = 0; i < load.subscriber_count; i++) load.subscribers[i].channel = i % channels;
  open_all(o, load.subscribers, load.subscriber_count, 0, APPLICATION_WINDOW);
  open_publishers(o, shared_publisher);
  probe();
}

uint64_t fleet_outstanding(void) {
  uint64_t missing = 0;
  for (int i = 0; i < load.channel_count; i++) {
    const channel *c = &load.channels[i];
    missing += c->sent * (uint64_t)load.per_channel - c->received;
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
