#include "acks.h"
#include "client.h"
#include "modes.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/// Refusals after which the run is broken: it would measure nothing but refusals.
#define MAX_REFUSALS 1000

typedef struct {
  client *client;
  request_ring requests;
  int channel;
  uint64_t producer;
  uint64_t last_sequence;  // the place in the channel of the last acknowledged publish
} publisher;

static publisher *publishers;
static uint8_t *payload;
static uint32_t run;

static void send_request(publisher *p) {
  static byte_queue message;
  static byte_queue frame;
  const options *o = net.options;
  byte_queue_consume(&message, byte_queue_count(&message));
  byte_queue_consume(&frame, byte_queue_count(&frame));
  if (p->requests.sent == 0) {
    // Later requests leave the channel out: "the channel of the request before".
    char name[200];
    channel_name(name, sizeof name, o, run, p->channel);
    write_bytes_field(&message, 1, name, strlen(name));
  }
  uint64_t number = p->requests.sent + 1;
  memcpy(payload, "load", 4);
  memcpy(payload + 8, &p->producer, sizeof p->producer);
  memcpy(payload + 16, &number, sizeof number);
  write_bytes_field(&message, 2, payload, o->size);
  if (o->producer_ids) {
    write_varint_field(&message, 3, p->producer);
    write_varint_field(&message, 4, number);
  }
  write_varint_field(&message, 5, (uint64_t)o->durability);
  write_grpc_frame(&frame, &message);
  request_ring_sent(&p->requests, o->depth);
  client_send(p->client, byte_queue_first(&frame), byte_queue_count(&frame));
}

static void note_refusal(byte_range refusal) {
  if (acks.first_refusal[0] != 0) return;
  byte_range code = find_bytes(refusal, 1);
  snprintf(
      acks.first_refusal, sizeof acks.first_refusal, "%.*s", (int)(code.count < 60 ? code.count : 60),
      code.bytes == NULL ? "?" : (const char *)code.bytes);
}

/// Answers come in the order of the requests; sequences grow, by one when the channel has one publisher.
static void check_order(publisher *p, byte_range answer) {
  const options *o = net.options;
  uint64_t sequence = find_varint(answer, 2);
  bool alone = o->connections <= o->channels;
  bool in_order = sequence > p->last_sequence && (!alone || sequence == p->last_sequence + 1);
  if (o->producer_ids && find_varint(answer, 1) != p->requests.answered) in_order = false;
  if (find_varint(answer, 4) != 0) in_order = false;  // no request was a retry
  if (!in_order) acks.disorder += 1;
  p->last_sequence = sequence;
}

static void receive_answer(client *from, byte_range answer, uint64_t now) {
  publisher *p = from->owner;
  byte_range refusal = find_bytes(answer, 3);
  bool refused = refusal.bytes != NULL;
  if (!request_ring_answered(&p->requests, net.options->depth, now, refused)) {
    acks.disorder += 1;
    return;
  }
  if (refused) {
    note_refusal(refusal);
  } else {
    check_order(p, answer);
  }
  if (!acks.stopping) send_request(p);
}

static uint64_t open_requests(void) {
  uint64_t open = 0;
  for (int i = 0; i < net.options->connections; i++) {
    open += publishers[i].requests.sent - publishers[i].requests.answered;
  }
  return open;
}

static bool is_broken(void) { return net.closed > 0 || acks.refused > MAX_REFUSALS; }

int run_publish(const options *o) {
  network_start(o, receive_answer);
  run = (uint32_t)getpid() * 2654435761u ^ (uint32_t)time(NULL);
  payload = calloc(1, o->size);
  publishers = calloc((size_t)o->connections, sizeof *publishers);
  if (payload == NULL || publishers == NULL) die("out of memory");
  for (int i = 0; i < o->connections; i++) {
    publisher *p = &publishers[i];
    p->channel = i % o->channels;
    p->producer = (uint64_t)run << 20 | (uint64_t)(i + 1);
    p->requests = request_ring_make(o->depth);
    p->client = client_open(o->port, "/posthouse.v1.ChannelService/Publish", p);
  }
  for (int i = 0; i < o->connections; i++) {
    for (int k = 0; k < o->depth; k++) send_request(&publishers[i]);
  }
  ack_driver driver = {network_turn, open_requests, is_broken};
  acks_drive(o, driver, "publish", net.last_error, &net.errors);
  return 0;
}
