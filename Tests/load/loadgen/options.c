#include "options.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: loadgen fanout|publish|rawdurable|idle --port P [options]\n"
    "  --host ADDRESS          127.0.0.1\n"
    "  --publish-port P        fanout: publishers connect there, subscribers to --port\n"
    "  --run N                 channels are ORG/bench-N in hexadecimal/ch0 and on; else N is of this process\n"
    "  --wire skytale|slim-a   fanout, idle: skytale (names as text) or slim-a (encoded names)\n"
    "  --channels N            1\n"
    "  --subscribers N         fanout: per channel, 1\n"
    "  --connections N         publish, rawdurable: publishers; idle: subscribers in all; 1\n"
    "  --depth N               publish, rawdurable: requests open per publisher, 1\n"
    "  --size BYTES            payload, 1024 (at least 32)\n"
    "  --window N              fanout: messages on the way to each subscriber, 256\n"
    "  --rate N                fanout: messages a second over all channels instead of a window\n"
    "  --messages N            fanout: send exactly this many instead of for --seconds\n"
    "  --warmup S  --seconds S 1 and 5\n"
    "  --durability written|synced   publish: written\n"
    "  --no-producer           publish: no producer id, so no retry protection\n"
    "  --token TOKEN           sent as `authorization: Bearer TOKEN`\n"
    "  --org NAME              first part of the channel names, acme\n"
    "  --pids A,B              processes whose CPU time is the server's\n";

static void refuse(const char *text) {
  fprintf(stderr, "loadgen: %s\n%s", text, usage);
  exit(1);
}

static long whole_number(const char *text, const char *name, long least, long most) {
  char *end = NULL;
  long value = strtol(text, &end, 10);
  if (end == text || *end != 0 || value < least || value > most) refuse(name);
  return value;
}

static double number(const char *text, const char *name) {
  char *end = NULL;
  double value = strtod(text, &end);
  if (end == text || *end != 0 || !(value >= 0)) refuse(name);
  return value;
}

static char *bearer(const char *token) {
  size_t size = strlen(token) + sizeof "Bearer ";
  char *value = malloc(size);
  if (value == NULL) die("out of memory");
  snprintf(value, size, "Bearer %s", token);
  return value;
}

static wire_family parse_wire(const char *text) {
  if (strcmp(text, "skytale") == 0) return wire_skytale;
  if (strcmp(text, "slim-a") == 0) return wire_slim_a;
  refuse("--wire");
  return wire_skytale;
}

static durability parse_durability(const char *text) {
  if (strcmp(text, "written") == 0) return durability_written;
  if (strcmp(text, "synced") == 0) return durability_synced;
  refuse("--durability");
  return durability_default;
}

static const struct option long_options[] = {
    {"host", 1, NULL, 'h'},     {"port", 1, NULL, 'P'},       {"wire", 1, NULL, 'p'},
    {"channels", 1, NULL, 'c'}, {"subscribers", 1, NULL, 's'}, {"connections", 1, NULL, 'n'},
    {"depth", 1, NULL, 'D'},    {"size", 1, NULL, 'S'},       {"window", 1, NULL, 'w'},
    {"rate", 1, NULL, 'r'},     {"messages", 1, NULL, 'M'},   {"warmup", 1, NULL, 'W'},
    {"seconds", 1, NULL, 'd'},  {"durability", 1, NULL, 'u'}, {"no-producer", 0, NULL, 'N'},
    {"publish-port", 1, NULL, 'q'}, {"run", 1, NULL, 'R'},
    {"token", 1, NULL, 'T'},    {"org", 1, NULL, 'o'},        {"pids", 1, NULL, 'x'},
    {NULL, 0, NULL, 0},
};

static void apply(options *o, int option, const char *value) {
  switch (option) {
    case 'h': o->host = value; break;
    case 'P': o->port = (int)whole_number(value, "--port", 1, 65535); break;
    case 'q': o->publish_port = (int)whole_number(value, "--publish-port", 1, 65535); break;
    case 'R': o->run = (uint32_t)whole_number(value, "--run", 1, 1 << 30); break;
    case 'p': o->wire = parse_wire(value); break;
    case 'c': o->channels = (int)whole_number(value, "--channels", 1, 60000); break;
    case 's': o->subscribers = (int)whole_number(value, "--subscribers", 1, 60000); break;
    case 'n': o->connections = (int)whole_number(value, "--connections", 1, 60000); break;
    case 'D': o->depth = (int)whole_number(value, "--depth", 1, 65536); break;
    case 'S': o->size = (size_t)whole_number(value, "--size", 32, 3 << 20); break;
    case 'w': o->window = (int)whole_number(value, "--window", 1, 1 << 20); break;
    case 'r': o->rate = number(value, "--rate"); break;
    case 'M': o->messages = (uint64_t)whole_number(value, "--messages", 1, 1l << 40); break;
    case 'W': o->warmup_seconds = number(value, "--warmup"); break;
    case 'd': o->seconds = number(value, "--seconds"); break;
    case 'u': o->durability = parse_durability(value); break;
    case 'N': o->producer_ids = false; break;
    case 'T': o->token = bearer(value); break;
    case 'o': o->org = value; break;
    case 'x': process_list_parse(&o->server, value); break;
    default: refuse("unknown option");
  }
}

options options_parse(int count, char **arguments) {
  options o = {
      .host = "127.0.0.1",
      .wire = wire_skytale,
      .channels = 1,
      .subscribers = 1,
      .connections = 1,
      .depth = 1,
      .size = 1024,
      .window = 256,
      .warmup_seconds = 1,
      .seconds = 5,
      .durability = durability_written,
      .producer_ids = true,
      .org = "acme",
  };
  if (count < 2) refuse("a mode is missing");
  o.mode = arguments[1];
  int option;
  while ((option = getopt_long(count - 1, arguments + 1, "", long_options, NULL)) != -1) {
    apply(&o, option, optarg);
  }
  if (o.port == 0) refuse("--port is missing");
  if (o.publish_port == 0) o.publish_port = o.port;
  if (strlen(o.org) > 63) refuse("--org");
  return o;
}
