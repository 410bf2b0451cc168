#!/usr/bin/env python3
"""Clients that mean harm, or that are broken, while good traffic goes on: 10,000 idle connections (2,000 in
ci), slowloris, a 10 MB header, a message that declares 1 GB, rapid reset, garbage. The node must stay up,
answer clearly, keep its memory bounded, and good traffic must not feel it."""

import os
import resource
import socket
import struct
import sys
import threading
import time

from node import Node, Report, SkytaleStream, arguments, mls_application, poll

CHANNEL = "acme/good/traffic"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
END_STREAM, END_HEADERS = 1, 4


# --- raw connections -----------------------------------------------------------------------------


def dial_raw(address: str, seconds: float = 15) -> socket.socket:
    host, port = address.rsplit(":", 1)
    return socket.create_connection((host, int(port)), timeout=seconds)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def text(value: bytes) -> bytes:
    """An HPACK string without Huffman coding, shorter than 16 KiB + 127."""
    if len(value) < 127:
        return bytes([len(value)]) + value
    rest = len(value) - 127
    more = b""
    while rest >= 128:
        more += bytes([rest % 128 | 128])
        rest //= 128
    return b"\x7f" + more + bytes([rest]) + value


def field(name: bytes, value: bytes) -> bytes:
    return b"\x00" + text(name) + text(value)  # literal, not indexed


def request_head(authorization: bytes = b"") -> bytes:
    head = (field(b":method", b"POST") + field(b":scheme", b"http") + field(b":authority", b"x")
            + field(b":path", b"/dataplane.proto.v1.DataPlaneService/OpenChannel")
            + field(b"te", b"trailers") + field(b"content-type", b"application/grpc"))
    return head + (field(b"authorization", authorization) if authorization else b"")


def drain(connection: socket.socket, seconds: float) -> tuple[bytes, bool]:
    """What arrives in `seconds`, and whether the other side closed."""
    connection.settimeout(0.3)
    got = b""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            block = connection.recv(65536)
        except socket.timeout:
            continue
        except OSError:
            return got, True
        if not block:
            return got, True
        got += block
    return got, False


def kinds(data: bytes) -> list[int]:
    """The frame types of an HTTP/2 byte stream."""
    found = []
    while len(data) >= 9:
        length = int.from_bytes(data[:3], "big")
        found.append(data[3])
        data = data[9 + length:]
    return found


# --- good traffic --------------------------------------------------------------------------------


class Good(threading.Thread):
    """One message every 5 ms; remembers how long each took."""

    def __init__(self, node: Node, token: str):
        super().__init__(daemon=True)
        self.source = SkytaleStream(node.grpc, token)
        self.sink = SkytaleStream(node.grpc, token)
        self.sink.subscribe(CHANNEL)
        self.sent: list[float] = []
        self.stop = threading.Event()

    def run(self) -> None:
        while not self.stop.wait(0.005):
            self.sent.append(time.monotonic())
            self.source.publish(CHANNEL, mls_application(bytes(100)))

    def waits(self, start: float, end: float) -> list[float]:
        """Seconds from publish to delivery of the messages sent between the two times, sorted."""
        pairs = zip(list(self.sent), list(self.sink.arrivals))
        return sorted(arrival - sent for sent, arrival in pairs if start <= sent < end)


def at(sorted_values: list[float], share: float) -> float:
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]


# --- the attacks ---------------------------------------------------------------------------------


def idle(node: Node, report: Report, count: int) -> None:
    before = node.resident_bytes()
    connections = []
    try:
        for i in range(count):
            connection = dial_raw(node.grpc if i % 4 else node.http)
            if i % 4:
                connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
            connections.append(connection)
        grown = poll(3, lambda: False) or node.resident_bytes() - before
        report.number(f"{count} idle connections cost {grown / count / 1024:.1f} KiB each")
        report.check(f"{count} idle connections: at most 64 KiB each", grown < count * (64 << 10),
                     f"{grown >> 20} MiB")
        report.check("an HTTP call is answered meanwhile", node.get("/livez")[0] == 200)
    finally:
        for connection in connections:
            connection.close()


def slowloris(node: Node, report: Report, count: int) -> None:
    connections = [dial_raw(node.http) for _ in range(count)]
    began = time.monotonic()
    open_ones = list(connections)
    letters = b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: "
    sent = 0
    while open_ones and time.monotonic() - began < 25:
        for connection in list(open_ones):
            try:
                connection.sendall(letters[sent:sent + 1] or b"a")
                connection.setblocking(False)
                try:
                    if connection.recv(4096) is not None:
                        open_ones.remove(connection)  # an answer (408) or the end: cut
                        continue
                except BlockingIOError:
                    pass
                connection.setblocking(True)
            except OSError:
                open_ones.remove(connection)
        sent += 1
        time.sleep(1)
    seconds = time.monotonic() - began
    report.check(f"{count} slowloris connections are cut", not open_ones, f"{len(open_ones)} open")
    report.check("within 15 s", seconds <= 15, f"{seconds:.0f} s")
    for connection in connections:
        connection.close()


def big_header(node: Node, report: Report) -> None:
    for name, address in (("HTTP", node.http),):
        connection = dial_raw(address)
        answer, closed = b"", False
        try:
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Big: ")
            for _ in range(160):
                connection.sendall(b"a" * 65536)
        except OSError:
            closed = True
        rest, ended = drain(connection, 3)
        answer += rest
        report.check(f"{name}: a 10 MB header is refused", closed or ended or b" 431 " in answer,
                     answer[:60])
        connection.close()
    connection = dial_raw(node.grpc)
    closed = False
    try:
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
        connection.sendall(frame(HEADERS, 0, 1, request_head()))
        for i in range(640):
            connection.sendall(frame(CONTINUATION, 0, 1, field(b"x-%d" % i, b"a" * 16000)))
    except OSError:
        closed = True
    answer, ended = drain(connection, 3)
    report.check("gRPC: 10 MB of CONTINUATION frames are refused",
                 closed or ended or GOAWAY in kinds(answer) or RST_STREAM in kinds(answer))
    connection.close()


def big_message(node: Node, report: Report, token: str) -> None:
    connection = dial_raw(node.grpc)
    connection.sendall(PREFACE + frame(SETTINGS, 0, 0)
                       + frame(HEADERS, END_HEADERS, 1, request_head(b"Bearer " + token.encode()))
                       + frame(DATA, 0, 1, b"\0" + struct.pack(">I", 1 << 30) + bytes(1000)))
    answer, ended = drain(connection, 3)
    # The status stands in trailers: HPACK may hide the number, so the frames tell.
    report.check("a message that declares 1 GB ends its stream",
                 ended or RST_STREAM in kinds(answer) or kinds(answer).count(HEADERS) >= 1, kinds(answer))
    connection.close()
    connection = dial_raw(node.http)
    connection.sendall(b"POST /v1/channels HTTP/1.1\r\nHost: x\r\nContent-Length: 1073741824\r\n\r\n")
    answer, ended = drain(connection, 3)
    report.check("an HTTP body that declares 1 GB is refused", b" 413 " in answer or b" 401 " in answer,
                 answer[:60])
    connection.close()


def rapid_reset(node: Node, report: Report) -> None:
    connection = dial_raw(node.grpc)
    closed = False
    sent = 0
    try:
        connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
        head = request_head()
        for batch in range(200):
            data = b""
            for i in range(100):
                stream = 2 * (batch * 100 + i) + 1
                data += frame(HEADERS, END_HEADERS, stream, head) + frame(RST_STREAM, 0, stream, bytes(4))
            connection.sendall(data)
            sent += 100
    except OSError:
        closed = True
    answer, ended = drain(connection, 5)
    report.check("rapid reset: the connection is cut", closed or ended or GOAWAY in kinds(answer),
                 f"after about {sent} resets")
    connection.close()


def garbage(node: Node, report: Report) -> None:
    for name, address in (("gRPC", node.grpc), ("HTTP", node.http)):
        ended = 0
        for seed in range(50):
            connection = dial_raw(address)
            try:
                connection.sendall(os.urandom(512) + b"\r\n\r\n")
                ended += drain(connection, 2)[1]
            except OSError:
                ended += 1
            connection.close()
        report.check(f"{name}: garbage ends its connection", ended >= 49, f"{ended} of 50")
    connection = dial_raw(node.grpc)
    connection.sendall(PREFACE + frame(SETTINGS, 0, 0))
    try:
        for _ in range(2000):
            connection.sendall(frame(SETTINGS, 0, 0) * 50 + frame(PING, 0, 0, bytes(8)) * 50)
    except OSError:
        pass
    drain(connection, 1)
    connection.close()
    report.check("a flood of SETTINGS and PING leaves the node up", node.running())


def main() -> int:
    a = arguments(__doc__)
    count = 10_000 if a.counts == "proof" else 2_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    count = min(count, hard - 2000)
    report = Report("bad clients")
    with Node(a.bin, keep=a.keep, open_files=hard) as node:
        token = node.token(node.create_tenant("acme"))
        good = Good(node, token)
        time.sleep(0.5)
        good.start()
        time.sleep(1)
        calm = time.monotonic()
        time.sleep(5)
        memory = node.resident_bytes()
        trouble = time.monotonic()
        highest = [memory]
        watching = threading.Event()

        def watch() -> None:
            while not watching.wait(0.2):
                if node.running():
                    highest[0] = max(highest[0], node.resident_bytes())

        threading.Thread(target=watch, daemon=True).start()
        for attack in (lambda: idle(node, report, count), lambda: slowloris(node, report, 200),
                       lambda: big_header(node, report), lambda: big_message(node, report, token),
                       lambda: rapid_reset(node, report), lambda: garbage(node, report)):
            attack()
            if not report.check("the node runs", node.running()):
                break
        end = time.monotonic()
        good.stop.set()
        good.join()
        watching.set()
        total = len(good.sent)
        report.check("good traffic lost nothing", poll(10, lambda: len(good.sink.sequences) == total)
                     and good.sink.sequences == list(range(1, total + 1)),
                     f"{len(good.sink.sequences)} of {total}, error {good.sink.error}")
        before, during = good.waits(calm, trouble), good.waits(trouble, end)
        if before and during:
            report.number("good traffic p50/p99 before {:.1f}/{:.1f} ms, meanwhile {:.1f}/{:.1f} ms".format(
                *(1000 * at(values, share) for values in (before, during) for share in (0.5, 0.99))))
            # This process is attacker and good client in one; half a second is no stall.
            report.check("good traffic's p99 stays under 500 ms", at(during, 0.99) < 0.5)
        grown = highest[0] - memory
        report.check("memory grew by less than 1 GiB at its height", grown < 1 << 30, f"{grown >> 20} MiB")
        good.source.close()
        good.sink.close()
        if node.running():
            report.check("the node still drains and exits 0", node.terminate(15) == 0)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
