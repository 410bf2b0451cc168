#!/usr/bin/env python3
"""Live slot moves under ChannelService load: three real nodes, producers and followers on each of them, nodes that
drain and come back so that slots move with their channels; one is killed in the middle. Sequences have no gap, nothing is
doubled, reordered, or lost that was acknowledged.  20 live moves (ci), 300 (proof)."""

import json
import shutil
import struct
import sys
import tempfile
import threading
import time

from node import Publisher, Report, Stubs, arguments, dial, poll, read_channel
from test_cluster import Cluster

CHANNELS = 48
PER_SECOND = 6  # of each producer; two to a channel


class Timed(Publisher):
    """Knows how long each answer took."""

    class Acks(dict):
        def __init__(self):
            super().__init__()
            self.sent: dict[int, float] = {}
            self.waits: list[float] = []

        def __setitem__(self, number: int, sequence: int) -> None:
            super().__setitem__(number, sequence)
            self.waits.append(time.monotonic() - self.sent.pop(number))

    def __init__(self, address: str):
        super().__init__(address, None)
        self.acked = Timed.Acks()

    def publish(self, channel: str, payload: bytes, **more) -> bool:
        self.acked.sent[more["number"]] = time.monotonic()
        return super().publish(channel, payload, **more)


class Producer(threading.Thread):
    """Publishes 1, 2, 3, ... to its channels by one node, and knows what was acknowledged."""

    def __init__(self, name: str, identity: int, address: str, channels: list[str]):
        super().__init__(daemon=True)
        self.node, self.identity, self.address, self.channels = name, identity, address, channels
        self.over = threading.Event()
        self.publishers: dict[str, Publisher] = {}
        self.sent = {channel: 0 for channel in channels}

    def run(self) -> None:
        self.publishers = {c: Timed(self.address) for c in self.channels}
        while not self.over.is_set():
            began = time.monotonic()
            for channel, publisher in self.publishers.items():
                self.sent[channel] += 1
                publisher.publish(
                    channel, struct.pack(">QQ", self.identity, self.sent[channel]) + bytes(200),
                    producer=self.identity, number=self.sent[channel])
            self.over.wait(max(0.0, 1 / PER_SECOND - (time.monotonic() - began)))

    def finish(self) -> None:
        self.over.set()
        self.join(60)
        for publisher in self.publishers.values():
            publisher.finish(30)


class Follower(threading.Thread):
    """Reads a channel from its first message on, by one node."""

    def __init__(self, address: str, channel: str):
        super().__init__(daemon=True)
        self.channel = channel
        self.got: list[tuple[int, bytes]] = []
        self.error = None
        self.connection = dial(address)
        self.pb, services = Stubs.channel()
        self.call = services.ChannelServiceStub(self.connection).Read(
            self.pb.ReadRequest(channel=channel, from_sequence=1, follow=True))

    def run(self) -> None:
        try:
            for message in self.call:
                self.got.append((message.sequence, message.payload[:16]))
        except Exception as error:  # noqa: BLE001: whatever ended it
            self.error = error

    def close(self) -> None:
        self.call.cancel()
        self.connection.close()


def owners(c: Cluster) -> list[str]:
    slots = c.json("n1", "ring", "show", "--slots")
    return [row["owner"] for row in sorted(slots, key=lambda row: row["slot"])]


def slots_of(c: Cluster, names) -> dict[str, int]:
    """Of all channels; each is on the disk of its owner only."""
    return {row["channel"]: int(row["slot"]) for n in names for row in c.json(n, "channel", "ls") or []}


def settled(c: Cluster, names) -> bool:
    rings = [c.json(n, "ring", "show", "--here") for n in names]
    return all(rings) and len({r["revision"] for r in rings}) == 1 and rings[0]["moving"] == 0


def check(r: Report, address: str, channel: str, producers: list[Producer],
          followers: list[Follower], broken: set[str]) -> bool:
    """One channel, as it is read now, against what its producers and followers know."""
    wrong: list[str] = []
    whole = [(m.sequence, m.payload[:16]) for m in read_channel(address, None, channel)]
    if [s for s, _ in whole] != list(range(1, len(whole) + 1)):
        wrong.append("a gap in the sequences")
    if len({p for _, p in whole}) != len(whole):
        wrong.append("a message twice")
    for p in producers:
        mine = p.publishers[channel]
        if mine.refused or (mine.error and p.node not in broken):
            wrong.append(f"{p.node}: refused {mine.refused[:3]}, {mine.error}")
        for number, sequence in mine.acked.items():
            if sequence > len(whole) \
                    or whole[sequence - 1][1] != struct.pack(">QQ", p.identity, number):
                wrong.append(f"{p.node}: {number} was acknowledged at {sequence} and is not there")
                break
        order = [struct.unpack(">QQ", body)[1] for _, body in whole
                 if struct.unpack(">QQ", body)[0] == p.identity]
        if order != sorted(order):
            wrong.append(f"{p.node}: out of order")
        if not mine.acked:
            wrong.append(f"{p.node}: nothing acknowledged")
    for f in followers:
        if f.got != whole[:len(f.got)] or (len(f.got) != len(whole) and f.error is None):
            wrong.append(f"a follower got {len(f.got)} of {len(whole)}, {f.got[-1:]} {f.error}")
    if wrong:
        r.check(f"{channel}", False, wrong[:4])
    return not wrong


def main() -> int:
    a = arguments(__doc__)
    r = Report("cluster-moves")
    wanted = 300 if a.counts == "proof" else 20
    home = tempfile.mkdtemp(prefix="ph-moves-")
    c = Cluster(a, 3, home, auth="open")
    everyone = ["n1", "n2", "n3"]
    try:
        if not r.check("three nodes serve", c.ready.wait(90), c.lines):
            return r.finish()
        channels = [f"acme/moves/c{i}" for i in range(CHANNELS)]
        # Tenants move with their slots.
        orgs = [f"org{i}" for i in range(12)]
        for org in orgs:
            c.posthouse("n1", "tenant", "create", org)
        producers = []
        for at, name in enumerate(everyone):
            mine = [ch for i, ch in enumerate(channels) if i % 3 != at]
            producers.append(Producer(name, at + 1, c.nodes[name]["grpc"], mine))
        followers = {ch: [Follower(c.nodes[everyone[(i + k) % 3]]["grpc"], ch) for k in (0, 1)]
                     for i, ch in enumerate(channels)}
        for p in producers:
            p.start()
        for f in sum(followers.values(), []):
            f.start()
        r.check("everybody publishes", poll(30, lambda: all(
            len(p.publishers.get(ch, p).acked) > 2 if ch in p.publishers else False
            for p in producers for ch in p.channels)))
        slots = slots_of(c, everyone)
        r.check("each channel is at one node", sorted(slots) == sorted(channels), len(slots))
        live, moved, rounds, longest = 0, 0, 0, 0.0
        before = owners(c)

        def after(what: str, names=everyone) -> bool:
            nonlocal live, moved, before, longest
            began = time.monotonic()
            done = poll(240, lambda: settled(c, names), 0.2)
            now = owners(c)
            live += sum(1 for slot in slots.values() if before[slot] != now[slot])
            moved += sum(1 for x, y in zip(before, now) if x != y)
            longest = max(longest, time.monotonic() - began)
            before = now
            return r.check(what, done, c.json("n1", "ring", "show"))

        while live < wanted:
            name = everyone[(1 + rounds) % 3]
            drained = c.posthouse("n2", "node", "drain", name)
            r.check(f"node drain {name}", drained.returncode == 0, drained.stderr)
            if not after(f"{name} hands its slots over"):
                break
            r.check(f"{name} owns nothing", name not in before)
            joined = c.posthouse("n3", "node", "join", name)
            r.check(f"node join {name}", joined.returncode == 0, joined.stderr)
            if not after(f"{name} has slots again"):
                break
            rounds += 1
        r.check(f"at least {wanted} slots moved under load", live >= wanted, live)
        r.number(f"{live} moves of slots in use, {moved} in all; the longest round took {longest:.1f} s")

        # A fourth joins, gets a share with all that is in it, hands it over again and is forgotten.
        r.check("a fourth node starts", c.run("start", "n4").returncode == 0)
        after("it has slots", everyone + ["n4"])
        r.check("a quarter of them", before.count("n4") == 1024, before.count("n4"))
        drained = c.posthouse("n1", "node", "drain", "n4")
        r.check("node drain n4", drained.returncode == 0, drained.stderr)
        after("it hands them over", everyone + ["n4"])
        forgotten = c.posthouse("n1", "node", "forget", "n4", "--yes")
        r.check("an empty node is forgotten without a loss", forgotten.returncode == 0
                and "n4" not in owners(c), forgotten.stderr)
        c.run("kill", "n4")

        # A plan says what it would copy; two who apply at once: test_cluster.py.
        c.posthouse("n1", "ring", "stage", "n2", "--weight", "300")
        plan = c.json("n1", "ring", "plan")
        r.check("a plan says how many slots move, and how many bytes",
                plan["moves"] > 0 and plan["bytes_to_copy"] > 0, plan)

        # What comes after is kills: how long answers took until here.
        def waited(what: str) -> None:
            waits = sorted(w for p in producers for m in p.publishers.values()
                           for w in list(m.acked.waits))
            r.number("waited for an answer" + what + ": median " + ", p99.9 ".join(
                f"{waits[int(len(waits) * q)] * 1000:.0f} ms" for q in (0.5, 0.999))
                     + f", longest {waits[-1] * 1000:.0f} ms")

        waited(" while slots moved")

        # The target of moves is killed in the middle of them, then their source.
        broken = set()
        c.posthouse("n1", "ring", "apply", "--version", str(plan["version"]))
        for name in ("n2", "n3"):
            time.sleep(0.3)
            c.run("kill", name)
            broken.add(name)
            # On a busy machine what was killed holds its directory for another moment.
            r.check(f"{name} is killed while slots move, and starts again",
                    poll(20, lambda: c.run("start", name).returncode == 0, 0.5))
        after("all moves end")

        for p in producers:
            p.finish()
        time.sleep(1)
        good = sum(check(r, c.nodes[everyone[i % 3]]["grpc"], ch,
                         [p for p in producers if ch in p.channels], followers[ch], broken)
                   for i, ch in enumerate(channels))
        r.check("every channel: no gap, nothing twice, lost, or out of order; followers agree",
                good == len(channels), f"{good} of {len(channels)}")
        answered = sum(len(m.acked) for p in producers for m in p.publishers.values())
        r.number(f"{answered} messages acknowledged")
        waited(", nodes killed")
        shown = [c.posthouse(everyone[i % 3], "tenant", "show", org).returncode
                 for i, org in enumerate(orgs)]
        r.check("every tenant is known on any node", not any(shown), shown)
        for f in sum(followers.values(), []):
            f.close()
        r.check("down", c.run("down").returncode == 0)
    finally:
        if c.process.poll() is None:
            c.process.terminate()
            c.process.wait(60)
        if a.keep:
            print(f"     kept: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    return r.finish()


if __name__ == "__main__":
    sys.exit(main())
