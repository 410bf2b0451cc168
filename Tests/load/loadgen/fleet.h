// Channels with their publishers and subscribers: what `fanout` and `idle` load a relay with.
#pragma once

#include "client.h"

typedef struct {
  client *publisher;
  byte_queue frame;      // a whole publish; time and sequence are written into it
  uint64_t sent;         // measured messages, so also the next sequence
  uint64_t received;     // deliveries of them, each counted once
  int subscribers;
  bool refill;           // something arrived: there may be room in the window
} channel;

typedef struct {
  client *client;
  int channel;
  uint64_t expected;     // next sequence
  uint64_t last_suffix;  // the relay's own sequence, when it appends one
  bool probed;           // a message has reached it: it is subscribed
} subscriber;

typedef struct {
  channel *channels;
  int channel_count;
  subscriber *subscribers;
  int subscriber_count;
  int probed;
  int *refills;          // channels with `refill` set
  int refill_count;
  bool measuring;
  uint64_t deliveries;   // while measuring
  uint64_t gaps;
  uint64_t duplicates;
  uint64_t suffix_gaps;  // the relay's own sequence is not the one before plus one
  histogram latency;     // while measuring
} fleet;

extern fleet load;

/// Opens `channels` x `subscribers` connections; `shared_publisher`: one publishes on all channels.
void fleet_open(const options *o, int channels, int subscribers, bool shared_publisher);
/// Publishes probes until each subscriber has got one: then nothing that follows can be missed.
void fleet_wait_until_subscribed(void);
void fleet_publish(int channel, uint64_t now);
/// Deliveries that have not come yet.
uint64_t fleet_outstanding(void);
/// Waits until nothing is outstanding, or nothing has come for five seconds.
void fleet_drain(void);
