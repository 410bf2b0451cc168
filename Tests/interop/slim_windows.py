#!/usr/bin/env python3
"""What a node may never do to one HTTP/2 connection with many SLIM streams: give more window back than it took, keep
some of it for ever, send to a name that was unsubscribed in the same packet, or fall over a stream that ends while a
message is handed to it. One connection carries senders and receivers at once, so all of it happens in one read."""

import ctypes
import os
import random
import socket
import struct
import sys
import threading
import time

from badclients import DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS
from badclients import dial_raw, frame, request_head
from node import Node, Report, arguments, poll
from slim_raw import CANCEL, INITIAL_WINDOW, WINDOW_UPDATE, RawSlim, framed, group
from slim_wire import DISCOVERY_REQUEST, Name, SlimStream, data, number

PADDED = 8
P2P = 1
RANDOM = random.Random(21)


class Many:
    """One connection, many streams. `worst`: the most window that was ever open beyond what was advertised."""

    def __init__(self, address: str, reads: bool = True):
        self.socket = dial_raw(address)
        self.socket.settimeout(None)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reads = reads
        self.writing, self.changed = threading.Lock(), threading.Condition()
        self.room, self.most = INITIAL_WINDOW, 0        # of the connection; what was advertised for it
        self.initial = INITIAL_WINDOW                   # of a stream
        self.ready = threading.Event()
        self.ended = threading.Event()
        self.streams: dict[int, One] = {}
        self.next_id = 1
        self.worst = 0
        self.goaway = None
        more = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30)) if reads else b""
        self.write(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 1 << 30) if reads else b"") + more)
        threading.Thread(target=self._read, daemon=True).start()
        self.ready.wait(10)
        poll(5, lambda: self.room > INITIAL_WINDOW, 0.01)
        self.most = self.room

    def __enter__(self) -> "Many":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def write(self, block: bytes) -> None:
        with self.writing:
            self.socket.sendall(block)

    def _read(self) -> None:
        try:
            with self.socket.makefile("rb", 1 << 18) as source:
                while len(head := source.read(9)) == 9:
                    size = int.from_bytes(head[:3], "big")
                    self._receive(head[3], head[4], int.from_bytes(head[5:], "big") & 0x7fffffff, source.read(size))
        except (OSError, ValueError):
            pass
        self.ended.set()
        with self.changed:
            for one in self.streams.values():
                one.ended.set()
            self.changed.notify_all()

    def _receive(self, kind: int, flags: int, id: int, payload: bytes) -> None:
        one = self.streams.get(id)
        if kind == DATA and one:
            one.take(payload)
        elif kind == SETTINGS and not flags & 1:
            with self.changed:
                for key, value in struct.iter_unpack(">HI", payload):
                    if key == 4:
                        self.initial = value
                self.changed.notify_all()
            self.write(frame(SETTINGS, 1, 0))
            self.ready.set()
        elif kind == WINDOW_UPDATE:
            size = struct.unpack(">I", payload)[0]
            with self.changed:
                if id == 0:
                    self.room += size
                    if self.most:
                        self.worst = max(self.worst, self.room - self.most)
                elif one:
                    one.room += size
                    self.worst = max(self.worst, one.room - self.initial)
                self.changed.notify_all()
        elif kind == PING and not flags & 1:
            self.write(frame(PING, 1, 0, payload))
        elif kind == GOAWAY:
            self.goaway = payload
        if one and (kind == RST_STREAM or flags & END_STREAM and kind in (DATA, HEADERS)):
            one.ended.set()
            with self.changed:
                self.changed.notify_all()

    def open(self, family: str = "A", token: str = "") -> "One":
        with self.writing:
            id = self.next_id
            self.next_id += 2
            one = self.streams[id] = One(self, id, family)
            # The table may be smaller now (RFC 7541 section 4.2).
            head = b"\x20" + request_head(b"Bearer " + token.encode() if token else b"")
            self.socket.sendall(frame(HEADERS, END_HEADERS, id, head))
        if family == "B":
            one.open_link()
        return one

    def close(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()

    def reset(self) -> None:
        # A socket that another thread reads from is not closed by close: the kernel is told to forget the connection
        # (connect to AF_UNSPEC), which sends RST.
        ctypes.CDLL(None).connect(self.socket.fileno(), bytes(16), 16)
        self.socket.close()


class One:
    """A stream of it, as an app."""

    def __init__(self, all: Many, id: int, family: str):
        self.all, self.id, self.family = all, id, family
        self.room = all.initial
        self.ended = threading.Event()
        self.input, self.messages = bytearray(), []
        self.key, self.link_id = None, b""
        self.own = Name.of("nobody/tests/raw", int.from_bytes(os.urandom(4), "big") << 8)
        self.last_id = 0

    header, publication, subscription = SlimStream.header, RawSlim.publication, RawSlim.subscription
    subscribe, acks, payloads, waits_for = RawSlim.subscribe, RawSlim.acks, RawSlim.payloads, RawSlim.waits_for
    open_link = RawSlim.open_link

    def take(self, payload: bytes) -> None:
        self.input += payload
        at = 0
        while len(self.input) - at >= 5:
            size = struct.unpack_from(">I", self.input, at + 1)[0]
            if len(self.input) - at < 5 + size:
                break
            self.messages.append(bytes(self.input[at + 5:at + 5 + size]))
            at += 5 + size
        del self.input[:at]

    def data(self, block: bytes, padding: int = 0) -> bytes:
        """DATA frames, taken from the windows."""
        out = b""
        for at in range(0, len(block), 16000):
            piece = block[at:at + 16000]
            body = bytes([padding]) + piece + bytes(padding) if padding else piece
            with self.all.changed:
                self.room -= len(body)
                self.all.room -= len(body)
            out += frame(DATA, PADDED if padding else 0, self.id, body)
        return out

    def send(self, block: bytes, seconds: float = 10, padding: int = 0) -> bool:
        for at in range(0, len(block), 16000):
            piece = block[at:at + 16000]
            with self.all.changed:
                self.all.changed.wait_for(
                    lambda: min(self.room, self.all.room) >= len(piece) + 256 or self.ended.is_set(), seconds)
                if self.ended.is_set() or min(self.room, self.all.room) < len(piece) + 256:
                    return False
            try:
                self.all.write(self.data(piece, padding))
            except OSError:
                return False
        return True

    def cancel(self) -> None:
        self.all.write(frame(RST_STREAM, 0, self.id, CANCEL))


# --- windows -------------------------------------------------------------------------------------


def windows(node: Node, report: Report, rounds: int) -> None:
    """Pauses of every kind, messages in pieces, padding, streams that end with bytes kept: the connection's window
    comes back to what it was, and never beyond."""
    with Many(node.grpc) as all, Many(node.grpc, reads=False) as deaf:
        for number_ in range(rounds):
            one = all.open("A")
            archived, direct = group(f"acme/w/{number_ % 4}", "A"), group(f"acme/d/{number_ % 4}", "A")
            make, plain = one.publication(archived), one.publication(direct, type=DISCOVERY_REQUEST, session=P2P)
            ask = one.subscription(group("acme/w/ask", "A"), 5)
            how = number_ % 6
            if how == 0:      # archived and direct by turns, until the direct ones that are held pause it
                one.send(framed(*(m for i in range(60) for m in (make(bytes(9000)), plain(bytes(9000))))))
            elif how == 1:    # a message in one-byte frames, never whole
                block = framed(plain(bytes(300)))[:-1]
                all.write(b"".join(one.data(block[i:i + 1], padding=i % 3) for i in range(len(block))))
            elif how == 2:    # many answers
                one.send(framed(*[ask] * 9000), padding=RANDOM.randrange(255))
            elif how == 3:    # large ones
                one.send(framed(plain(bytes(3_900_000))), padding=7)
            elif how == 4:    # garbage, and much after it, in one packet
                all.write(one.data(framed(b"\xff\xff\xff") + bytes(100_000)))
            else:
                one.send(framed(*[make(bytes(RANDOM.randrange(70_000))) for _ in range(30)]))
            if number_ % 2 or how == 1:
                one.cancel()
            else:
                all.write(frame(DATA, END_STREAM, one.id))
            late = deaf.open("A")
            late.send(framed(*[late.subscription(group("acme/w/ask", "A"), 5)] * 20_000), seconds=0.2)
            late.cancel()
        report.check(f"{rounds} streams with pauses: no window is ever larger than was advertised",
                     all.worst == 0 and deaf.worst == 0, f"{all.worst}, {deaf.worst} bytes")
        last = all.open("A")
        for _ in range(3):      # what is owed is paid with the next read, when it is half a window
            last.send(framed(*[last.publication(group("acme/d/z", "A"))(bytes(60_000))] * 60))
        full = poll(10, lambda: all.room > all.most // 2, 0.05)
        report.check("and none of the connection's is lost", full and not all.ended.is_set(),
                     f"{all.room} of {all.most}; {all.goaway}")


# --- one packet ----------------------------------------------------------------------------------


def same_packet(node: Node, report: Report, family: str, rounds: int) -> None:
    """Subscribe, publish, unsubscribe, publish ... in one read; and streams that end inside it."""
    with Many(node.grpc) as all:
        receiver, sender, stays = (all.open(family) for _ in range(3))
        name = group(f"acme/packet/{family.lower()}", family)
        plain = sender.publication(name, type=DISCOVERY_REQUEST, session=P2P)
        sender.send(framed(plain(b"nobody")))
        on, off = receiver.subscription(name), receiver.subscription(name, remove=True)
        wanted = []
        for turn in range(rounds):
            block = b""
            for step in range(8):
                block += receiver.data(framed(on)) + sender.data(framed(plain(b"%d.%d" % (turn, step))))
                wanted.append(b"%d.%d" % (turn, step))
                block += receiver.data(framed(off)) + sender.data(framed(plain(b"lost")))
            all.write(block)
            if turn % 20 == 19:
                receiver.waits_for(len(wanted))
                poll(5, lambda: min(all.room, sender.room, receiver.room) > 200_000, 0.01)
        got = receiver.waits_for(len(wanted))
        report.check(f"{family}: subscriptions between two messages of a packet count at once", got == wanted,
                     f"{len(got)} of {len(wanted)}, {got.count(b'lost')} lost ones")
        # A stream ends and another begins between two messages: ids of sessions are used again.
        assert stays.subscribe(name)
        began = time.monotonic()
        for turn in range(rounds):
            # A connection may reset 1,200 streams at once and 200 a second.
            time.sleep(max(0, (6 * turn - 1_000) / 180 - (time.monotonic() - began)))
            gone = all.open(family) if family == "B" else None
            block = b""
            for _ in range(6):
                with all.writing:
                    id = all.next_id
                    all.next_id += 2
                one = gone or all.streams.setdefault(id, One(all, id, family))
                if not gone:
                    block += frame(HEADERS, END_HEADERS, id, request_head())
                block += one.data(framed(one.subscription(name))) + sender.data(framed(plain(b"%d" % turn)))
                block += frame(RST_STREAM, 0, one.id, CANCEL) + sender.data(framed(plain(b"%d" % turn)))
                gone = None
            all.write(block)
            if all.ended.is_set():
                break
            time.sleep(0.002)
        count = rounds * 12
        report.check(f"{family}: streams that come and go between two messages of a packet disturb none",
                     len(stays.waits_for(count, 15)) == count and node.running(),
                     f"{len(stays.payloads())} of {count}; {all.goaway}")


def overflow(node: Node, report: Report, family: str, seconds: float) -> None:
    """Receivers that do not read, on the sender's own connection and on others, run over while they are handed to;
    connections vanish in the middle."""
    name = group(f"acme/over/{family.lower()}", family)
    before = sum(int(line.split()[1]) for line in node.metrics().splitlines()
                 if line.startswith("posthouse_slim_overflows_total "))
    until = time.monotonic() + seconds
    ends = 0
    quiet = group(f"acme/quiet/{family.lower()}", family)
    with RawSlim(node.grpc, family) as good, RawSlim(node.grpc, family) as source:
        assert good.subscribe(quiet)
        tell = source.publication(quiet, type=DISCOVERY_REQUEST, session=P2P)
        while time.monotonic() < until:
            all = Many(node.grpc, reads=ends % 3 == 0)
            sender = all.open(family)
            others = [Many(node.grpc, reads=False) for _ in range(2)]
            receivers = [all.open(family) for _ in range(4)]
            receivers += [other.open(family) for other in others for _ in range(3)]
            for one in receivers:
                one.send(framed(one.subscription(name, RANDOM.randrange(3))))
            make = sender.publication(name, type=DISCOVERY_REQUEST, session=P2P)
            for _ in range(30):
                if not sender.send(framed(*[make(bytes(RANDOM.choice((0, 700, 60_000, 60_000))))] * 16), seconds=1):
                    break
            RANDOM.choice((all.close, all.reset))()
            for other in others:
                RANDOM.choice((other.close, other.reset))()
            ends += 1
            source.send(framed(tell(b"%d" % ends)))
        got = good.waits_for(ends)
        report.check(f"{family}: {ends} connections with streams that run over; others do not feel it",
                     got == [b"%d" % i for i in range(1, ends + 1)], f"{len(got)} of {ends}")
        count = sum(int(line.split()[1]) for line in node.metrics().splitlines()
                    if line.startswith("posthouse_slim_overflows_total "))
        report.check(f"{family}: and they did run over", count > before, f"{count - before} streams")


def crowd(a, report: Report) -> None:
    """Streams that take nothing hold long queues, though none runs over. They end, and who reads has room again."""
    with Node(a.bin, auth="open", keep=a.keep, extra=["--set", "loops=1"]) as node:
        many, more, other = (group(f"acme/crowd/{name}", "A") for name in ("many", "more", "other"))
        stalled = [Many(node.grpc, reads=False) for _ in range(10)]
        streams = [(one.open("A"), name) for one in stalled for name in [many] * 8 + [more] * 8]
        for stream, name in streams:
            stream.send(framed(stream.subscription(name, 0)))
        ended = lambda: sum(int(line.split()[1]) for line in node.metrics().splitlines()
                            if line.startswith("posthouse_slim_overflows_total"))
        with RawSlim(node.grpc, "A") as sink, RawSlim(node.grpc, "A") as app:
            assert sink.subscribe(other)
            poll(5, lambda: "\nposthouse_sessions 162\n" in node.metrics())
            # 80 queues of 6 MB and 80 of 0.9 MB are more than half of what all may hold; none is longer than it may be.
            for name, times in ((many, 6), (more, 1)):
                make = app.publication(name, type=DISCOVERY_REQUEST, session=P2P)
                for _ in range(times):
                    app.send(framed(make(bytes(1_000_000 if times > 1 else 900_000))))
            report.check("crowded: nobody runs over", not poll(2, lambda: ended() > 0, 0.2), ended())
            poll(20, lambda: ended() > 0, 0.2)
            report.check("crowded: streams that take nothing and hold much end", ended() == 80, ended())
            make = app.publication(other, type=DISCOVERY_REQUEST, session=P2P)
            app.send(framed(make(bytes((4 << 20) - 400))))
            got = [len(payload) for payload in sink.waits_for(1, 10)]
            report.check("crowded: then 4 MiB pass again", got == [(4 << 20) - 400], got)
        for one in stalled:
            one.close()


# --- one header, other messages ------------------------------------------------------------------


def long_varint(value: int, size: int) -> bytes:
    return bytes((value >> 7 * i & 127) | (128 if i < size - 1 else 0) for i in range(size))


def shapes(node: Node, report: Report, family: str) -> None:
    """Under one known header, messages whose rest differs. Each is right or ends its own stream; what arrives says
    what was sent."""
    name = group(f"acme/shape/{family.lower()}", family)
    with RawSlim(node.grpc, family) as sink:
        assert sink.subscribe(name)

        def cases(app: RawSlim) -> dict[str, tuple[bytes, bool]]:
            head = data(1, app.header(name))
            session = data(2, number(1, P2P) + number(2, DISCOVERY_REQUEST) + number(3, 7) + number(4, 1))
            content = data(3, data(1, data(1, b"msg") + data(2, b"x")))

            def wrap(*parts: bytes) -> bytes:
                return data(3, b"".join(parts))

            long = b"\x1a" + long_varint(len(head + session + content), 5) + head + session + content
            return {
                "plain": (wrap(head, session, content), True),
                "no payload": (wrap(head, session, data(3, data(1, b""))), True),
                "an empty payload": (wrap(head, session, data(3, data(1, data(2, b"")))), True),
                "no content": (wrap(head, session), True),
                "no session": (wrap(head, content), True),
                "content first": (wrap(content, session, head), True),
                "header last": (wrap(session, content, head), True),
                "an overlong length": (long, True),
                "an overlong number": (wrap(head, data(2, b"\x08" + long_varint(1, 10)), content), True),
                "an unknown field behind": (wrap(head, session, content) + data(99, b"?"), True),
                "metadata": (wrap(head, session, content) + data(4, data(1, b"k") + data(2, b"v")), True),
                "two headers": (wrap(head, head, session, content), False),
                "two sessions": (wrap(head, session, session, content), False),
                "two contents": (wrap(head, session, content, content), False),
                "two publishes": (wrap(head, session, content) * 2, False),
                "type not UTF-8": (wrap(head, session, data(3, data(1, data(1, b"\xff")))), False),
                "a length beyond": (wrap(head, session, b"\x1a\x7f"), False),
                "a session beyond": (wrap(head, b"\x12\x7f" + session[2:], content), False),
                "two payloads": (wrap(head, session, data(3, data(1, data(2, b"1") + data(2, b"2")))), True),
                "a tag of field 0": (wrap(head, session, b"\0\0", content), False),
            }

        with RawSlim(node.grpc, family) as sample:
            names = list(cases(sample))
        for what in names:
            with RawSlim(node.grpc, family) as app:
                message, good = cases(app)[what]
                before = len(sink.messages)
                plain = app.publication(name, type=DISCOVERY_REQUEST, session=P2P)
                app.send(framed(plain(b"1"), plain(b"2"), message, plain(b"3"), message, plain(b"4")))
                count = 6 if good else 2
                poll(3, lambda: len(sink.messages) >= before + count, 0.01)
                ended = poll(0.3 if good else 3, app.ended.is_set, 0.01)
                got = len(sink.messages) - before
                report.check(f"{family}: under a known header: {what}", got == count and bool(ended) != good,
                             f"{got} of {count}, {'ended' if ended else 'stands'}")
        sizes = [0, 1, 126, 127, 128, 16_383, 16_384, 1 << 20, (4 << 20) - 400]
        with RawSlim(node.grpc, family) as app:
            make = app.publication(name, type=DISCOVERY_REQUEST, session=P2P)
            got = []
            for size in sizes * 2:
                del sink.messages[:]
                app.send(framed(make(bytes(size))))
                got += [len(payload) for payload in sink.waits_for(1, 20)]
            report.check(f"{family}: payloads of 0 bytes to 4 MiB", got == sizes * 2, got)


def wrong_macs(node: Node, report: Report) -> None:
    """A header that was right once, then with another MAC, another ttl, another name, then again as it was."""
    name, other = group("acme/macs/one", "B"), group("acme/macs/two", "B")
    with RawSlim(node.grpc, "B") as sink, RawSlim(node.grpc, "B") as app, RawSlim(node.grpc, "B") as thief:
        assert sink.subscribe(name) and sink.subscribe(other)
        def message(header: bytes, payload: bytes = b"good") -> bytes:
            session = number(1, P2P) + number(2, DISCOVERY_REQUEST) + number(3, 7) + number(4, 1)
            return data(3, data(1, header) + data(2, session) + data(3, data(1, data(2, payload))))

        header = app.header(name)
        good, tag = message(header), header[-32:]
        bad = [message(header[:-32] + tag[:i] + bytes([tag[i] ^ 1]) + tag[i + 1:], b"bad.") for i in range(32)]
        swapped = [message(changed[:-32] + tag, b"bad.") for changed in (app.header(other), app.header(name, ttl=9))]
        app.send(framed(*(m for wrong in (bad + swapped) for m in (good, good, wrong, wrong))))
        thief.send(framed(*[message(header, b"bad.")] * 3))
        time.sleep(0.5)
        got = sink.waits_for(2 * len(bad + swapped))
        report.check("B: a MAC that was right once helps no other header and no other link",
                     got == [b"good"] * 2 * len(bad + swapped), f"{len(got)}, {got.count(b'bad.')} wrong")


# --- grants --------------------------------------------------------------------------------------


def grants(a, report: Report, rounds: int) -> None:
    """A grant taken back between messages under one header: nothing after it arrives."""
    with Node(a.bin, keep=a.keep, extra=["--set", "loops=3"]) as node:
        acme, globex = node.create_tenant("acme"), node.create_tenant("globex")
        first, second = node.token(acme), node.token(globex)
        for family in "AB":
            name = group("acme/team/general", family)
            late = refused = 0
            with RawSlim(node.grpc, family, token=first) as sink:
                sink.own = Name.of("acme/team/agent", 4)
                assert sink.subscribe(name)
                for _ in range(rounds):
                    node.posthouse("channel", "grant", "acme/team/general", "globex")
                    guest = RawSlim(node.grpc, family, token=second)
                    guest.own = Name.of("globex/team/guest", 9)
                    assert guest.subscribe(name)
                    make = guest.publication(name, type=DISCOVERY_REQUEST, session=P2P)
                    stop = threading.Event()

                    def pour() -> None:
                        while not stop.is_set() and guest.send(framed(*[make(b"early")] * 20), seconds=1):
                            pass

                    thread = threading.Thread(target=pour)
                    thread.start()
                    node.posthouse("channel", "revoke", "acme/team/general", "globex")
                    refused += bool(guest.ended.wait(3))
                    stop.set()
                    thread.join()
                    guest.send(framed(make(b"late")), seconds=0.2)
                    guest.close()
                    time.sleep(0.1)
                    late += sink.payloads().count(b"late")
            report.check(f"{family}: a stream that lives by a grant ends with it, under load", refused == rounds,
                         f"{refused} of {rounds}")
            report.check(f"{family}: and nothing comes after", late == 0, late)
        report.check("the node still runs", node.running(), node.log()[-300:] if not node.running() else "")


def main() -> int:
    a = arguments(__doc__, only="")
    report = Report("slim windows")
    proof = a.counts == "proof"
    only = set(a.only.split(",")) if a.only else set()

    def wanted(name: str) -> bool:
        return not only or name in only

    for together in (True, False):
        with Node(a.bin, auth="open", keep=a.keep, extra=["--set", "loops=3"], together=together) as node:
            pid = node.pid
            if wanted("windows"):
                windows(node, report, 600 if proof else 36)
            for family in "AB":
                if wanted("packet"):
                    same_packet(node, report, family, 1000 if proof else 100)
                if wanted("shapes"):
                    shapes(node, report, family)
                if wanted("overflow"):
                    overflow(node, report, family, 20 if proof else 2)
            if wanted("macs"):
                wrong_macs(node, report)
            report.check("the node is the one that was started", node.running() and node.pid == pid,
                         node.log()[-300:] if not node.running() else "")
    if wanted("crowd"):
        crowd(a, report)
    if wanted("grants"):
        grants(a, report, 10 if proof else 2)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
