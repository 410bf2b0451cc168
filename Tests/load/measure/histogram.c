#include "measure.h"

#include <time.h>

uint64_t clock_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

/// Values below 128 have a bucket of their own; above, the top 8 bits choose it.
static size_t bucket_of(uint64_t value) {
  if (value < HISTOGRAM_STEPS) return (size_t)value;
  int shift = 63 - __builtin_clzll(value) - 7;
  size_t bucket = (size_t)(shift + 1) * HISTOGRAM_STEPS + (size_t)((value >> shift) - HISTOGRAM_STEPS);
  size_t last = HISTOGRAM_OCTAVES * HISTOGRAM_STEPS - 1;
  return bucket < last ? bucket : last;
}

/// The middle of a bucket.
static uint64_t value_of(size_t bucket) {
  if (bucket < HISTOGRAM_STEPS) return bucket;
  unsigned shift = (unsigned)(bucket / HISTOGRAM_STEPS) - 1;
  uint64_t top = bucket % HISTOGRAM_STEPS + HISTOGRAM_STEPS;
  return (top << shift) + ((1ull << shift) >> 1);
}

void histogram_add(histogram *h, uint64_t nanoseconds) {
  h->counts[bucket_of(nanoseconds)] += 1;
  h->total += 1;
  if (nanoseconds > h->largest) h->largest = nanoseconds;
}

double histogram_percentile_us(const histogram *h, double percent) {
  if (h->total == 0) return -1;
  uint64_t rank = (uint64_t)(percent / 100 * (double)h->total);
  if (rank >= h->total) rank = h->total - 1;
  uint64_t seen = 0;
  for (size_t i = 0; i < HISTOGRAM_OCTAVES * HISTOGRAM_STEPS; i++) {
    seen += h->counts[i];
    if (seen > rank) return (double)value_of(i) / 1e3;
  }
  return (double)h->largest / 1e3;
}
