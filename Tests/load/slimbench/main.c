// slimbench: measures any SLIM node with the same client, on both of SLIM's wires. One thread, so that two cores
// hold it and the node.
#include "modes.h"

#include <signal.h>
#include <string.h>
#include <unistd.h>

int main(int count, char **arguments) {
  static const struct {
    const char *name;
    int (*run)(const options *);
  } modes[] = {{"fanout", run_fanout}, {"stall", run_stall}, {"idle", run_idle}};
  signal(SIGPIPE, SIG_IGN);
  options o = options_parse(count, arguments);
  // Whatever a node does, a run ends.
  alarm((unsigned)((o.warmup_seconds + o.seconds) * 2 * o.pairs) + 300);
  raise_file_limit();
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
    if (strcmp(o.mode, modes[i].name) == 0) return modes[i].run(&o);
  }
  fprintf(stderr, "slimbench: no mode '%s': fanout, stall or idle\n", o.mode);
  return 1;
}
