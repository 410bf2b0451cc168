#include "schedule.h"

/// Publishes as much as the window and the node have room for.
static void fill_window(const options *o, schedule *s, int index) {
  channel *c = &load.channels[index];
  uint64_t subscribers = (uint64_t)load.per_channel;
  uint64_t limit = (uint64_t)o->window * subscribers;
  uint64_t now = clock_now_ns();
  while (s->budget > 0 && c->sent * subscribers - c->received < limit && fleet_has_room(index)) {
    fleet_publish(index, now);
    s->budget -= 1;
  }
}

/// Publishes what the channel owes. Latency counts from when a message was due: no stall is hidden.
static void pay(schedule *s, int index, uint64_t now) {
  channel *c = &load.channels[index];
  while (c->owed > 0 && fleet_has_room(index)) {
    double place = (double)(c->sent * (uint64_t)load.channel_count + (uint64_t)index);
    uint64_t due = (uint64_t)(s->start + place * s->interval);
    if (now > due + 1000000) s->late += 1;
    fleet_publish(index, due);
    c->owed -= 1;
  }
}

int64_t schedule_send(const options *o, schedule *s, uint64_t now) {
  for (int i = 0; i < load.refill_count; i++) {
    int index = load.refills[i];
    load.channels[index].refill = false;
    if (s->interval == 0) {
      fill_window(o, s, index);
    } else {
      pay(s, index, now);
    }
  }
  load.refill_count = 0;
  if (s->interval == 0) return 20000000;
  double next = s->start + (double)s->due * s->interval;
  while (next <= (double)now && s->budget > 0) {
    int index = (int)(s->due % (uint64_t)load.channel_count);
    load.channels[index].owed += 1;
    s->due += 1;
    s->budget -= 1;
    pay(s, index, now);
    next = s->start + (double)s->due * s->interval;
  }
  return s->budget > 0 ? (int64_t)(next - (double)now) : 20000000;
}

schedule schedule_make(const options *o) {
  schedule s = {.budget = o->messages > 0 ? o->messages : UINT64_MAX};
  if (o->rate > 0) s.interval = 1e9 / o->rate;
  return s;
}

void schedule_begin(const options *o, schedule *s, uint64_t now) {
  s->start = (double)now;
  for (int i = 0; i < load.channel_count && s->interval == 0; i++) fill_window(o, s, i);
}
