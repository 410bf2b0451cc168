#include "fleet.h"
#include "modes.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { broadcasts = 3 };

/// Keeps the connections served until a line or the end of standard input comes.
static void wait_for_word(void) {
  char line[64];
  fcntl(STDIN_FILENO, F_SETFL, fcntl(STDIN_FILENO, F_GETFL) | O_NONBLOCK);
  while (read(STDIN_FILENO, line, sizeof line) < 0 && errno == EAGAIN) network_turn(20000000);
}

static void broadcast(void) {
  for (int i = 0; i < load.channel_count; i++) {
    while (!fleet_has_room(i) && net.closed == 0) network_turn(1000000);
    fleet_publish(i, clock_now_ns());
  }
  fleet_drain();
}

int run_idle(const options *o) {
  int channels = o->channels < o->connections ? o->channels : o->connections;
  uint64_t start = clock_now_ns();
  fleet_open(o, channels, o->connections / channels, true);
  double connecting = (double)(clock_now_ns() - start) / 1e9;
  printf("{\"ready\":%d,\"connect_secs\":%.3f}\n", load.subscriber_count, connecting);
  fflush(stdout);
  wait_for_word();

  cpu_account from = cpu_account_read(&o->server);
  load.measuring = true;
  for (int i = 0; i < broadcasts; i++) broadcast();
  cpu_account to = cpu_account_read(&o->server);
  printf(
      "{\"mode\":\"idle\",\"conns\":%d,\"connect_per_s\":%.0f,\"broadcast_all_secs\":%.4f",
      load.subscriber_count, load.subscriber_count / connecting, (to.at - from.at) / broadcasts);
  printf(
      ",\"p50_us\":%.1f,\"p99_us\":%.1f", histogram_percentile_us(&load.latency, 50),
      histogram_percentile_us(&load.latency, 99));
  printf(
      ",\"delivered\":%lu,\"expected\":%d,\"lost\":%lu,\"gaps\":%lu,\"dups\":%lu,\"bad_macs\":%lu,"
      "\"errs\":%lu,\"err\":\"%s\"",
      load.deliveries, load.subscriber_count * broadcasts, fleet_outstanding(), load.gaps, load.duplicates,
      load.bad_macs, net.errors, net.last_error);
  cpu_account_print(stdout, from, to);
  puts("}");
  return 0;
}
