// The command line of slimbench.
#pragma once

#include "measure.h"

/// SLIM's two wires: A is 1.x, B is 2.x and 3.x; and that of nats-server, to compare with.
typedef enum { family_a, family_b, family_nats } wire_family;

typedef struct {
  const char *mode;
  const char *host;
  int port;
  wire_family family;
  int channels;
  int subscribers;        // per channel
  int stalled;            // stall: per channel, beside those: they subscribe and then read nothing
  int pairs;              // stall: times without and with them
  int connections;        // idle: subscribers in all
  size_t size;            // payload bytes
  int window;             // messages a channel has on the way to each subscriber
  double rate;            // messages a second over all channels; 0: as fast as the window allows
  uint64_t messages;      // stop after this many; 0: after `seconds`
  double warmup_seconds;
  double seconds;
  bool quick_acks;        // TCP_QUICKACK: a node that leaves Nagle on is not punished
  bool acks;              // subscriptions are acknowledged (from 1.3 on)
  bool yardstick;         // the server is limitgrpc or nats-server: no link, no acks, one subscription a stream
  const char *token;      // the value of the authorization header, or NULL
  const char *org;        // first part of all names
  process_list server;
} options;

/// Reads the command line; prints the usage and exits with 1 when it is wrong.
options options_parse(int count, char **arguments);
