#include "fleet.h"
#include "modes.h"

static uint64_t sent_in_all(void) {
  uint64_t sent = 0;
  for (int i = 0; i < load.channel_count; i++) sent += load.channels[i].sent;
  return sent;
}

/// Where the load stands between two turns.
typedef struct {
  uint64_t budget;    // messages still to send
  double start;       // fixed rate: when the first was due
  double interval;    // fixed rate: nanoseconds between messages; 0: closed window
  uint64_t due;       // fixed rate: messages that were due so far; they go round the channels
  uint64_t late;      // messages sent more than a millisecond after they were due
} schedule;

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

/// Sends what is due; answers how long the next turn may wait.
static int64_t send_due(const options *o, schedule *s, uint64_t now) {
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
  s->start = (double)start;
  for (int i = 0; i < load.channel_count && s->interval == 0; i++) fill_window(o, s, i);
  while (net.closed == 0) {
    uint64_t now = clock_now_ns();
    if (!load.measuring && now >= warm) {
      load.measuring = true;
      m.from = cpu_account_read(&o->server);
      if (o->messages == 0) {
        sent_before = sent_in_all();
        end = clock_now_ns() + (uint64_t)(o->seconds * 1e9);
      }
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
  printf(
      "{\"mode\":\"fanout\",\"family\":\"%s\",\"quickack\":%s", (const char *[]){"A", "B", "nats"}[o->family],
      o->quick_acks ? "true" : "false");
  printf(
      ",\"channels\":%d,\"subs\":%d,\"stalled\":%d,\"size\":%zu,\"window\":%d,\"rate\":%.0f",
      load.channel_count, load.per_channel, o->stalled, o->size, o->window, o->rate);
  printf(",\"messages\":%lu,\"deliveries\":%lu", m.sent, load.deliveries);
  printf(
      ",\"msgs_per_s\":%.0f,\"deliveries_per_s\":%.0f", (double)m.sent / seconds,
      (double)load.deliveries / seconds);
  printf(
      ",\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f",
      histogram_percentile_us(h, 50), histogram_percentile_us(h, 90), histogram_percentile_us(h, 99),
      histogram_percentile_us(h, 99.9), (double)h->largest / 1e3);
  printf(
      ",\"lost\":%lu,\"gaps\":%lu,\"dups\":%lu,\"bad_macs\":%lu,\"late\":%lu", fleet_outstanding(),
      load.gaps, load.duplicates, load.bad_macs, s->late);
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
  measurement m = drive(o, &s);
  print_result(o, &s, m);
  return 0;
}
