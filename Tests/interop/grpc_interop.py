#!/usr/bin/env python3
"""Drives the transport with a published gRPC implementation and with clients that misbehave.

grpc_interop.py [--bin DIRECTORY | --peer PROGRAM] [--only PREFIX] [--verbose]

Needs grpcio, grpcio-tools, grpcio-health-checking, grpcio-reflection. Prints PASS or FAIL per case,
exits 0 when every case passed.
"""
import argparse
import os
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

import grpc
from grpc_tools import protoc

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
CASES = []


def case(function):
    CASES.append(function)
    return function


def expect(condition, text):
    if not condition:
        raise AssertionError(text)


def equal(got, wanted, what):
    expect(got == wanted, f"{what}: got {got!r}, wanted {wanted!r}")


class Peer:
    def __init__(self, program, certificate, key, unix):
        self.process = subprocess.Popen(
            [program, "--cert", certificate, "--key", key, "--unix", unix],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline().split()
        expect(line and line[0] == "READY", f"the peer said {line}")
        ports = dict(part.split("=") for part in line[1:])
        self.grpc, self.http = int(ports["port"]), int(ports["http"])
        self.tls, self.https = int(ports["tls"]), int(ports["https"])
        self.unix, self.certificate = unix, certificate

    def command(self, text):
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()

    def counts(self):
        self.command("counts")
        return {k: int(v) for k, v in
                (p.split("=") for p in self.process.stdout.readline().split())}

    def memory(self):
        """Resident KiB."""
        with open(f"/proc/{self.process.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))


class World:
    """What a case gets: the peer, a channel, a stub, the message classes."""

    def __init__(self, peer, messages, stubs):
        self.peer, self.m, self.stubs = peer, messages, stubs
        self.channel = self.connect()
        self.stub = stubs.TestServiceStub(self.channel)

    def connect(self, target=None):
        size = 16 << 20
        return grpc.insecure_channel(target or f"127.0.0.1:{self.peer.grpc}", options=[
            ("grpc.max_receive_message_length", size), ("grpc.max_send_message_length", size),
            ("grpc.use_local_subchannel_pool", 1)])

    def payload(self, n):
        return self.m.Payload(body=b"\0" * n)

    def outputs(self, *sizes, interval=0):
        return self.m.StreamingOutputCallRequest(response_parameters=[
            self.m.ResponseParameters(size=n, interval_us=interval) for n in sizes])


def error_of(call):
    try:
        result = call()
        if hasattr(result, "__next__"):
            list(result)
    except grpc.RpcError as e:
        return e
    raise AssertionError("the call succeeded")


# --- the standard cases

@case
def empty_unary(w):
    equal(w.stub.EmptyCall(w.m.Empty(), timeout=5), w.m.Empty(), "answer")


@case
def large_unary(w):
    r = w.stub.UnaryCall(w.m.SimpleRequest(response_size=314159, payload=w.payload(271828)), timeout=5)
    equal(len(r.payload.body), 314159, "size")


@case
def client_streaming(w):
    sizes = [27182, 8, 1828, 45904]
    r = w.stub.StreamingInputCall(
        iter([w.m.StreamingInputCallRequest(payload=w.payload(n)) for n in sizes]), timeout=5)
    equal(r.aggregated_payload_size, 74922, "total")


@case
def server_streaming(w):
    sizes = [31415, 9, 2653, 58979]
    got = [len(r.payload.body) for r in w.stub.StreamingOutputCall(w.outputs(*sizes), timeout=5)]
    equal(got, sizes, "sizes")


class Pipe:
    """An iterator fed by hand."""

    def __init__(self):
        self.items, self.changed, self.closed = [], threading.Condition(), False

    def put(self, item):
        with self.changed:
            self.items.append(item)
            self.changed.notify()

    def close(self):
        with self.changed:
            self.closed = True
            self.changed.notify()

    def __iter__(self):
        return self

    def __next__(self):
        with self.changed:
            while not self.items and not self.closed:
                self.changed.wait()
            if self.items:
                return self.items.pop(0)
            raise StopIteration


@case
def ping_pong(w):
    pipe = Pipe()
    answers = w.stub.FullDuplexCall(pipe, timeout=10)
    for asked, sent in zip([31415, 9, 2653, 58979], [27182, 8, 1828, 45904]):
        request = w.outputs(asked)
        request.payload.CopyFrom(w.payload(sent))
        pipe.put(request)
        equal(len(next(answers).payload.body), asked, "size")
    pipe.close()
    equal(list(answers), [], "rest")


@case
def empty_stream(w):
    equal(list(w.stub.FullDuplexCall(iter([]), timeout=5)), [], "answers")


@case
def half_duplex(w):
    got = [len(r.payload.body) for r in
           w.stub.HalfDuplexCall(iter([w.outputs(5), w.outputs(7, 9)]), timeout=5)]
    equal(got, [5, 7, 9], "sizes")


@case
def custom_metadata(w):
    sent = (("x-grpc-test-echo-initial", "test_initial_metadata_value"),
            ("x-grpc-test-echo-trailing-bin", b"\xab\xab\xab"))
    call = w.stub.UnaryCall.future(
        w.m.SimpleRequest(response_size=314159, payload=w.payload(271828)), metadata=sent, timeout=5)
    expect(sent[0] in [tuple(x) for x in call.initial_metadata()], "initial metadata is missing")
    expect(sent[1] in [tuple(x) for x in call.trailing_metadata()], "trailing metadata is missing")
    call = w.stub.FullDuplexCall(iter([w.outputs(1)]), metadata=sent, timeout=5)
    list(call)
    expect(sent[0] in [tuple(x) for x in call.initial_metadata()], "initial metadata is missing")
    expect(sent[1] in [tuple(x) for x in call.trailing_metadata()], "trailing metadata is missing")


@case
def status_code_and_message(w):
    status = w.m.EchoStatus(code=2, message="test status message")
    for e in (error_of(lambda: w.stub.UnaryCall(w.m.SimpleRequest(response_status=status), timeout=5)),
              error_of(lambda: w.stub.FullDuplexCall(
                  iter([w.m.StreamingOutputCallRequest(response_status=status)]), timeout=5))):
        equal((e.code(), e.details()), (grpc.StatusCode.UNKNOWN, "test status message"), "status")


@case
def special_status_message(w):
    text = "\t\ntest with whitespace\r\nand Unicode BMP \u263a and non-BMP \U0001f608\t\n"
    e = error_of(lambda: w.stub.UnaryCall(w.m.SimpleRequest(
        response_status=w.m.EchoStatus(code=2, message=text)), timeout=5))
    equal((e.code(), e.details()), (grpc.StatusCode.UNKNOWN, text), "status")


@case
def unimplemented_method(w):
    e = error_of(lambda: w.stub.UnimplementedCall(w.m.Empty(), timeout=5))
    equal(e.code(), grpc.StatusCode.UNIMPLEMENTED, "status")


@case
def unimplemented_service(w):
    stub = w.stubs.UnimplementedServiceStub(w.channel)
    e = error_of(lambda: stub.UnimplementedCall(w.m.Empty(), timeout=5))
    equal(e.code(), grpc.StatusCode.UNIMPLEMENTED, "status")


@case
def cancel_after_begin(w):
    call = w.stub.StreamingInputCall.future(Pipe())
    call.cancel()
    equal(call.code(), grpc.StatusCode.CANCELLED, "status")


@case
def cancel_after_first_response(w):
    pipe = Pipe()
    call = w.stub.FullDuplexCall(pipe)
    request = w.outputs(31415)
    request.payload.CopyFrom(w.payload(27182))
    pipe.put(request)
    equal(len(next(call).payload.body), 31415, "size")
    call.cancel()
    equal(call.code(), grpc.StatusCode.CANCELLED, "status")
    pipe.close()


@case
def timeout_on_sleeping_server(w):
    began = time.monotonic()
    e = error_of(lambda: w.stub.FullDuplexCall(Pipe(), timeout=0.05))
    equal(e.code(), grpc.StatusCode.DEADLINE_EXCEEDED, "status")
    e = error_of(lambda: w.stub.StreamingOutputCall(w.outputs(1, interval=2_000_000), timeout=0.05))
    equal(e.code(), grpc.StatusCode.DEADLINE_EXCEEDED, "status")
    expect(time.monotonic() - began < 1.5, "the deadlines took too long")


# --- beyond the standard

IDENTITY = {"request_serializer": lambda b: b, "response_deserializer": lambda b: b}


def echo(channel, **keywords):
    return channel.stream_stream("/posthouse.test.Echo/Stream", **IDENTITY, **keywords)


@case
def thousand_streams_on_one_connection(w):
    channel = w.connect()
    pipes = [Pipe() for _ in range(1000)]
    calls = [echo(channel)(p, timeout=60) for p in pipes]
    for i, p in enumerate(pipes):
        p.put(b"%d" % i)
    for i, c in enumerate(calls):
        equal(next(c), b"%d" % i, "echo")
    for p in pipes:
        p.close()
    for c in calls:
        equal(list(c), [], "rest")
    channel.close()


@case
def thousand_streams_cancelled_at_once(w):
    channel = w.connect()
    calls = [echo(channel)(Pipe()) for _ in range(900)]
    for c in calls:
        c.cancel()
    equal(list(echo(channel)(iter([b"after"]), timeout=10)), [b"after"], "the connection is usable")
    channel.close()


@case
def large_messages(w):
    body = os.urandom(3_900_000)
    got = list(echo(w.channel)(iter([body] * 5), timeout=30))
    expect(got == [body] * 5, "3.9 MB messages came back changed")
    e = error_of(lambda: echo(w.channel)(iter([b"x" * (5 << 20)]), timeout=10))
    equal(e.code(), grpc.StatusCode.RESOURCE_EXHAUSTED, "status of 5 MiB")


@case
def half_closed_stream_goes_on(w):
    call = w.stub.FullDuplexCall(iter([w.outputs(1, 2, 3, interval=100_000)]), timeout=10)
    equal([len(r.payload.body) for r in call], [1, 2, 3], "sizes after the half close")


@case
def reset_streams_leave_others_alone(w):
    pipe = Pipe()
    steady = echo(w.channel)(pipe, timeout=30)
    for i in range(100):
        other = echo(w.channel)(Pipe())
        other.cancel()
        pipe.put(b"%d" % i)
        equal(next(steady), b"%d" % i, "echo")
    pipe.close()


@case
def compressed_requests_are_refused(w):
    channel = grpc.insecure_channel(f"127.0.0.1:{w.peer.grpc}",
                                    compression=grpc.Compression.Gzip)
    e = error_of(lambda: w.stubs.TestServiceStub(channel).UnaryCall(
        w.m.SimpleRequest(payload=w.payload(10_000)), timeout=5))
    equal(e.code(), grpc.StatusCode.UNIMPLEMENTED, "status")
    channel.close()


@case
def unix_socket(w):
    channel = w.connect(f"unix:{w.peer.unix}")
    equal(os.stat(w.peer.unix).st_mode & 0o777, 0o600, "mode of the socket")
    w.stubs.TestServiceStub(channel).EmptyCall(w.m.Empty(), timeout=5)
    channel.close()


@case
def tls(w):
    with open(w.peer.certificate, "rb") as f:
        credentials = grpc.ssl_channel_credentials(f.read())
    channel = grpc.secure_channel(f"localhost:{w.peer.tls}", credentials)
    stub = w.stubs.TestServiceStub(channel)
    r = stub.UnaryCall(w.m.SimpleRequest(response_size=1_000_000, payload=w.payload(1_000_000)),
                       timeout=10)
    equal(len(r.payload.body), 1_000_000, "size")
    channel.close()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cafile=w.peer.certificate)
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(["h2"])
        with socket.create_connection(("localhost", w.peer.tls)) as raw, \
                context.wrap_socket(raw, server_hostname="localhost") as s:
            equal(s.selected_alpn_protocol(), "h2", f"ALPN under {s.version()}")
    context = ssl.create_default_context(cafile=w.peer.certificate)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with socket.create_connection(("localhost", w.peer.https)) as raw, \
            context.wrap_socket(raw, server_hostname="localhost") as s:
        equal(s.selected_alpn_protocol(), "h2", "ALPN of the HTTP listener")


@case
def health(w):
    from grpc_health.v1 import health_pb2, health_pb2_grpc
    stub = health_pb2_grpc.HealthStub(w.channel)
    equal(stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status, 1, "the server")
    name = "grpc.testing.TestService"
    watch = stub.Watch(health_pb2.HealthCheckRequest(service=name), timeout=10)
    equal(next(watch).status, 1, "first state")
    w.peer.command("sick")
    equal(next(watch).status, 2, "second state")
    w.peer.command("well")
    equal(next(watch).status, 1, "third state")
    watch.cancel()
    e = error_of(lambda: stub.Check(health_pb2.HealthCheckRequest(service="none"), timeout=5))
    equal(e.code(), grpc.StatusCode.NOT_FOUND, "unknown service")
    watch = stub.Watch(health_pb2.HealthCheckRequest(service="none"), timeout=10)
    equal(next(watch).status, 3, "unknown service, watched")
    watch.cancel()


@case
def reflection(w):
    from google.protobuf.descriptor_pool import DescriptorPool
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import \
        ProtoReflectionDescriptorDatabase
    database = ProtoReflectionDescriptorDatabase(w.channel)
    expect("grpc.testing.TestService" in database.get_services(), "the service is not listed")
    pool = DescriptorPool(database)
    service = pool.FindServiceByName("grpc.testing.TestService")
    equal(service.methods_by_name["UnaryCall"].input_type.full_name, "grpc.testing.SimpleRequest",
          "type")
    call = w.channel.stream_stream("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                                   **IDENTITY)
    answer = next(call(iter([b"\x3a\x00"]), timeout=5))
    expect(b"grpc.testing.TestService" in answer, "v1 does not list the service")


# --- raw HTTP/2

MAGIC = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def text(name, value):
    """A literal field without indexing (RFC 7541 section 6.2.2)."""
    out = b"\x00"
    for part in (name, value):
        n = len(part)
        out += (bytes([n]) if n < 127 else b"\x7f" + varint(n - 127)) + part
    return out


def varint(n):
    out = b""
    while n >= 128:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def request_head(path=b"/posthouse.test.Echo/Stream", *extra, kind=b"application/grpc"):
    fields = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"x"),
              (b"content-type", kind), (b"te", b"trailers"), *extra]
    return b"".join(text(*f) for f in fields)


class Raw:
    def __init__(self, port, preface=True):
        self.s = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.buffer = b""
        if preface:
            self.s.sendall(MAGIC + frame(4, 0, 0))

    def read(self, n):
        while len(self.buffer) < n:
            more = self.s.recv(65536)
            if not more:
                raise EOFError
            self.buffer += more
        out, self.buffer = self.buffer[:n], self.buffer[n:]
        return out

    def frame(self):
        head = self.read(9)
        n = int.from_bytes(head[:3], "big")
        return head[3], head[4], int.from_bytes(head[5:], "big"), self.read(n)

    def until(self, kinds):
        while True:
            f = self.frame()
            if f[0] in kinds:
                return f

    def rest(self):
        """Everything until the peer closes."""
        out = self.buffer
        try:
            while True:
                more = self.s.recv(65536)
                if not more:
                    return out
                out += more
        except ConnectionError:
            return out


def still_serves(w):
    equal(w.stub.EmptyCall(w.m.Empty(), timeout=5), w.m.Empty(), "another client's answer")


@case
def declared_gigabyte(w):
    raw = Raw(w.peer.grpc)
    before = w.peer.memory()
    raw.s.sendall(frame(1, 4, 1, request_head()))
    raw.s.sendall(frame(0, 0, 1, b"\x00" + struct.pack(">I", 1 << 30) + b"x" * 1000))
    seen = b""
    while True:
        kind, flags, stream, payload = raw.frame()
        if kind == 1:
            seen += payload
            if flags & 1:
                break
    expect(b"8" in seen, "no RESOURCE_EXHAUSTED")
    expect(w.peer.memory() - before < 4096, "memory grew")
    still_serves(w)


@case
def rapid_reset(w):
    raw = Raw(w.peer.grpc)
    head = request_head()
    gone = False
    try:
        for i in range(20_000):
            raw.s.sendall(frame(1, 4, 2 * i + 1, head) + frame(3, 0, 2 * i + 1, b"\0\0\0\x08"))
    except OSError:
        gone = True
    if not gone:
        rest = raw.rest()
        gone = True
        expect(b"\x07" in rest, "no GOAWAY")
    expect(w.peer.counts()["floods"] > 0, "the flood was not counted")
    still_serves(w)


def flood(w, data, times):
    raw = Raw(w.peer.grpc)
    before = w.peer.memory()
    try:
        for _ in range(times):
            raw.s.sendall(data)
        raw.s.settimeout(10)
        raw.rest()
    except OSError:
        pass
    expect(w.peer.memory() - before < 16_384, "memory grew")
    still_serves(w)


@case
def ping_flood(w):
    flood(w, frame(6, 0, 0, b"12345678") * 1000, 200)


@case
def settings_flood(w):
    flood(w, frame(4, 0, 0, b"\x00\x04\x00\x01\x00\x00") * 1000, 200)


@case
def continuation_flood(w):
    raw = Raw(w.peer.grpc)
    try:
        raw.s.sendall(frame(1, 0, 1, request_head()))
        for i in range(10_000):
            raw.s.sendall(frame(9, 0, 1, text(b"x-%d" % i, b"y" * 200)))
        raw.rest()
    except OSError:
        pass
    still_serves(w)


@case
def header_list_too_large(w):
    raw = Raw(w.peer.grpc)
    block = request_head() + b"".join(text(b"x-%d" % i, b"y" * 300) for i in range(60))
    raw.s.sendall(frame(1, 0, 1, block[:16000]) + frame(9, 4, 1, block[16000:]))
    _, flags, _, payload = raw.until([1])
    expect(flags & 1, "no trailers-only answer")
    still_serves(w)


@case
def not_grpc(w):
    raw = Raw(w.peer.grpc)
    raw.s.sendall(frame(1, 5, 1, request_head(kind=b"text/plain")))
    _, _, _, payload = raw.until([1])
    expect(b"415" in payload or b"\x08\x03" in payload, f"no 415: {payload!r}")


@case
def garbage_on_every_listener(w):
    for port in (w.peer.grpc, w.peer.tls, w.peer.http, w.peer.https):
        for data in (os.urandom(4096), b"\x00" * 100, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff"):
            with socket.create_connection(("127.0.0.1", port), timeout=15) as s:
                try:
                    s.sendall(data)
                    s.shutdown(socket.SHUT_WR)
                    while s.recv(65536):
                        pass
                except OSError:  # cut while we still write
                    pass
    still_serves(w)


@case
def http1_on_the_grpc_port(w):
    answer = http1(w.peer.grpc, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    expect(answer.startswith(b"HTTP/1.1 400 "), f"answer {answer[:80]!r}")


# --- HTTP/1.1

def http1(port, data, pieces=None):
    with socket.create_connection(("127.0.0.1", port), timeout=15) as s:
        try:
            if pieces:
                for i in range(0, len(data), pieces):
                    s.sendall(data[i:i + pieces])
            else:
                s.sendall(data)
        except ConnectionError:
            pass
        out = b""
        try:
            while True:
                more = s.recv(65536)
                if not more:
                    return out
                out += more
        except ConnectionError:
            return out


@case
def http1_keep_alive_and_pipelining(w):
    one = b"POST /a%20b?q=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
    last = b"GET /end HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for pieces in (None, 1, 7):
        answer = http1(w.peer.http, one * 3 + last, pieces)
        equal(answer.count(b"HTTP/1.1 200 OK"), 4, "answers")
        equal(answer.count(b"x-path: /a%20b\r\n"), 3, "paths")
        equal(answer.count(b"x-query: q=1\r\n"), 3, "queries")
        equal(answer.count(b"\r\n\r\nhello"), 3, "bodies")
        expect(b"connection: close" in answer, "no connection: close")


@case
def http1_chunked(w):
    body = b"5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\ntrailer: x\r\n\r\n"
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    for pieces in (None, 1):
        answer = http1(w.peer.http, head + body, pieces)
        expect(answer.endswith(b"\r\n\r\nhello world"), f"answer {answer!r}")


@case
def http1_head_continue_late_dropped(w):
    answer = http1(w.peer.http, b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    expect(answer.endswith(b"\r\n\r\n") and b"content-length: 0" in answer, f"{answer!r}")
    answer = http1(w.peer.http, b"GET /late HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    expect(answer.endswith(b"late"), f"{answer!r}")
    answer = http1(w.peer.http, b"GET /dropped HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    expect(answer.startswith(b"HTTP/1.1 500 "), f"{answer!r}")
    answer = http1(w.peer.http, b"GET http://x/abs?y HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    expect(b"x-path: /abs\r\n" in answer, f"{answer!r}")
    answer = http1(w.peer.http, b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    equal(len(answer.split(b"\r\n\r\n", 1)[1]), 8 << 20, "size of a big answer")
    with socket.create_connection(("127.0.0.1", w.peer.http), timeout=5) as s:
        s.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n"
                  b"Connection: close\r\n\r\n")
        expect(s.recv(100).startswith(b"HTTP/1.1 100 "), "no 100 Continue")
        s.sendall(b"ok")
        out = b""
        while True:
            more = s.recv(65536)
            if not more:
                break
            out += more
        expect(out.endswith(b"ok"), f"{out!r}")


@case
def http1_strictness(w):
    base = b"Host: x\r\nConnection: close\r\n"
    for wanted, data in [
        (400, b"GET / HTTP/1.1\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        (400, b"GET / HTTP/1.1\nHost: x\n\n"),
        (400, b"GET / HTTP/1.1\r\nHost : x\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\n" + base + b"a: b\r\n c\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\n" + base + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        (400, b"POST / HTTP/1.1\r\n" + base + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\n" + base + b"Content-Length: -1\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\n" + base + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"),
        (501, b"POST / HTTP/1.1\r\n" + base + b"Transfer-Encoding: gzip\r\n\r\n"),
        (505, b"GET / HTTP/3.0\r\n" + base + b"\r\n"),
        (413, b"POST / HTTP/1.1\r\n" + base + b"Content-Length: 99999999999\r\n\r\n"),
        (413, b"POST / HTTP/1.1\r\n" + base + b"Transfer-Encoding: chunked\r\n\r\nffffff\r\n"),
        (431, b"GET / HTTP/1.1\r\n" + base + b"a: b\r\n" * 200 + b"\r\n"),
        (200, b"\r\nGET / HTTP/1.1\r\n" + base + b"\r\n"),
    ]:
        answer = http1(w.peer.http, data)
        expect(answer.startswith(b"HTTP/1.1 %d " % wanted), f"{data[:60]!r}: {answer[:60]!r}")
        if wanted != 200:
            expect(b'"code":"' in answer, f"no JSON in {answer!r}")


@case
def http1_ten_megabyte_header(w):
    before = w.peer.memory()
    answer = http1(w.peer.http, b"GET / HTTP/1.1\r\nHost: x\r\nbig: " + b"x" * (10 << 20))
    expect(answer.startswith(b"HTTP/1.1 431 "), f"answer {answer[:80]!r}")
    expect(w.peer.memory() - before < 4096, "memory grew")


@case
def slowloris(w):
    before = w.peer.counts()["head_timeouts"]
    sockets = [socket.create_connection(("127.0.0.1", p), timeout=20)
               for p in (w.peer.http, w.peer.grpc, w.peer.tls, w.peer.https) for _ in range(5)]
    began = time.monotonic()
    for s in sockets[:5]:
        s.sendall(b"GET / HTTP/1.1\r\n")
    for i in range(8):
        time.sleep(1)
        for s in sockets[:5]:
            s.sendall(b"a%d: b\r\n" % i)
    still_serves(w)
    for s in sockets:
        try:
            while s.recv(65536):
                pass
        except ConnectionError:
            pass
    expect(time.monotonic() - began < 16, "slow clients were kept too long")
    expect(w.peer.counts()["head_timeouts"] - before >= 20, "the cuts were not counted")


@case
def http_over_h2(w):
    for port, secure in ((w.peer.http, False), (w.peer.https, True)):
        flags = ["--http2", "-k"] if secure else ["--http2-prior-knowledge"]
        url = f"{'https' if secure else 'http'}://127.0.0.1:{port}/p?q=2"
        out = subprocess.run(["curl", "-sS", "-i", *flags, "-d", "hello", url],
                             capture_output=True, text=True, timeout=20)
        expect(out.stdout.startswith("HTTP/2 200") and out.stdout.endswith("hello")
               and "x-path: /p" in out.stdout and "x-query: q=2" in out.stdout,
               f"{out.stdout!r} {out.stderr!r}")
    out = subprocess.run(["curl", "-sS", "-k", "--http1.1", "-d", "hello",
                          f"https://127.0.0.1:{w.peer.https}/"],
                         capture_output=True, text=True, timeout=20)
    equal(out.stdout, "hello", "HTTP/1.1 over TLS")


@case
def idle_connections_cost_little(w):
    count = 2000
    before = w.peer.memory()
    held = []
    for _ in range(count):
        s = socket.create_connection(("127.0.0.1", w.peer.grpc))
        s.sendall(MAGIC + frame(4, 0, 0))
        held.append(s)
    for s in held:
        s.settimeout(10)
        s.recv(4096)
    each = (w.peer.memory() - before) / count
    print(f"     an idle h2c connection costs {each:.1f} KiB")
    expect(each < 32, f"{each:.1f} KiB each")
    for s in held:
        s.close()


@case
def zz_drain(w):
    """Last: the peer takes no new connections after this."""
    pipe = Pipe()
    call = echo(w.channel)(pipe, timeout=30)
    pipe.put(b"before")
    equal(next(call), b"before", "echo before")
    w.peer.command("drain")
    time.sleep(0.5)
    pipe.put(b"after")
    equal(next(call), b"after", "an open call goes on")
    pipe.close()
    equal(list(call), [], "and ends well")
    channel = w.connect()
    e = error_of(lambda: w.stubs.TestServiceStub(channel).EmptyCall(w.m.Empty(), timeout=3))
    equal(e.code(), grpc.StatusCode.UNAVAILABLE, "a new client")


def certificate(directory):
    cert, key = os.path.join(directory, "cert.pem"), os.path.join(directory, "key.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-keyout", key, "-out", cert, "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True)
    return cert, key


def stubs(directory):
    schema = os.path.join(ROOT, "Proto", "schema")
    code = protoc.main(["", f"-I{schema}", f"--python_out={directory}",
                        f"--grpc_python_out={directory}",
                        os.path.join(schema, "grpc", "testing", "test.proto")])
    expect(code == 0, "the schema does not compile")
    # The generated folder must not stand in front of the grpc package itself.
    made = os.path.join(directory, "grpc", "testing")
    for name in ("test_pb2.py", "test_pb2_grpc.py"):
        with open(os.path.join(made, name)) as f:
            source = f.read()
        with open(os.path.join(directory, name), "w") as f:
            f.write(source.replace("from grpc.testing import", "import"))
    sys.path.append(directory)
    import test_pb2
    import test_pb2_grpc
    return test_pb2, test_pb2_grpc


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--bin", default=os.path.join(ROOT, ".build", "release"))
    arguments.add_argument("--counts", choices=["ci", "proof"], default="ci")
    arguments.add_argument("--peer", help="the program; else grpcpeer in --bin")
    arguments.add_argument("--only", default="")
    arguments.add_argument("--verbose", action="store_true")
    options = arguments.parse_args()
    failures = 0
    with tempfile.TemporaryDirectory() as directory:
        messages, services = stubs(directory)
        cert, key = certificate(directory)
        program = options.peer or os.path.join(options.bin, "grpcpeer")
        peer = Peer(program, cert, key, os.path.join(directory, "grpc.sock"))
        try:
            world = World(peer, messages, services)
            for run in CASES:
                if not run.__name__.startswith(options.only):
                    continue
                began = time.monotonic()
                try:
                    run(world)
                    print(f"PASS {run.__name__} ({time.monotonic() - began:.2f} s)")
                except Exception as error:  # every failure is told, the rest goes on
                    failures += 1
                    print(f"FAIL {run.__name__}: {type(error).__name__}: {error}")
                    if options.verbose:
                        traceback.print_exc()
                sys.stdout.flush()
                if peer.process.poll() is not None:
                    print(f"FAIL the peer ended with {peer.process.returncode}")
                    failures += 1
                    break
            if peer.process.poll() is None:
                peer.process.stdin.close()
                try:
                    equal(peer.process.wait(timeout=15), 0, "exit code of the peer")
                except (AssertionError, subprocess.TimeoutExpired) as error:
                    print(f"FAIL ending: {error}")
                    failures += 1
        finally:
            if peer.process.poll() is None:
                peer.process.kill()
    print("PASS all" if failures == 0 else f"FAIL {failures} cases")
    sys.stdout.flush()
    # grpcio's threads of cancelled calls would hold the interpreter.
    os._exit(0 if failures == 0 else 1)


if __name__ == "__main__":
    main()
