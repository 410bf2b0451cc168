#include "fleet.h"
#include "modes.h"

static uint64_t sent_in_all(void) {
  uint64_t sent = 0;
  for (int i = 0; i < load.channel_count; i++) sent += load.channels[i].sent;
  return sent;
}

/// Publishes as much as the channel's window has room for.
static void fill_window(const options *o, int index, uint64_t *budget) {
  channel *c = &load.channels[index];
  uint64_t subscribers = (uint64_t)c->subscribers;
  uint64_t limit = (uint64_t)o->window * subscribers;
  uint64_t on_the_way = c->sent * subscribers - c->received;
  if (on_the_way >= limit) return;
  uint64_t room = (limit - on_the_way) / subscribers;
  uint64_t now = clock_now_ns();
  while (room > 0 && *budget > 0) {
    fleet_publish(index, now);
    room -= 1;
    *budget -= 1;
  }
}

/// Where the load generator stands between two turns.
typedef struct {
  uint64_t budget;       // messages still to send
  double next_due;       // fixed rate: when the next message is due
  double interval;       // fixed rate: nanoseconds between messages; 0: closed window
  int next_channel;
  uint64_t late;         // messages sent more than a millisecond after they were due
} schedule;

/// Sends what is due; answers how long the next turn may wait.
static int64_t send_due(const options *o, schedule *s, uint64_t now) {
  if (s->interval == 0) {
    for (int i = 0; i < load.refill_count; i++) {
      load.channels[load.refills[i]].refill = false;
      fill_window(o, load.refills[i], &s->budget);
    }
    load.refill_count = 0;
    return 20000000;
  }
  while (s->next_due <= (double)now && s->budget > 0) {
    if ((double)now - s->next_due > 1e6) s->late += 1;
    // The latency counts from when the message was due: a stall of ours is not hidden.
    fleet_publish(s->next_channel, (uint64_t)s->next_due);
    s->next_channel = (s->next_channel + 1) % load.channel_count;
    s->next_due += s->interval;
    s->budget -= 1;
  }
  for (int i = 0; i < load.refill_count; i++) load.channels[load.refills[i]].refill = false;
  load.refill_count = 0;
  return s->budget > 0 ? (int64_t)(s->next_due - (double)now) : 20000000;
}

typedef struct {
  cpu_account from;
  cpu_account to;
  uint64_t sent;
} measurement;

/// Warms up, measures, stops. With `--messages` everything is measured and the end is the last delivery.
static measurement drive(const options *o, schedule *s) {
  measurement m = {0};
  uint64_t start = clock_now_ns();
  uint64_t warm = start + (o->messages > 0 ? 0 : (uint64_t)(o->warmup_seconds * 1e9));
  uint64_t end = UINT64_MAX;
  uint64_t sent_before = 0;
  s->next_due = (double)start;
  if (s->interval == 0) {
    for (int i = 0; i < load.channel_count; i++) fill_window(o, i, &s->budget);
  }
  while (net.closed == 0) {
    uint64_t now = clock_now_ns();
    if (!load.measuring && now >= warm) {
      load.measuring = true;
      m.from = cpu_account_read(&o->server);
      sent_before = sent_in_all();
      if (o->messages > 0) sent_before = 0;
      if (o->messages == 0) end = clock_now_ns() + (uint64_t)(o->seconds * 1e9);
    }
    if (now >= end || s->budget == 0) break;
    network_turn(send_due(o, s, now));
  }
  if (o->messages > 0) fleet_drain();
  m.to = cpu_account_read(&o->server);
  m.sent = sent_in_all() - sent_before;
  load.measuring = false;
  fleet_drain();
  return m;
}

static void print_result(const options *o, const schedule *s, measurement m) {
  double seconds = m.to.at - m.from.at;
  double server = m.to.server - m.from.server;
  double client = m.to.client - m.from.client;
  double deliveries = load.deliveries > 0 ? (double)load.deliveries : 1;
  const histogram *h = &load.latency;
  printf("{\"mode\":\"fanout\",\"wire\":\"%s\"", o->wire == wire_skytale ? "skytale" : "slim-a");
  printf(
      ",\"channels\":%d,\"subs\":%d,\"size\":%zu,\"window\":%d,\"rate\":%.0f", load.channel_count,
      o->subscribers, o->size, o->window, o->rate);
  printf(",\"messages\":%lu,\"deliveries\":%lu", m.sent, load.deliveries);
  printf(
      ",\"msgs_per_s\":%.0f,\"deliveries_per_s\":%.0f", (double)m.sent / seconds,
      (double)load.deliveries / seconds);
  printf(
      ",\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f",
      histogram_percentile_us(h, 50), histogram_percentile_us(h, 90), histogram_percentile_us(h, 99),
      histogram_percentile_us(h, 99.9), (double)h->largest / 1e3);
  printf(
      ",\"lost\":%lu,\"gaps\":%lu,\"dups\":%lu,\"suffix_gaps\":%lu,\"late\":%lu", fleet_outstanding(),
      load.gaps, load.duplicates, load.suffix_gaps, s->late);
  printf(",\"errs\":%lu,\"err\":\"%s\"", net.errors, net.last_error);
  printf(
      ",\"srv_us_per_delivery\":%.3f,\"cli_us_per_delivery\":%.3f", server * 1e6 / deliveries,
      client * 1e6 / deliveries);
  cpu_account_print(stdout, m.from, m.to);
  puts("}");
}

int run_fanout(const options *o) {
  schedule s = {.budget = o->messages > 0 ? o->messages : UINT64_MAX};
  if (o->rate > 0) s.interval = 1e9 / o->rate;
  fleet_open(o, o->channels, o->subscribers, false);
  fleet_wait_until_subscribed();
  measurement m = drive(o, &s);
  print_result(o, &s, m);
  return 0;
}
