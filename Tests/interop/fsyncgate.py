#!/usr/bin/env python3
"""A sync that fails must never be retried: what is on disk is unknown then. A preloaded shim lets one
fdatasync of the write-ahead log fail with EIO. The node must end at once with a clear line and exit status
74, acknowledge nothing of it, and a new start must hold everything acknowledged before."""

import os
import shutil
import subprocess
import sys
import tempfile

from node import Node, Publisher, Report, arguments, poll, read_channel

CHANNEL = "acme/fsync/gate"
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
int fdatasync(int fd) {
  static int (*real)(int);
  if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  const char *trigger = getenv("FAIL_SYNC_WHEN");
  if (n > 4 && trigger && memcmp(path + n - 4, ".log", 4) == 0 && unlink(trigger) == 0) {
    errno = EIO;
    return -1;
  }
  return real(fd);
}
"""


def build(folder: str) -> str | None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        return None
    source, shim = os.path.join(folder, "shim.c"), os.path.join(folder, "shim.so")
    with open(source, "w") as file:
        file.write(SHIM)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
    return shim


def publish(node: Node, first: int, last: int) -> dict[int, int]:
    publisher = Publisher(node.grpc, None, window=16)
    for number in range(first, last):
        if not publisher.publish(CHANNEL, b"message %d" % number, producer=1, number=number,
                                 synced=True):
            break
    publisher.finish(10)
    return publisher.acked


def main() -> int:
    a = arguments(__doc__)
    report = Report("fsync gate")
    folder = tempfile.mkdtemp(prefix="posthouse-fsync-")
    try:
        shim = build(folder)
        if not shim:
            return report.skip("NOT RUN: needs a C compiler")
        run(a, report, folder, shim)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return report.finish()


def run(a, report: Report, folder: str, shim: str) -> None:
    trigger = os.path.join(folder, "now")
    with Node(a.bin, auth="open", keep=a.keep,
              environment={"LD_PRELOAD": shim, "FAIL_SYNC_WHEN": trigger}) as node:
        acked = publish(node, 1, 200)
        report.check("all is acknowledged while syncs succeed", len(acked) == 199, len(acked))
        with open(trigger, "w"):
            pass
        late = publish(node, 200, 400)
        status = poll(10, lambda: node.process.poll())
        report.check("the shim failed one sync", not os.path.exists(trigger))
        report.check("the node ended with exit status 74", status == 74, status)
        lines = [line for line in node.log().splitlines() if "not retried" in line]
        report.check("one clear line says why", len(lines) == 1 and "fdatasync" in lines[0],
                     lines[-1:] or node.log()[-300:])
        acked.update(late)
        node.kill9()
        node.start()
        got = {m.producer_sequence: m.sequence for m in read_channel(node.grpc, None, CHANNEL)}
        report.check("everything acknowledged is there after a new start",
                     all(got.get(number) == sequence for number, sequence in acked.items()),
                     f"{len(acked)} acknowledged, {len(got)} there")
        more = publish(node, 1000, 1100)
        report.check("and it goes on from there", len(more) == 100, len(more))


if __name__ == "__main__":
    sys.exit(main())
