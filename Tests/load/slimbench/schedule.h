// When messages are published: as many as a window allows, or at a fixed rate.
#pragma once

#include "fleet.h"

/// Where the load stands between two turns.
typedef struct {
  uint64_t budget;    // messages still to send
  double start;       // fixed rate: when the first was due
  double interval;    // fixed rate: nanoseconds between messages; 0: closed window
  uint64_t due;       // fixed rate: messages that were due so far; they go round the channels
  uint64_t late;      // messages sent more than a millisecond after they were due
} schedule;

/// A schedule for what `o` asks for; nothing is sent yet.
schedule schedule_make(const options *o);
/// Begins: a fixed rate counts from `now`, windows are filled.
void schedule_begin(const options *o, schedule *s, uint64_t now);
/// Sends what is due; answers how long the next turn may wait, in nanoseconds.
int64_t schedule_send(const options *o, schedule *s, uint64_t now);
