#include "modes.h"
#include "schedule.h"

// The same connections, the same channel and the same loops of the node carry every segment: only the stalled
// subscribers come and go. So nothing else makes a difference between two neighbours but what the rest of the
// machine does, and many pairs of short ones cancel that out.

/// What subscribers that read got in a segment.
typedef struct {
  bool beside;              // stalled ones were there
  double per_second;
  double p50_us;
  double p99_us;
  double server_us_each;    // CPU of the server per delivery
} segment;

static void run_until(const options *o, schedule *s, uint64_t end) {
  for (uint64_t now = clock_now_ns(); now < end && net.closed == 0; now = clock_now_ns()) {
    int64_t wait = schedule_send(o, s, now);
    int64_t left = (int64_t)(end - now);
    network_turn(wait < left ? wait : left);
  }
}

/// Which of a pair comes first is drawn: what drifts meets both alike, and nothing that comes and goes by itself,
/// as a node's writing of files does, can keep step.
static bool draw(void) {
  static uint32_t state = 2463534242u;
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return state >> 31;
}

static segment run_segment(const options *o, schedule *s, bool beside) {
  member *stalled = beside ? fleet_open_stalled(o) : NULL;
  run_until(o, s, clock_now_ns() + (uint64_t)(o->warmup_seconds * 1e9));
  load.measuring = true;
  load.deliveries = 0;
  load.latency = (histogram){0};
  cpu_account from = cpu_account_read(&o->server);
  run_until(o, s, clock_now_ns() + (uint64_t)(o->seconds * 1e9));
  cpu_account to = cpu_account_read(&o->server);
  load.measuring = false;
  fleet_close_stalled(o, stalled);
  double deliveries = load.deliveries > 0 ? (double)load.deliveries : 1;
  return (segment){
      .beside = beside,
      .per_second = (double)load.deliveries / (to.at - from.at),
      .p50_us = histogram_percentile_us(&load.latency, 50),
      .p99_us = histogram_percentile_us(&load.latency, 99),
      .server_us_each = (to.server - from.server) * 1e6 / deliveries,
  };
}

int run_stall(const options *o) {
  schedule s = schedule_make(o);
  fleet_open(o, o->channels, o->subscribers, false);
  printf("{\"mode\":\"stall\",\"family\":\"%s\",\"segments\":[", o->family == family_a ? "A" : "B");
  schedule_begin(o, &s, clock_now_ns());
  bool beside_first = false;
  for (int number = 0; number < 2 * o->pairs && net.closed == 0; number++) {
    if (number % 2 == 0) beside_first = draw();
    segment g = run_segment(o, &s, beside_first == (number % 2 == 0));
    printf(
        "%s{\"beside\":%s,\"per_s\":%.0f,\"p50_us\":%.1f,\"p99_us\":%.1f,\"srv_us_per_delivery\":%.3f}",
        number > 0 ? "," : "", g.beside ? "true" : "false", g.per_second, g.p50_us, g.p99_us,
        g.server_us_each);
  }
  fleet_drain();
  printf(
      "],\"lost\":%lu,\"gaps\":%lu,\"dups\":%lu,\"bad_macs\":%lu,\"errs\":%lu,\"err\":\"%s\"}\n",
      fleet_outstanding(), load.gaps, load.duplicates, load.bad_macs, net.errors, net.last_error);
  return 0;
}
