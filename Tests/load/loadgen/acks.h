// The closed loop that `publish` and `rawdurable` share: when a request left, when its answer came.
#pragma once

#include "options.h"

/// The send times of one publisher's open requests, oldest first.
typedef struct {
  uint64_t *sent_at;   // `depth` places
  uint64_t sent;
  uint64_t answered;
} request_ring;

typedef struct {
  bool stopping;        // publishers send no more
  bool measuring;
  uint64_t acknowledged;  // while measuring
  uint64_t refused;     // in all
  uint64_t disorder;    // answers whose sequences are not what was due
  char first_refusal[100];
  histogram latency;
} ack_account;

extern ack_account acks;

request_ring request_ring_make(int depth);
void request_ring_sent(request_ring *ring, int depth);
/// Takes the oldest open request and, when measuring, counts its answer. False: none was open.
bool request_ring_answered(request_ring *ring, int depth, uint64_t now, bool refused);

typedef struct {
  void (*turn)(int64_t timeout_ns);
  uint64_t (*open_requests)(void);
  bool (*broken)(void);
} ack_driver;

/// Warms up, measures, stops, waits for the open answers, and prints the result object.
void acks_drive(const options *o, ack_driver driver, const char *mode, const char *error, uint64_t *errors);
