// The command line of the load generator.
#pragma once

#include "measure.h"

typedef enum { wire_skytale, wire_slim_a } wire_family;
typedef enum { durability_default = 0, durability_written = 1, durability_synced = 2 } durability;

typedef struct {
  const char *mode;
  const char *host;
  int port;
  int publish_port;       // fanout: where publishers connect; `port` unless given
  wire_family wire;
  int channels;
  int subscribers;        // per channel
  int connections;        // publishers or idle subscribers
  int depth;              // requests a publisher has open
  size_t size;            // payload bytes
  int window;             // messages a channel has on the way to each subscriber
  double rate;            // messages a second over all channels; 0: as fast as the window allows
  uint64_t messages;      // stop after this many; 0: after `seconds`
  double warmup_seconds;
  double seconds;
  durability durability;
  bool producer_ids;      // publishes carry a producer id and sequence (retry protection)
  const char *token;      // the value of the authorization header, or NULL
  const char *org;        // first part of the channel names
  uint32_t run;           // part of the channel names; of this process unless given
  process_list server;
} options;

/// Reads the command line; prints the usage and exits with 1 when it is wrong.
options options_parse(int count, char **arguments);
