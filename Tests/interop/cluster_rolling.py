#!/usr/bin/env python3
"""A rolling restart of three nodes (ops/dev/cluster): each is told to end and started again on the same ports, while
ChannelService publishers and readers go on through whichever node is there, and published agents on the two others
talk over channels that the one restarting owns. Nothing acknowledged is lost, doubled or moved; readers miss nothing;
the agents' conversations go on.  --rounds N"""

import concurrent.futures
import contextlib
import struct
import sys
import threading
import time

import grpc

from cluster_agents import FAMILIES, Chat, Talks, begin, cluster, drawn
from node import Publisher, Report, Stubs, arguments, dial, poll, read_channel
from slim_pair import NotInstalled, slim_python
from test_cluster import Cluster, agree

NODES = ["n1", "n2", "n3"]


class Producer(threading.Thread):
    """Publishes 1, 2, 3, ...; when its node goes, it goes on with what is open at the next one."""

    def __init__(self, c: Cluster, identity: int, channel: str, first: int):
        super().__init__(daemon=True)
        self.c, self.identity, self.channel, self.at = c, identity, channel, first
        self.acked: dict[int, int] = {}
        self.sent = 0
        self.moves = 0
        self.trouble: list[str] = []
        self.over = threading.Event()

    def payload(self, number: int) -> bytes:
        return struct.pack(">QQ", self.identity, number) + bytes(number % 900)

    def run(self) -> None:
        while not (self.over.is_set() and len(self.acked) == self.sent):
            self.visit(self.c.nodes[NODES[self.at % len(NODES)]]["grpc"])
            if not self.over.is_set() or len(self.acked) < self.sent:
                self.at += 1
                self.moves += 1
                time.sleep(0.1)

    def visit(self, address: str) -> None:
        publisher = Publisher(address, None, window=100)
        try:
            for number in [n for n in range(1, self.sent + 1) if n not in self.acked]:
                if not self.send(publisher, number):
                    return
            while not self.over.is_set():
                self.sent += 1
                if not self.send(publisher, self.sent) or publisher.refused:
                    return
                time.sleep(0.004)
            publisher.finish(20)
        finally:
            publisher.ended.wait(0.2)
            publisher.close()
            self.note(publisher)

    def send(self, publisher: Publisher, number: int) -> bool:
        return publisher.publish(self.channel, self.payload(number), producer=self.identity, number=number,
                                 synced=number % 10 == 0)

    def note(self, publisher: Publisher) -> None:
        for number, sequence in publisher.acked.items():
            first = self.acked.setdefault(number, sequence)
            if first != sequence:
                self.trouble.append(f"{number} was acknowledged as {first}, then as {sequence}")
        # What a node that goes, or an owner that is away, does not take is sent again.
        for number, code in publisher.refused:
            if code not in ("unavailable", "draining"):
                self.trouble.append(f"{number} was refused: {code}")


class Reader(threading.Thread):
    """Follows a channel; when its node goes, it reads on at the next one."""

    def __init__(self, c: Cluster, channel: str, first: int):
        super().__init__(daemon=True)
        self.c, self.channel, self.at = c, channel, first
        self.next = 1
        self.trouble: list[str] = []
        self.moves = 0
        self.over = threading.Event()
        self.call = None

    def run(self) -> None:
        pb, services = Stubs.channel()
        while not self.over.is_set():
            connection = dial(self.c.nodes[NODES[self.at % len(NODES)]]["grpc"])
            try:
                self.call = services.ChannelServiceStub(connection).Read(
                    pb.ReadRequest(channel=self.channel, from_sequence=self.next, follow=True), timeout=300)
                for message in self.call:
                    if message.sequence != self.next:
                        self.trouble.append(f"{message.sequence} where {self.next} was due")
                        self.next = message.sequence
                    self.next += 1
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
                    self.trouble.append(str(error.code()))
            finally:
                connection.close()
            self.at += 1
            self.moves += 1
            time.sleep(0.1)

    def end(self) -> None:
        self.over.set()
        if self.call:
            self.call.cancel()
        self.join(10)


class Load:
    """Two producers and a reader for a channel of each node."""

    def __init__(self, c: Cluster):
        self.c = c
        self.channels = {owner: drawn(c, owner, "acme/rolling/c*") for owner in NODES}
        self.producers = [
            Producer(c, 10 * i + j + 1, channel, i + j) for i, channel in enumerate(self.channels.values())
            for j in range(2)]
        self.readers = [Reader(c, channel, i + 1) for i, channel in enumerate(self.channels.values())]
        for thread in [*self.producers, *self.readers]:
            thread.start()

    def acknowledged(self) -> int:
        return sum(len(p.acked) for p in self.producers)

    def end(self, r: Report) -> None:
        for producer in self.producers:
            producer.over.set()
        for producer in self.producers:
            producer.join(60)
        r.check("everything is acknowledged in the end", not any(p.is_alive() for p in self.producers),
                [(p.identity, p.sent, len(p.acked)) for p in self.producers if p.is_alive()])
        trouble = [f"producer {p.identity}: {line}" for p in self.producers for line in p.trouble]
        r.check("no acknowledgement changed, nothing was refused for good", not trouble, trouble[:5])
        for i, (owner, channel) in enumerate(self.channels.items()):
            self.check(r, owner, channel, self.readers[i])
        r.number(f"{self.acknowledged()} acknowledged, {sum(p.moves for p in self.producers)} times a publisher "
                 f"moved, {sum(reader.moves for reader in self.readers)} times a reader")

    def check(self, r: Report, owner: str, channel: str, reader: Reader) -> None:
        wrong: list[str] = []
        mine = {p.identity: p for p in self.producers if p.channel == channel}
        last = dict.fromkeys(mine, 0)
        seen: dict[tuple[int, int], int] = {}
        expected = 1
        for message in read_channel(self.c.nodes["n1"]["grpc"], None, channel):
            if message.sequence != expected:
                wrong.append(f"sequence {message.sequence} where {expected} was due")
            expected = message.sequence + 1
            identity, number = struct.unpack(">QQ", message.payload[:16])
            if (identity, number) in seen:
                wrong.append(f"{number} of producer {identity} twice")
            elif number <= last[identity]:
                wrong.append(f"{number} of producer {identity} after {last[identity]}")
            seen[identity, number] = message.sequence
            last[identity] = number
        wrong += [f"{number} of producer {identity} was acknowledged as {sequence}, is at "
                  f"{seen.get((identity, number))}" for identity, producer in mine.items()
                  for number, sequence in producer.acked.items() if seen.get((identity, number)) != sequence]
        r.check(f"channel of {owner}: gapless, in order, nothing acknowledged missing, nothing twice",
                not wrong and expected > 100, "; ".join(wrong[:5]) or f"{expected - 1} messages")
        r.check(f"channel of {owner}: its reader got all, once, in order",
                poll(20, lambda: reader.next == expected) and not reader.trouble,
                reader.trouble[:3] or f"{reader.next - 1} of {expected - 1}")
        reader.end()


def restart(r: Report, t: Talks, versions: list[str], name: str) -> None:
    """One node, under agents on the two others."""
    c = t.c
    first, second = [n for n in NODES if n != name]
    place = (first, second, name)
    chat = Chat(t, place)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        talks = begin(t, chat, pool, [(f"while {name} restarts", version, scenario, place)
                                      for version in versions for scenario in ("p2p-mls", "grp-mls")],
                      count=t.a.n or 30, gap=0.5)
        began = time.monotonic()
        ended = c.run("kill", name, "--term")
        r.check(f"{name} ends when told", ended.returncode == 0, ended.stderr)
        gone = time.monotonic()
        started = c.run("start", name)
        r.check(f"{name} serves again", started.returncode == 0, started.stderr)
        r.number(f"{name} drained in {gone - began:.1f} s, was back {time.monotonic() - gone:.1f} s later")
        r.check("the conversations were in the middle", not any(talk.done() for talk in talks))
        for talk in talks:
            talk.result()
    r.check("all agree again", poll(30, lambda: agree(c, NODES)))
    chat.end(lambda what, condition, detail="": r.check(
        f"Skytale while {name} restarts: {what}", condition, detail))


def main() -> int:
    a = arguments(__doc__, n=0, rounds=0, versions=",".join(FAMILIES))
    r = Report("rolling restart")
    versions = [version for version in a.versions.split(",") if version]
    with contextlib.ExitStack() as stack:
        try:
            for version in versions:
                slim_python(version)
        except NotInstalled as error:
            return r.skip(str(error))
        c = stack.enter_context(cluster(r, a, "open"))
        t = Talks(r, c, a, "keyless")
        load = Load(c)
        for _ in range(a.rounds or (3 if a.counts == "proof" else 1)):
            for name in ("n2", "n3", "n1"):
                before = load.acknowledged()
                restart(r, t, versions, name)
                r.check("the load went on", load.acknowledged() > before, load.acknowledged() - before)
        load.end(r)
    return r.finish()


if __name__ == "__main__":
    sys.exit(main())
