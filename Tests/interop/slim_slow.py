#!/usr/bin/env python3
"""A SLIM subscriber stops reading: its sibling on the channel must go on at 95 % or more of the rate it has
without one, in both families, with the archive (which the stalled one is left to read by a cursor of its own) and
without (it is disconnected), and the node's memory stays bounded.

Measured inside one run of slimbench, on the same connections: only the stalled subscriber comes and goes. A channel
lives on one of the node's loops, and so does each connection; two runs that are placed otherwise differ by up to
1.7 times, without any stall. What counts is the median, over all pairs of neighbouring tenths of a second, of the
rate beside a stalled one to the rate without. On a machine that others use it is known to 1 to 3 % after 40 pairs;
below the bound, more are added: 160, then 400 in all.

Messages of the full-speed runs with the archive are small: with 4 KiB it is the disk that is measured, which
writes 250 MB/s in bursts. A fixed rate with 4 KiB shows that the sibling's latency stays, too.

--node real     the packages' own nodes, which freeze the channel: the checks FAIL"""

import contextlib
import json
import pathlib
import statistics
import subprocess
import sys

from node import Node, Report, arguments
from slim_pair import NotInstalled, RealNode

FAMILIES = {"A": "1.4.1", "B": "3.3.8"}
SHARE = 0.95
PAIRS = [40, 120, 240]      # one after the other, as long as the bound is not met
RATE = 2000
# What is published: (its name, options of slimbench, how often it may be tried)
FAST = {"on": ["--size", "256", "--window", "16"], "off": ["--size", "4096", "--window", "64"]}
PACED = ["--size", "4096", "--rate", str(RATE), "--seconds", "0.25"]


class Pairs:
    """What the sibling got, without and beside a stalled one."""

    def __init__(self, program: pathlib.Path, address: str, family: str, options: list[str]):
        self.command = [str(program), "stall", "--port", address.rsplit(":", 1)[1], "--family", family,
                        "--warmup", "0.1", "--seconds", "0.1", *options]
        self.without: list[dict] = []
        self.beside: list[dict] = []
        self.trouble = ""

    def add(self, count: int) -> None:
        done = subprocess.run([*self.command, "--pairs", str(count)], capture_output=True, text=True,
                              timeout=300)
        if done.returncode != 0:
            self.trouble = done.stderr.strip()[-200:] or f"slimbench: exit status {done.returncode}"
            return
        result = json.loads(done.stdout)
        for segment in result["segments"]:
            (self.beside if segment["beside"] else self.without).append(segment)
        for what in ("lost", "gaps", "dups", "bad_macs", "errs"):
            if result[what]:
                self.trouble += f"{result[what]} {what} {result['err']} "

    def share(self) -> float:
        shares = [b["per_s"] / w["per_s"] for b, w in zip(self.beside, self.without) if w["per_s"]]
        return statistics.median(shares) if shares else 0

    def median(self, which: list[dict], what: str) -> float:
        return statistics.median(one[what] for one in which) if which else 0


def compare(report: Report, pairs: Pairs, what: str, counts: list[int]) -> None:
    for count in counts:
        pairs.add(count)
        if pairs.trouble or pairs.share() >= SHARE:
            break
    report.check(f"{what}: the sibling keeps {SHARE:.0%} of its rate", pairs.share() >= SHARE,
                 f"{pairs.share():.3f} over {len(pairs.beside)} pairs; "
                 f"{pairs.median(pairs.beside, 'per_s'):.0f}/s beside a stalled one, "
                 f"{pairs.median(pairs.without, 'per_s'):.0f}/s without; p99 "
                 f"{pairs.median(pairs.beside, 'p99_us'):.0f} and "
                 f"{pairs.median(pairs.without, 'p99_us'):.0f} us")
    report.check(f"{what}: it gets everything", not pairs.trouble, pairs.trouble)
    report.number(f"{what} {pairs.share():.3f} ({len(pairs.beside)} pairs)")


def main() -> int:
    a = arguments(__doc__, node="own", slimbench="")
    report = Report("slim slow")
    program = pathlib.Path(a.slimbench or pathlib.Path(a.bin) / "slimbench")
    if not report.check("slimbench is built", program.exists(), program):
        return report.finish()
    for family, version in FAMILIES.items():
        for archive in ("on", "off") if a.node == "own" else ("off",):
            with contextlib.ExitStack() as stack:
                try:
                    node = stack.enter_context(
                        RealNode(version) if a.node == "real" else
                        Node(a.bin, auth="open", keep=a.keep,
                             extra=["--set", f"archive.enabled={'true' if archive == 'on' else 'false'}"]))
                except NotInstalled as error:
                    return report.skip(str(error))
                what = f"{family}, archive {archive}" if a.node == "own" else f"{family}, {version}'s node"
                for speed, options, counts in (
                        ("full speed", FAST[archive], PAIRS), (f"{RATE}/s", PACED, [8])):
                    pairs = Pairs(program, node.grpc, family, options)
                    compare(report, pairs, f"{what}, {speed}", counts)
                if a.node == "own":
                    used = node.resident_bytes() >> 20
                    report.check(f"{what}: the node holds at most 256 MiB", used <= 256, f"{used} MiB")
                    stalls(report, node, what, archive)
    return report.finish()


def stalls(report: Report, node: Node, what: str, archive: str) -> None:
    """Did the stalled ones stall, and what became of them?"""
    metrics = dict(line.rsplit(" ", 1) for line in node.metrics().splitlines() if line[:1] not in "#")
    ended = float(metrics["posthouse_slim_overflows_total"])
    if archive == "on":
        report.check(f"{what}: nobody was disconnected", ended == 0, ended)
    else:
        report.check(f"{what}: whose queue ran over was disconnected", ended >= PAIRS[0], ended)


if __name__ == "__main__":
    sys.exit(main())
