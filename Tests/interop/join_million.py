#!/usr/bin/env python3
"""A channel with 1,000,000 archived messages (100,000 in ci) gets a new subscriber: its first live message
must come within 5 s, after the replay and in order."""

import struct
import sys
import time

from node import Node, Publisher, Report, SkytaleStream, arguments, mls_application, poll

CHANNEL = "acme/big/channel"
COMMIT_EVERY = 1000


def mls_commit(epoch: int) -> bytes:
    """The clear header of a PublicMessage commit (RFC 9420 section 6.2), then filler."""
    return (b"\x00\x01\x00\x01\x20" + bytes(32) + struct.pack(">Q", epoch)
            + b"\x01" + bytes(4) + b"\x00" + b"\x03" + bytes(120))


def main() -> int:
    a = arguments(__doc__, messages=0)
    messages = a.messages or (1_000_000 if a.counts == "proof" else 100_000)
    report = Report("join a big channel")
    with Node(a.bin, keep=a.keep) as node:
        key = node.create_tenant("acme")
        token = node.token(key)
        began = time.monotonic()
        publisher = Publisher(node.grpc, token, window=4096)
        epoch = 0
        for number in range(1, messages + 1):
            if number % COMMIT_EVERY == 1:
                payload = mls_commit(epoch)
                epoch += 1
            else:
                payload = mls_application(struct.pack(">Q", number) + bytes(60), epoch)
            if not publisher.publish(CHANNEL, payload, producer=9, number=number):
                break
            if number % 100_000 == 0:
                print(f"     join: {number} of {messages} after {time.monotonic() - began:.0f} s",
                      flush=True)
        publisher.finish(60)
        report.check("all are archived", len(publisher.acked) == messages,
                     f"{len(publisher.acked)} of {messages}; {publisher.refused[:2]} {publisher.error}")
        report.number(f"{messages} messages published in {time.monotonic() - began:.0f} s")

        token = node.token(key)
        live = Publisher(node.grpc, token)
        for cold in (False, True):
            if cold:
                live.close()
                node.kill9()
                node.start()
                token = node.token(key)
                live = Publisher(node.grpc, token)
            words = "after a restart: " if cold else ""
            reader = SkytaleStream(node.grpc, token, keep_payloads=False)
            subscribed = time.monotonic()
            reader.subscribe(CHANNEL)
            # The subscribe and the publish travel on two connections; both orders are right.
            live.publish(CHANNEL, mls_application(b"live", epoch), producer=10, number=1 + cold)
            wanted = messages + 1 + cold
            arrived = poll(20, lambda: reader.sequences and reader.sequences[-1] >= wanted)
            seconds = time.monotonic() - subscribed
            report.number(f"{words}first live message after {seconds:.2f} s, "
                          f"{len(reader.sequences) - 1} replayed")
            report.check(f"{words}first live message within 5 s", arrived and seconds <= 5,
                         f"last sequence {reader.sequences[-1:]}, wanted {wanted}")
            got = reader.sequences
            report.check(f"{words}replay and live traffic in one order without a gap",
                         got == list(range(got[0], got[0] + len(got))) if got else False)
            reader.close()
        live.close()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
