// Channels with their publishers and subscribers.
#pragma once

#include "connection.h"
#include "slim.h"

/// One application: a publisher or a subscriber.
typedef struct {
  connection *connection;
  slim_link link;
  int channel;
  bool publishes;
  bool stalls;          // what it gets until then does not count
  bool linked;          // the node answered the link, or none is needed
  int acks_awaited;     // subscriptions the node has not acknowledged
  bool probed;          // a message has reached it: it is subscribed
  uint64_t expected;    // next sequence
} member;

typedef struct {
  member publisher;
  byte_queue frames;    // a whole publish as DATA frames; time and sequence are written into it
  size_t data_count;    // bytes inside them
  size_t payload_at;    // where its payload begins
  uint64_t sent;        // measured messages, so also the next sequence
  uint64_t received;    // deliveries of them, each counted once
  uint64_t owed;        // fixed rate: due and not sent
  bool refill;          // something arrived: there may be room in the window
} channel;

typedef struct {
  channel *channels;
  int channel_count;
  member *subscribers;  // those of channel c at c, c + channel_count, ...
  int subscriber_count;
  int per_channel;
  int probed;
  int *refills;         // channels with `refill` set
  int refill_count;
  bool measuring;
  uint64_t deliveries;  // while measuring
  uint64_t gaps;
  uint64_t duplicates;
  uint64_t bad_macs;    // of the deliveries that were checked
  histogram latency;    // while measuring
} fleet;

extern fleet load;

/// Opens `channels` with `per_channel` subscribers; all are subscribed when it returns. `shared_publisher`: one
/// application publishes on all channels.
void fleet_open(const options *o, int channels, int per_channel, bool shared_publisher);
/// Opens the stalled ones `o` asks for; they read nothing once they are subscribed.
member *fleet_open_stalled(const options *o);
/// Closes them. NULL: there are none.
void fleet_close_stalled(const options *o, member *stalled);
/// True when the node takes another message of the channel now.
bool fleet_has_room(int channel);
/// Sends the channel's next message, which was due at `time`.
void fleet_publish(int channel, uint64_t time);
/// Deliveries that have not come yet.
uint64_t fleet_outstanding(void);
/// Waits until nothing is outstanding, or nothing has come for five seconds.
void fleet_drain(void);
