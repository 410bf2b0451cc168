// SLIM messages as slimbench writes and checks them; field numbers differ between the families.
#pragma once

#include "options.h"

/// Who a name's last part means.
typedef struct {
  uint64_t high;  // family B only
  uint64_t low;
} slim_id;

/// Everybody under a name.
#define SLIM_EVERYBODY ((slim_id){UINT64_MAX, UINT64_MAX})

/// org/namespace/service and who of it.
typedef struct {
  const char *org;
  const char *space;
  const char *service;
  slim_id id;
} slim_name;

/// One family B link: what both ends agreed on.
typedef struct {
  char id[37];
  uint8_t private_key[32];
  uint8_t key[32];
  bool has_key;
} slim_link;

/// Makes an id and a key pair; writes the Message{link} that begins a family B stream.
void slim_write_link(byte_queue *message, slim_link *link);
/// Takes the node's answer; false when it is none.
bool slim_receive_link(slim_link *link, byte_range message);

/// Message{subscribe}; `acknowledge` 0: no answer is asked for.
void slim_write_subscribe(
    byte_queue *message, const options *o, const slim_link *link, slim_name source,
    slim_name destination, uint64_t acknowledge);
/// Message{publish} of a group message; its last `o->size` bytes are the payload.
void slim_write_publish(
    byte_queue *message, const options *o, const slim_link *link, slim_name source,
    slim_name destination, uint32_t fanout);

/// The id a SubscriptionAck carries, or 0; `*taken`: what the node said of it.
uint64_t slim_acknowledged(byte_range message, bool *taken);
/// Whether a delivered publish carries the MAC of this link.
bool slim_mac_is_good(const slim_link *link, byte_range message);
