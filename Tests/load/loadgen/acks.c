#include "acks.h"

#include <stdlib.h>

ack_account acks;

request_ring request_ring_make(int depth) {
  request_ring ring = {.sent_at = calloc((size_t)depth, sizeof(uint64_t))};
  if (ring.sent_at == NULL) die("out of memory");
  return ring;
}

void request_ring_sent(request_ring *ring, int depth) {
  ring->sent_at[ring->sent % (uint64_t)depth] = clock_now_ns();
  ring->sent += 1;
}

bool request_ring_answered(request_ring *ring, int depth, uint64_t now, bool refused) {
  if (ring->answered == ring->sent) return false;
  uint64_t sent_at = ring->sent_at[ring->answered % (uint64_t)depth];
  ring->answered += 1;
  if (refused) {
    acks.refused += 1;
  } else if (acks.measuring) {
    acks.acknowledged += 1;
    histogram_add(&acks.latency, now - sent_at);
  }
  return true;
}

static void print_result(
    const options *o, const char *mode, const char *error, uint64_t errors, uint64_t lost,
    cpu_account from, cpu_account to) {
  double seconds = to.at - from.at;
  double operations = acks.acknowledged > 0 ? (double)acks.acknowledged : 1;
  const histogram *h = &acks.latency;
  printf(
      "{\"mode\":\"%s\",\"conns\":%d,\"depth\":%d,\"channels\":%d,\"size\":%zu", mode, o->connections,
      o->depth, o->channels, o->size);
  printf(",\"ops\":%lu,\"ops_per_s\":%.0f", acks.acknowledged, (double)acks.acknowledged / seconds);
  printf(
      ",\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f",
      histogram_percentile_us(h, 50), histogram_percentile_us(h, 90), histogram_percentile_us(h, 99),
      histogram_percentile_us(h, 99.9), (double)h->largest / 1e3);
  printf(
      ",\"lost\":%lu,\"disorder\":%lu,\"refused\":%lu,\"refusal\":\"%s\",\"errs\":%lu,\"err\":\"%s\"", lost,
      acks.disorder, acks.refused, acks.first_refusal, errors, error);
  printf(
      ",\"srv_us_per_op\":%.3f,\"cli_us_per_op\":%.3f", (to.server - from.server) * 1e6 / operations,
      (to.client - from.client) * 1e6 / operations);
  cpu_account_print(stdout, from, to);
  puts("}");
}

void acks_drive(
    const options *o, ack_driver driver, const char *mode, const char *error, uint64_t *errors) {
  uint64_t warm = clock_now_ns() + (uint64_t)(o->warmup_seconds * 1e9);
  while (clock_now_ns() < warm && !driver.broken()) driver.turn(5000000);
  acks.measuring = true;
  cpu_account from = cpu_account_read(&o->server);
  uint64_t end = clock_now_ns() + (uint64_t)(o->seconds * 1e9);
  while (clock_now_ns() < end && !driver.broken()) driver.turn(5000000);
  cpu_account to = cpu_account_read(&o->server);
  acks.measuring = false;
  acks.stopping = true;
  uint64_t deadline = clock_now_ns() + 10000000000ull;
  while (driver.open_requests() > 0 && clock_now_ns() < deadline && !driver.broken()) driver.turn(5000000);
  print_result(o, mode, error, *errors, driver.open_requests(), from, to);
}
