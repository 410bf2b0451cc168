#!/usr/bin/env python3
"""SLIM streams of both families that mean harm or end at the wrong moment: nothing may be lost, doubled or change
places, nobody may get what is not theirs, and the node's memory stays bounded."""

import json
import random
import sys
import threading
import time

from badclients import field
from node import Node, Report, arguments, poll
from slim_raw import RawSlim, RawStream, framed, group
from slim_wire import DISCOVERY_REQUEST, Name, data, number

P2P = 1
RANDOM = random.Random(20)
ENDS = {"half-close": RawSlim.half_close, "closed connection": RawSlim.close, "RST_STREAM": RawSlim.cancel,
        "garbage": RawSlim.break_off}


def ends_while_held(node: Node, report: Report, family: str, rounds: int) -> None:
    """Archived messages and direct ones by turns, then the end at once: the direct ones wait for the archived."""
    count = 40
    for what, end in ENDS.items():
        text = what.replace(" ", "-").replace("_", "-").lower()
        archived = group(f"acme/held/{text}", family)
        direct = group(f"acme/direct/{text}", family)
        with RawSlim(node.grpc, family) as sink:
            assert sink.subscribe(archived) and sink.subscribe(direct)
            for turn in range(rounds):
                source = RawSlim(node.grpc, family)
                makers = (source.publication(archived),
                          source.publication(direct, type=DISCOVERY_REQUEST, session=P2P))
                source.send(framed(*(makers[i % 2](b"%d.%d" % (turn, i)) for i in range(count))))
                end(source)
            got: dict[int, list[int]] = {turn: [] for turn in range(rounds)}
            for payload in sink.waits_for(rounds * count):
                turn, i = payload.split(b".")
                got[int(turn)].append(int(i))
        wrong = {turn: numbers[:12] for turn, numbers in got.items() if numbers != list(range(count))}
        report.check(f"{family}: what was sent before {what} arrives, once and in order", not wrong,
                     f"{len(wrong)} of {rounds} streams: {list(wrong.items())[:2]}" if wrong else "")


def unread_answers(node: Node, report: Report, seconds: float) -> None:
    """Who asks without end and never reads an answer."""
    head = field(b":method", b"POST") + field(b":scheme", b"http") + field(b":authority", b"x") + field(
        b"te", b"trailers") + field(b"content-type", b"application/grpc")
    publish = head + field(b":path", b"/posthouse.v1.ChannelService/Publish")
    with RawSlim(node.grpc, "A") as app:
        same = app.subscription(group("acme/unread/acks", "A"), 77)
        gone = app.subscription(group("acme/unread/acks", "A"), 78, remove=True)
    cases = {"Subscribe": (b"", same), "Unsubscribe": (b"", gone),
             "Link": (b"", data(5, data(1, data(1, b"x" * 200) + data(2, b"1.0.0")))),
             "refused Publish": (publish, data(1, b"!")),
             "Publish": (publish, data(1, b"acme/unread/answers") + data(2, b"x"))}
    before = node.resident_bytes()
    for what, (header, message) in cases.items():
        with RawStream(node.grpc, header, reads=False) as stream:
            block = framed(*[message] * 2000)
            until = time.monotonic() + seconds
            while time.monotonic() < until and stream.send(block, seconds=0.5):
                pass
            grown = (node.resident_bytes() - before) >> 20
            report.check(f"unread answers to {what} cost at most 96 MiB", grown <= 96, f"{grown} MiB")


def ends_before_replay(node: Node, report: Report, rounds: int) -> None:
    """Subscribes to archived channels that end, or are taken back, before the archive was looked at."""
    groups = [group(f"acme/replay/{i}", "A") for i in range(8)]
    with RawSlim(node.grpc, "A") as source:
        source.send(framed(*(source.publication(name)(b"old") for name in groups)))
        source.half_close()
        source.ended.wait(5)
    node.terminate()
    node.start()
    for _ in range(rounds):
        app = RawSlim(node.grpc, "A")
        app.send(framed(*(app.subscription(name) for name in groups * 8)))
        app.reset()
    fickle = [RawSlim(node.grpc, "A") for _ in range(rounds // 4)]
    for app in fickle:
        app.send(framed(*(m for name in groups for m in (app.subscription(name),
                                                         app.subscription(name, remove=True)))))

    def readers() -> list[str]:
        channels = json.loads(node.posthouse("channel", "ls", "-o", "json").stdout)
        return [channel["channel"] for channel in channels if channel["subscribers"]]

    poll(3, lambda: not readers(), 0.2)
    report.check("no cursor is left of streams that ended before their replay", not readers(), readers()[:2])
    with RawSlim(node.grpc, "A") as source:
        source.send(framed(*(source.publication(name)(b"new") for name in groups)))
        time.sleep(0.3)
        late = sum(app.payloads().count(b"new") for app in fickle)
    report.check("nothing comes after an Unsubscribe", late == 0, f"{late} messages")
    for app in fickle:
        app.close()


def mutated(node: Node, report: Report, family: str, count: int) -> None:
    """Damaged messages on live streams, beside one that must not feel it."""
    with RawSlim(node.grpc, family) as good, RawSlim(node.grpc, family) as source:
        name = group("acme/good/traffic", family)
        assert good.subscribe(name)
        make = source.publication(name)
        stream, sent, streams = None, 0, 0
        while sent < count:
            if stream is None or stream.ended.is_set():
                stream = RawSlim(node.grpc, family)
                streams += 1
                seeds = seed_messages(stream)
            batch = [damage(RANDOM.choice(seeds)) for _ in range(20)]
            stream.send(framed(*batch))
            sent += len(batch)
            source.send(framed(make(b"%d" % sent)))
        wanted = [b"%d" % i for i in range(20, sent + 1, 20)]
        got = [payload for payload in good.waits_for(len(wanted)) if payload.isdigit()]
        report.check(f"{family}: {sent} damaged messages on {streams} streams; good traffic is whole",
                     node.running() and got == wanted, f"{len(got)} of {len(wanted)}")


def seed_messages(app: RawSlim) -> list[bytes]:
    name, one = group("acme/mutated/traffic", app.family), Name.of("acme/mutated/traffic", 5)
    return [app.subscription(name, 7), app.subscription(one, 8), app.subscription(name, 7, remove=True),
            app.publication(name)(b"x" * 50), app.publication(one, session=P2P)(b"y"),
            app.publication(name, type=11)(b"z"), app.publication(name, id=0x80000001)(b"z"),
            app.publication(name, fanout=1)(b"anycast"), data(6, number(1, 7) + number(2, 1)),
            data(5, data(1, data(1, b"again") + data(2, b"1") + data(4, bytes(32)))),
            app.publication(name, receive_from=3, forward_to=4, incoming=5)(b"w")]


def damage(message: bytes) -> bytes:
    text = bytearray(message)
    for _ in range(RANDOM.choice((0, 1, 1, 2, 4))):
        at = RANDOM.randrange(len(text))
        how = RANDOM.randrange(5)
        if how == 0:
            text[at] ^= 1 << RANDOM.randrange(8)
        elif how == 1:
            text[at] = RANDOM.choice((0, 1, 0x7f, 0x80, 0xff))
        elif how == 2:
            del text[at:at + RANDOM.randrange(1, 9)]
        elif how == 3:
            text[at:at] = RANDOM.randbytes(RANDOM.randrange(1, 12))
        else:
            text[at:at] = text[at:at + RANDOM.randrange(1, 40)]
        if not text:
            break
    return bytes(text)


def churn(node: Node, report: Report, family: str, seconds: float) -> None:
    """Streams subscribe, unsubscribe and vanish while others publish to the same name, on all loops."""
    name = group("acme/churn/traffic", family)
    stop = threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            app = RawSlim(node.grpc, family)
            for id_ in range(1, 9):
                app.send(framed(app.subscription(name, id_), app.subscription(name, id_),
                                app.subscription(name, RANDOM.randrange(1, 12), remove=True)))
            RANDOM.choice((app.close, app.reset, app.half_close))()

    with RawSlim(node.grpc, family) as sink:
        assert sink.subscribe(name)
        threads = [threading.Thread(target=come_and_go) for _ in range(3)]
        sources = [RawSlim(node.grpc, family) for _ in range(2)]
        for thread in threads:
            thread.start()
        sent = 0
        until = time.monotonic() + seconds
        makers = [(source.publication(name), source.publication(name, session=P2P)) for source in sources]
        while time.monotonic() < until:
            for index, (source, make) in enumerate(zip(sources, makers)):
                source.send(framed(*(make[i % 2](b"%d.%d" % (index, sent + i)) for i in range(20))))
            sent += 20
        stop.set()
        for thread in threads:
            thread.join()
        got = sink.waits_for(2 * sent)
        for index, source in enumerate(sources):
            mine = [int(p.split(b".")[1]) for p in got if p.startswith(b"%d." % index)]
            report.check(f"{family}: through churn everything of publisher {index}, once and in order",
                         mine == list(range(sent)), f"{len(mine)} of {sent}")
            source.close()


def full_disk(node: Node, report: Report) -> None:
    """What cannot be archived is held for a while, then its stream ends; a closed stream is not remembered for ever."""
    name, direct = group("acme/full/group", "B"), group("acme/full/direct", "B")
    with RawSlim(node.grpc, "B") as stays, RawSlim(node.grpc, "B") as goes, RawSlim(node.grpc, "B") as sink:
        assert sink.subscribe(name) and sink.subscribe(direct)
        for app in (stays, goes):
            makers = app.publication(name), app.publication(direct, session=P2P)
            app.send(framed(*(makers[i % 2](b"held") for i in range(40))))
        goes.half_close()
        report.check("disk full: the stream of what is held ends", stays.ended.wait(15))
        report.check("disk full: nothing overtakes what is held", not sink.payloads())

    def sessions() -> bool:
        return "\nposthouse_sessions 0\n" in node.metrics()

    report.check("disk full: no stream is left", poll(5, sessions, 0.2))


def many_names(node: Node, report: Report, count: int) -> None:
    """Messages to ever new groups: a node keeps the last ones at hand, and a group in use stays live."""
    name = group("acme/names/live", "A")
    before = node.resident_bytes() >> 20
    with RawSlim(node.grpc, "A") as source, RawSlim(node.grpc, "A") as other, RawSlim(node.grpc, "A") as sink:
        assert sink.subscribe(name)
        live = source.publication(name)
        for start in range(0, count, 1000):
            other.send(framed(*(other.publication(Name((1, 2, start + i), group("a/b/c", "A").id))(b"x")
                                for i in range(1000))))
            source.send(framed(live(b"%d" % start)))
        wanted = [b"%d" % start for start in range(0, count, 1000)]
        report.check(f"{count} new groups: one in use goes on", sink.waits_for(len(wanted)) == wanted)
    cost = (node.resident_bytes() >> 20) - before
    report.check(f"{count} new groups cost at most 1 GiB", cost < 1024, f"{cost} MiB")


def main() -> int:
    a = arguments(__doc__)
    report = Report("slim attack")
    proof = a.counts == "proof"
    with Node(a.bin, auth="open", keep=a.keep, extra=["--set", "loops=3"]) as node:
        pid = node.pid
        unread_answers(node, report, 4 if proof else 0.5)
        for family in "AB":
            ends_while_held(node, report, family, 100 if proof else 8)
            mutated(node, report, family, 40_000 if proof else 2_000)
            churn(node, report, family, 10 if proof else 0.7)
        many_names(node, report, 300_000 if proof else 5_000)
        report.check("the node is the one that was started", node.running() and node.pid == pid)
        ends_before_replay(node, report, 200 if proof else 40)
        report.check("the node still runs", node.running(), node.log()[-300:] if not node.running() else "")
    if proof:
        with Node(a.bin, auth="open", keep=a.keep, extra=["--set", "disk.min_free=100TiB"]) as node:
            full_disk(node, report)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
