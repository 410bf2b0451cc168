#!/usr/bin/env python3
"""kill -9 in the middle of a burst, restart on the same data, retry what was not acknowledged; again and
again. The archive must be gapless, hold every acknowledged message where it was acknowledged, no message
twice; metered must equal acknowledged; `channel verify` must agree.  200 rounds (proof), 20 (ci)."""

import random
import struct
import sys
import threading
import time

from node import Node, Publisher, Report, arguments, poll, read_channel

CHANNELS = ["acme/kill/one", "acme/kill/two"]
PRODUCERS = 4  # two to a channel


class Producer:
    """Numbers its messages 1, 2, 3, ...; remembers what was acknowledged."""

    def __init__(self, identity: int, channel: str):
        self.identity = identity
        self.channel = channel
        self.next = 1
        self.acked: dict[int, int] = {}
        self.unanswered: list[int] = []
        self.trouble: list[str] = []

    def payload(self, number: int) -> bytes:
        body = random.Random(self.identity << 32 | number).randbytes(16 + number % 700)
        return struct.pack(">QQ", self.identity, number) + body

    def burst(self, address: str, token: str, stop: threading.Event, limit: int = 1 << 30) -> None:
        """Retries what is open, then publishes on until the node dies or `stop`."""
        publisher = Publisher(address, token, window=200)
        sent: list[int] = []

        def send(number: int) -> bool:
            sent.append(number)
            return publisher.publish(self.channel, self.payload(number), producer=self.identity,
                                     number=number, synced=number % 5 == 0)

        for number in list(self.unanswered):
            if not send(number):
                break
        count = 0
        while not stop.is_set() and not publisher.ended.is_set() and count < limit:
            if not send(self.next):
                break
            self.next += 1
            count += 1
        if stop.is_set() or count >= limit:
            publisher.finish(30)
        else:
            publisher.ended.wait(10)
            publisher.close()
        for number, sequence in publisher.acked.items():
            first = self.acked.setdefault(number, sequence)
            if first != sequence:
                self.trouble.append(f"producer {self.identity} number {number}: {first}, then {sequence}")
        for number, code in publisher.refused:
            self.trouble.append(f"producer {self.identity} number {number}: refused: {code}")
        # A number whose send failed half-way was counted by `sent`: it is retried like the rest.
        self.unanswered = sorted((set(sent) | set(self.unanswered)) - set(self.acked))
        self.next = max(self.next, max(sent, default=0) + 1)


def check_archive(node: Node, token: str, producers: list[Producer]) -> list[str]:
    """What is wrong with the channels as they are read now."""
    wrong: list[str] = []
    for channel in CHANNELS:
        mine = {p.identity: p for p in producers if p.channel == channel}
        seen: dict[tuple[int, int], int] = {}
        expected = 1
        for message in read_channel(node.grpc, token, channel):
            if message.sequence != expected:
                wrong.append(f"{channel}: sequence {message.sequence} where {expected} was due")
                expected = message.sequence
            expected += 1
            identity, number = struct.unpack(">QQ", message.payload[:16])
            producer = mine.get(identity)
            if producer is None or message.payload != producer.payload(number):
                wrong.append(f"{channel}: {message.sequence}: not the bytes that were published")
                continue
            if (identity, number) in seen:
                wrong.append(f"{channel}: producer {identity} number {number} twice")
            seen[identity, number] = message.sequence
        for identity, producer in mine.items():
            for number, sequence in producer.acked.items():
                if seen.get((identity, number)) != sequence:
                    wrong.append(f"{channel}: producer {identity} number {number} was acknowledged as "
                                 f"{sequence}, is at {seen.get((identity, number))}")
    return wrong


def main() -> int:
    a = arguments(__doc__, rounds=0, seed=1)
    rounds = a.rounds or (200 if a.counts == "proof" else 20)
    dice = random.Random(a.seed)
    report = Report("kill loop")
    producers = [Producer(i + 1, CHANNELS[i % len(CHANNELS)]) for i in range(PRODUCERS)]
    wrong: list[str] = []
    kills_in_burst = 0
    with Node(a.bin, keep=a.keep) as node:
        key = node.create_tenant("acme")
        for round_number in range(1, rounds + 1):
            token = node.token(key)
            stop = threading.Event()
            threads = [threading.Thread(target=p.burst, args=(node.grpc, token, stop), daemon=True)
                       for p in producers]
            before = sum(len(p.acked) for p in producers)
            for thread in threads:
                thread.start()
            time.sleep(dice.uniform(0.1, 0.8))  # how far into the burst the kill comes
            node.kill9()
            for thread in threads:
                thread.join(60)
            stop.set()
            if sum(len(p.unanswered) for p in producers):
                kills_in_burst += 1
            node.start()
            # The last round ends whole: everything open is retried, then nothing is.
            if round_number == rounds:
                token = node.token(key)
                for p in producers:
                    p.burst(node.grpc, token, threading.Event(), limit=1)
            if round_number % 10 == 0 or round_number == rounds:
                token = node.token(key)
                wrong += check_archive(node, token, producers)
            acked = sum(len(p.acked) for p in producers)
            if round_number % 10 == 0:
                print(f"     kill loop: round {round_number} of {rounds}, {acked} acknowledged "
                      f"(+{acked - before})", flush=True)
            if wrong:
                break
        wrong += [line for p in producers for line in p.trouble]
        acked = sum(len(p.acked) for p in producers)
        report.number(f"{rounds} rounds, {acked} acknowledged, {kills_in_burst} kills with messages open")
        report.check("gapless, nothing acknowledged missing or moved, nothing twice", not wrong,
                     "; ".join(wrong[:5]))
        report.check("the kills came in the middle of bursts", kills_in_burst >= rounds // 2)
        report.check("every message is answered in the end", not any(p.unanswered for p in producers))
        metered = poll(15, lambda: node.usage_messages(key) == acked and acked)
        report.check("metered equals acknowledged", metered == acked,
                     f"{node.usage_messages(key)} metered, {acked} acknowledged")
        verified = node.posthouse("channel", "verify", check=False)
        report.check("channel verify agrees", verified.returncode == 0,
                     (verified.stdout + verified.stderr)[-300:].strip())
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
