#include "measure.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

void process_list_parse(process_list *list, const char *text) {
  while (*text != 0 && list->count < 64) {
    int id = atoi(text);
    if (id > 0) {
      list->ids[list->count] = id;
      list->count += 1;
    }
    text += strcspn(text, ",");
    if (*text == ',') text += 1;
  }
}

/// utime + stime of /proc/PID/stat: all threads, also those that have ended. Resolution: one tick (10 ms).
static double process_cpu(int id) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/stat", id);
  FILE *file = fopen(path, "r");
  if (file == NULL) return 0;
  char text[2048];
  size_t count = fread(text, 1, sizeof text - 1, file);
  fclose(file);
  text[count] = 0;
  // The command name may hold spaces and brackets: fields are counted from the last bracket.
  const char *fields = strrchr(text, ')');
  unsigned long long user = 0;
  unsigned long long system = 0;
  if (fields == NULL) return 0;
  int found = sscanf(
      fields + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system);
  if (found != 2) return 0;
  return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static double own_cpu(void) {
  struct rusage use;
  getrusage(RUSAGE_SELF, &use);
  double user = (double)use.ru_utime.tv_sec + (double)use.ru_utime.tv_usec / 1e6;
  double system = (double)use.ru_stime.tv_sec + (double)use.ru_stime.tv_usec / 1e6;
  return user + system;
}

static void read_machine(cpu_account *account) {
  FILE *file = fopen("/proc/stat", "r");
  if (file == NULL) return;
  unsigned long long user, nice, system, idle, wait, irq, softirq, stolen;
  int found = fscanf(
      file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &user, &nice, &system, &idle, &wait, &irq,
      &softirq, &stolen);
  fclose(file);
  if (found != 8) return;
  double tick = (double)sysconf(_SC_CLK_TCK);
  account->busy = (double)(user + nice + system + irq + softirq) / tick;
  account->stolen = (double)stolen / tick;
  account->waiting = (double)wait / tick;
}

cpu_account cpu_account_read(const process_list *server) {
  cpu_account account = {0};
  account.at = (double)clock_now_ns() / 1e9;
  for (int i = 0; i < server->count; i++) account.server += process_cpu(server->ids[i]);
  account.client = own_cpu();
  read_machine(&account);
  return account;
}

void cpu_account_print(FILE *out, cpu_account from, cpu_account to) {
  double seconds = to.at - from.at;
  double server = to.server - from.server;
  double client = to.client - from.client;
  double foreign = to.busy - from.busy - server - client;
  if (foreign < 0) foreign = 0;
  fprintf(
      out,
      ",\"secs\":%.3f,\"server_cores\":%.3f,\"client_cores\":%.3f,\"foreign_cores\":%.3f,"
      "\"steal_cores\":%.3f,\"iowait_cores\":%.3f",
      seconds, server / seconds, client / seconds, foreign / seconds,
      (to.stolen - from.stolen) / seconds, (to.waiting - from.waiting) / seconds);
}
