// loadgen: the load client of the benchmarks. One thread, so that two cores hold it and the server.
#include "modes.h"

#include <signal.h>
#include <string.h>

int main(int count, char **arguments) {
  static const struct {
    const char *name;
    int (*run)(const options *);
  } modes[] = {
      {"fanout", run_fanout},
      {"publish", run_publish},
      {"rawdurable", run_rawdurable},
      {"idle", run_idle},
  };
  signal(SIGPIPE, SIG_IGN);
  options o = options_parse(count, arguments);
  raise_file_limit();
  for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
    if (strcmp(o.mode, modes[i].name) == 0) return modes[i].run(&o);
  }
  fprintf(stderr, "loadgen: no mode '%s': fanout, publish, rawdurable or idle\n", o.mode);
  return 1;
}
