#!/usr/bin/env python3
"""A subscriber stalls for a minute (15 s in ci), then reads again: it must get every message in order, and
the rate of its sibling must stay within 5 % of what it was before."""

import sys
import threading
import time

from node import Node, Report, SkytaleStream, arguments, mls_application, poll

CHANNEL = "acme/slow/lane"
RATE = 500        # messages a second, open loop
SIZE = 8 << 10    # bytes: 4 MB/s fills every window and queue between the two within seconds


class Pace(threading.Thread):
    """Publishes at a fixed rate whatever happens."""

    def __init__(self, stream: SkytaleStream):
        super().__init__(daemon=True)
        self.stream = stream
        self.count = 0
        self.stop = threading.Event()

    def run(self) -> None:
        began = time.monotonic()
        while not self.stop.is_set():
            due = int((time.monotonic() - began) * RATE)
            while self.count < due:
                self.count += 1
                self.stream.publish(CHANNEL, mls_application(
                    self.count.to_bytes(8, "big") + bytes(SIZE)))
            self.stop.wait(0.004)


def rate_between(stream: SkytaleStream, start: float, end: float) -> float:
    return sum(start <= at < end for at in stream.arrivals) / (end - start)


def main() -> int:
    a = arguments(__doc__)
    stalled_seconds = 60 if a.counts == "proof" else 15
    calm_seconds = 10
    report = Report("slow subscriber")
    with Node(a.bin, keep=a.keep) as node:
        token = node.token(node.create_tenant("acme"))
        slow = SkytaleStream(node.grpc, token, keep_payloads=False)
        sibling = SkytaleStream(node.grpc, token, keep_payloads=False)
        source = SkytaleStream(node.grpc, token)
        slow.subscribe(CHANNEL)
        sibling.subscribe(CHANNEL)
        time.sleep(1)
        pace = Pace(source)
        pace.start()
        report.check("both get the first messages",
                     poll(20, lambda: len(slow.sequences) > 100 and len(sibling.sequences) > 100))
        time.sleep(1)
        calm = time.monotonic()
        time.sleep(calm_seconds)
        memory = node.resident_bytes()
        stalled = time.monotonic()
        slow.stall()
        time.sleep(stalled_seconds)
        again = time.monotonic()
        behind = len(sibling.sequences) - len(slow.sequences)
        grown = node.resident_bytes() - memory
        slow.go_on()
        pace.stop.set()
        pace.join()
        total = pace.count
        report.check("the sibling gets everything",
                     poll(30, lambda: len(sibling.sequences) >= total), f"{len(sibling.sequences)} of {total}")
        report.check("the slow one gets everything after its stall",
                     poll(90, lambda: len(slow.sequences) >= total),
                     f"{len(slow.sequences)} of {total}, was {behind} behind, error {slow.error}")
        for name, stream in (("slow", slow), ("sibling", sibling)):
            got = stream.sequences
            report.check(f"{name}: every sequence once, in order",
                         got == list(range(1, total + 1)), f"{len(got)} got")
        before = rate_between(sibling, calm, stalled)
        # The first second of the stall belongs to the change.
        during = rate_between(sibling, stalled + 1, again)
        report.number(f"sibling {before:.0f}/s before, {during:.0f}/s during {stalled_seconds} s of stall, "
                      f"{behind} messages behind")
        report.check("the stall really held messages back", behind > RATE * stalled_seconds // 4, behind)
        report.check("sibling's rate within 5 %", abs(during - before) <= 0.05 * before)
        report.check("the node's memory grew by less than 96 MiB", grown < 96 << 20, f"{grown >> 20} MiB")
        for stream in (slow, sibling, source):
            stream.close()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
