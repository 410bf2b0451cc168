#include "measure.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void die(const char *text) {
  fprintf(stderr, "%s: %s: %s\n", program_invocation_short_name, text, strerror(errno));
  exit(2);
}

/// Makes room for `count` more bytes: moves what is left to the front before it grows.
static void reserve(byte_queue *q, size_t count) {
  size_t used = q->end - q->start;
  if (q->start > 0 && used + count <= q->capacity && q->start >= used) {
    memcpy(q->bytes, q->bytes + q->start, used);
    q->start = 0;
    q->end = used;
    return;
  }
  size_t capacity = q->capacity > 0 ? q->capacity * 2 : 512;
  while (capacity < q->end + count) capacity *= 2;
  uint8_t *bytes = realloc(q->bytes, capacity);
  if (bytes == NULL) die("out of memory");
  q->bytes = bytes;
  q->capacity = capacity;
}

void byte_queue_append(byte_queue *q, const void *bytes, size_t count) {
  if (q->start == q->end) {
    q->start = 0;
    q->end = 0;
  }
  if (q->end + count > q->capacity) reserve(q, count);
  memcpy(q->bytes + q->end, bytes, count);
  q->end += count;
}

void byte_queue_consume(byte_queue *q, size_t count) {
  q->start += count;
  if (q->start == q->end) {
    q->start = 0;
    q->end = 0;
  }
}

void byte_queue_free(byte_queue *q) {
  free(q->bytes);
  *q = (byte_queue){0};
}
