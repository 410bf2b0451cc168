#include "nats.h"

#include <stdlib.h>
#include <string.h>

void nats_write_connect(connection *c) {
  static const char connect[] = "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"c\",\"version\":\"1\"}\r\n";
  connection_write(c, connect, sizeof connect - 1);
}

void nats_write_subscribe(connection *c, const char *subject) {
  char line[160];
  int count = snprintf(line, sizeof line, "SUB %s 1\r\n", subject);
  connection_write(c, line, (size_t)count);
}

size_t nats_write_publish(byte_queue *frames, const char *subject, size_t size) {
  char line[160];
  int count = snprintf(line, sizeof line, "PUB %s %zu\r\n", subject, size);
  byte_queue_append(frames, line, (size_t)count);
  char *payload = calloc(1, size + 2);
  if (payload == NULL) die("out of memory");
  memcpy(payload + size, "\r\n", 2);
  byte_queue_append(frames, payload, size + 2);
  free(payload);
  return (size_t)count;
}

/// The number a MSG line ends with, or 0.
static size_t last_number(const uint8_t *line, size_t count) {
  size_t at = count;
  while (at > 0 && line[at - 1] >= '0' && line[at - 1] <= '9') at -= 1;
  size_t value = 0;
  while (at < count) value = value * 10 + (line[at++] - '0');
  return value;
}

static bool begins(const uint8_t *line, size_t count, const char *word) {
  size_t size = strlen(word);
  return count >= size && memcmp(line, word, size) == 0;
}

size_t nats_receive(connection *c, byte_range bytes, uint64_t now) {
  size_t taken = 0;
  while (!c->closed) {
    const uint8_t *line = bytes.bytes + taken;
    const uint8_t *end = memchr(line, '\n', bytes.count - taken);
    if (end == NULL || end == line) break;
    size_t count = (size_t)(end - line) - 1;
    size_t used = count + 2;
    if (begins(line, count, "MSG ")) {
      size_t size = last_number(line, count);
      if (bytes.count - taken < used + size + 2) break;
      net.receive_message(c, (byte_range){line + used, size}, now);
      used += size + 2;
    } else if (begins(line, count, "INFO ")) {
      c->open = true;
    } else if (begins(line, count, "PING")) {
      connection_write(c, "PONG\r\n", 6);
    } else if (begins(line, count, "-ERR")) {
      connection_end(c, "nats-server answered with an error");
    }
    taken += used;
  }
  return taken;
}
