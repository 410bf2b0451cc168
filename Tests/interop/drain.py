#!/usr/bin/env python3
"""SIGTERM ends a busy node with status 0 within 10 s, and everything acknowledged is there afterwards."""

import sys
import threading
import time

from node import Node, Publisher, Report, SkytaleStream, arguments, mls_application, read_channel

CHANNEL = "acme/drain/lane"


def main() -> int:
    a = arguments(__doc__)
    report = Report("drain")
    with Node(a.bin, keep=a.keep) as node:
        key = node.create_tenant("acme")
        token = node.token(key)
        subscriber = SkytaleStream(node.grpc, token)
        subscriber.subscribe(CHANNEL)
        publisher = Publisher(node.grpc, token)
        stop = threading.Event()

        def burst() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                if not publisher.publish(CHANNEL, mls_application(bytes(200)), producer=3, number=number,
                                         timeout=2):
                    return

        thread = threading.Thread(target=burst, daemon=True)
        thread.start()
        time.sleep(1)
        began = time.monotonic()
        status = node.terminate(15)
        seconds = time.monotonic() - began
        stop.set()
        report.check("SIGTERM under load exits 0", status == 0, f"status {status}")
        report.check("within 10 s", status is not None and seconds <= 10, f"{seconds:.1f} s")
        publisher.ended.wait(10)
        publisher.close()
        subscriber.close()
        thread.join(10)
        report.check("messages were acknowledged before", len(publisher.acked) > 0)
        node.kill9()
        node.start()
        token = node.token(key)
        kept = {m.producer_sequence: m.sequence for m in read_channel(node.grpc, token, CHANNEL)}
        missing = [n for n, sequence in publisher.acked.items() if kept.get(n) != sequence]
        report.check("everything acknowledged is there after the restart", not missing, missing[:5])
        began = time.monotonic()
        status = node.terminate(15)
        report.check("an idle node ends at once with 0", status == 0 and time.monotonic() - began < 5,
                     f"status {status}, {time.monotonic() - began:.1f} s")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
