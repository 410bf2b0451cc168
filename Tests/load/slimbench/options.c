#include "options.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: slimbench fanout|stall|idle --port P --family A|B|nats [options]\n"
    "  --host ADDRESS          127.0.0.1\n"
    "  --channels N            1\n"
    "  --subscribers N         per channel, 1\n"
    "  --stalled N             stall: per channel, subscribers that read nothing, 1\n"
    "  --pairs N               stall: measurements without and with them, of --seconds each, 10\n"
    "  --connections N         idle: subscribers in all, 1\n"
    "  --size BYTES            payload, 1024 (at least 32)\n"
    "  --window N              messages on the way to each subscriber, 256\n"
    "  --rate N                messages a second over all channels instead of a window\n"
    "  --messages N            send exactly this many instead of for --seconds\n"
    "  --warmup S  --seconds S 1 and 5\n"
    "  --quickack              acknowledge at once what TCP brings\n"
    "  --no-acks               the node acknowledges no subscriptions (SLIM 1.0 to 1.2)\n"
    "  --yardstick             the server is limitgrpc\n"
    "  --token TOKEN           sent as `authorization: Bearer TOKEN`\n"
    "  --org NAME              first part of the names, acme\n"
    "  --pids A,B              processes whose CPU time is the server's\n";

static void refuse(const char *text) {
  fprintf(stderr, "slimbench: %s\n%s", text, usage);
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

static wire_family parse_family(const char *text) {
  if (strcmp(text, "A") == 0) return family_a;
  if (strcmp(text, "nats") == 0) return family_nats;
  if (strcmp(text, "B") != 0) refuse("--family");
  return family_b;
}

static const struct option long_options[] = {
    {"host", 1, NULL, 'h'},     {"port", 1, NULL, 'P'},        {"family", 1, NULL, 'f'},
    {"channels", 1, NULL, 'c'}, {"subscribers", 1, NULL, 's'}, {"stalled", 1, NULL, 'Z'},
    {"pairs", 1, NULL, 'p'},
    {"connections", 1, NULL, 'n'}, {"size", 1, NULL, 'S'},     {"window", 1, NULL, 'w'},
    {"rate", 1, NULL, 'r'},     {"messages", 1, NULL, 'M'},    {"warmup", 1, NULL, 'W'},
    {"seconds", 1, NULL, 'd'},  {"quickack", 0, NULL, 'Q'},    {"no-acks", 0, NULL, 'A'},
    {"yardstick", 0, NULL, 'Y'}, {"token", 1, NULL, 'T'},      {"org", 1, NULL, 'o'},
    {"pids", 1, NULL, 'x'},     {NULL, 0, NULL, 0},
};

static void apply(options *o, int option, const char *value) {
  switch (option) {
    case 'h': o->host = value; break;
    case 'P': o->port = (int)whole_number(value, "--port", 1, 65535); break;
    case 'f': o->family = parse_family(value); break;
    case 'c': o->channels = (int)whole_number(value, "--channels", 1, 20000); break;
    case 's': o->subscribers = (int)whole_number(value, "--subscribers", 1, 20000); break;
    case 'Z': o->stalled = (int)whole_number(value, "--stalled", 1, 1000); break;
    case 'p': o->pairs = (int)whole_number(value, "--pairs", 1, 1000); break;
    case 'n': o->connections = (int)whole_number(value, "--connections", 1, 60000); break;
    case 'S': o->size = (size_t)whole_number(value, "--size", 32, 3 << 20); break;
    case 'w': o->window = (int)whole_number(value, "--window", 1, 1 << 20); break;
    case 'r': o->rate = number(value, "--rate"); break;
    case 'M': o->messages = (uint64_t)whole_number(value, "--messages", 1, 1l << 40); break;
    case 'W': o->warmup_seconds = number(value, "--warmup"); break;
    case 'd': o->seconds = number(value, "--seconds"); break;
    case 'Q': o->quick_acks = true; break;
    case 'A': o->acks = false; break;
    case 'Y': o->yardstick = true; break;
    case 'T': o->token = bearer(value); break;
    case 'o': o->org = value; break;
    case 'x': process_list_parse(&o->server, value); break;
    default: refuse("unknown option");
  }
}

options options_parse(int count, char **arguments) {
  options o = {
      .host = "127.0.0.1",
      .family = family_b,
      .channels = 1,
      .subscribers = 1,
      .stalled = 1,
      .pairs = 10,
      .connections = 1,
      .size = 1024,
      .window = 256,
      .warmup_seconds = 1,
      .seconds = 5,
      .acks = true,
      .org = "acme",
  };
  if (count < 2) refuse("a mode is missing");
  o.mode = arguments[1];
  int option;
  while ((option = getopt_long(count - 1, arguments + 1, "", long_options, NULL)) != -1) {
    apply(&o, option, optarg);
  }
  if (o.port == 0) refuse("--port is missing");
  if (strlen(o.org) > 63) refuse("--org");
  if (o.family == family_nats) o.yardstick = true;
  if (o.yardstick) o.acks = false;
  return o;
}
