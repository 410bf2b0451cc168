#include "modes.h"
#include "schedule.h"

static uint64_t sent_in_all(void) {
  uint64_t sent = 0;
  for (int i = 0; i < load.channel_count; i++) sent += load.channels[i].sent;
  return sent;
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
  schedule_begin(o, s, start);
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
    network_turn(schedule_send(o, s, now));
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
      ",\"channels\":%d,\"subs\":%d,\"size\":%zu,\"window\":%d,\"rate\":%.0f",
      load.channel_count, load.per_channel, o->size, o->window, o->rate);
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
  schedule s = schedule_make(o);
  fleet_open(o, o->channels, o->subscribers, false);
  measurement m = drive(o, &s);
  print_result(o, &s, m);
  return 0;
}
