#!/usr/bin/env python3
"""A SLIM subscriber stops reading: its sibling on the channel must go on at 95 % or more of the rate it has
without one, as fast as a window allows and at a fixed rate, in both families, and the node's memory stays
bounded. Runs without and with the stalled one take turns, because other processes share the machine; the
best of each count. Uses slimbench of the release build.

--node real     the packages' own nodes, which freeze the channel: the checks FAIL"""

import contextlib
import json
import pathlib
import subprocess
import sys

from node import Node, Report, arguments
from slim_pair import NotInstalled, RealNode

FAMILIES = {"A": "1.4.1", "B": "3.3.8"}
SIZE = 4096
SECONDS = 2
RATE = 2000
ROUNDS = 5
SHARE = 0.95


def load(program: pathlib.Path, address: str, family: str, stalled: int, how: list[str]) -> dict:
    words = [str(program), "fanout", "--port", address.rsplit(":", 1)[1], "--family", family,
             "--size", str(SIZE), "--seconds", str(SECONDS), "--warmup", "0.5", "--stalled", str(stalled)]
    done = subprocess.run(words + how, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        return {"deliveries_per_s": 0, "lost": -1, "err": done.stderr.strip()[-200:]}
    return json.loads(done.stdout)


def compare(report: Report, program: pathlib.Path, address: str, family: str, what: str,
            how: list[str]) -> None:
    alone, beside, trouble = [0.0], [0.0], []
    for _ in range(ROUNDS):
        for stalled, rates in ((0, alone), (1, beside)):
            result = load(program, address, family, stalled, how)
            rates.append(result["deliveries_per_s"])
            if result["lost"] or result["err"]:
                trouble.append(f"{result['lost']} lost {result['err']}")
        if max(beside) >= SHARE * max(alone) > 0 or max(beside) == 0:
            break
    share = max(beside) / max(alone) if max(alone) else 0
    report.check(f"{family}, {what}: the sibling keeps {SHARE:.0%} of its rate", share >= SHARE,
                 f"{max(beside):.0f}/s beside a stalled one, {max(alone):.0f}/s without, {share:.2f}")
    report.check(f"{family}, {what}: it gets everything", not trouble, "; ".join(trouble[:2]))


def main() -> int:
    a = arguments(__doc__, node="own", slimbench="")
    report = Report("slim slow")
    program = pathlib.Path(a.slimbench or pathlib.Path(a.bin) / "slimbench")
    if not report.check("slimbench is built", program.exists(), program):
        return report.finish()
    for family, version in FAMILIES.items():
        with contextlib.ExitStack() as stack:
            try:
                node = stack.enter_context(
                    RealNode(version) if a.node == "real" else Node(a.bin, auth="open", keep=a.keep))
            except NotInstalled as error:
                return report.skip(str(error))
            compare(report, program, node.grpc, family, "full speed", ["--window", "64"])
            compare(report, program, node.grpc, family, f"{RATE} messages/s", ["--rate", str(RATE)])
            if a.node == "own":
                used = node.resident_bytes() >> 20
                report.check(f"{family}: the node holds at most 256 MiB", used <= 256, f"{used} MiB")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
