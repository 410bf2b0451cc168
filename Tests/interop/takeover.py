#!/usr/bin/env python3
"""Node after node takes over the listening sockets while clients work: no connect is refused, no call fails, a
publisher loses and doubles nothing. Then the same with sockets a supervisor keeps (systemd's LISTEN_FDS)."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time

# First: it switches gRPC's fork handlers off, and this test starts programs while calls run.
from node import Node, Publisher, Report, Stubs, arguments, dial, poll, read_channel

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

CHANNEL = "acme/takeover/lane"
ROUNDS = 5
PRODUCER = 11


class Successive(Node):
    """Nodes on one data directory and one admin socket."""

    def __init__(self, a, data: str, admin: str, extra=(), settings=None, **more):
        super().__init__(a.bin, data=data, auth="open", keep=a.keep, extra=list(extra), **more)
        self.settings = {"--admin-socket": admin, **(settings or {})}

    def command(self) -> list[str]:
        line = super().command()
        for flag, value in self.settings.items():
            line[line.index(flag) + 1] = value
        return line


class Loop:
    """Does one thing again and again; keeps what went wrong and how long the longest took."""

    def __init__(self, step):
        self.step = step
        self.done = 0
        self.longest = 0.0
        self.errors: list[str] = []
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        while not self.stop.is_set():
            began = time.monotonic()
            try:
                self.step()
            except Exception as error:
                self.errors.append(f"{type(error).__name__} {error}"[:600])
            self.done += 1
            self.longest = max(self.longest, time.monotonic() - began)
            time.sleep(0.002)

    def end(self) -> None:
        self.stop.set()
        self.thread.join(30)


def one_port(address: str):
    host, port = address.rsplit(":", 1)
    return host, int(port)


def ordinary(address: str) -> grpc.Channel:
    """As applications make it: a call that the server has not looked at is made again by the library."""
    return grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])


def connects(address: str):
    """Connects and asks on a connection of its own, as a client that starts just now does."""
    def step() -> None:
        channel = ordinary(address)
        try:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20)
        finally:
            channel.close()
    return step


def raw_connects(address: str):
    def step() -> None:
        # From an address of their own: what they leave in TIME_WAIT keeps no port of 127.0.0.1 from being bound.
        socket.create_connection(one_port(address), timeout=20, source_address=("127.0.0.2", 0)).close()
    return step


def calls(address: str):
    channel = ordinary(address)
    stub = health_pb2_grpc.HealthStub(channel)

    def step() -> None:
        stub.Check(health_pb2.HealthCheckRequest(), timeout=20)
    return step


def pages(address: str):
    def step() -> None:
        connection = http.client.HTTPConnection(
            *one_port(address), timeout=20, source_address=("127.0.0.2", 0))
        try:
            connection.request("GET", "/livez")
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"/livez {answer.status}")
        finally:
            connection.close()
    return step


class Sender(threading.Thread):
    """Publishes 1, 2, 3, ... and, when a stream has ended, sends again what has no answer."""

    def __init__(self, address: str):
        super().__init__(daemon=True)
        self.address = address
        self.acked: dict[int, int] = {}
        self.streams = 0
        self.statuses: list[str] = []
        self.last = 0
        self.stopping = threading.Event()
        self.start()

    def run(self) -> None:
        next_number = 1
        while True:
            publisher = Publisher(self.address, None, window=64)
            self.streams += 1
            number = next_number
            while not publisher.ended.is_set():
                if self.stopping.is_set() and number > self.last:
                    publisher.finish(30)
                    break
                if not publisher.publish(CHANNEL, b"%d" % number, producer=PRODUCER, number=number, timeout=5):
                    break
                self.last = max(self.last, number)
                number += 1
                time.sleep(0.001)
            publisher.ended.wait(10)
            publisher.close()
            self.acked.update(publisher.acked)
            self.statuses.append(str(publisher.error.code()) if publisher.error else "OK")
            while next_number in self.acked:
                next_number += 1
            if self.stopping.is_set() and next_number > self.last:
                return


def watch(address: str) -> None:
    """A stream without an end must not hold a takeover up."""
    channel = dial(address)
    try:
        for _ in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest()):
            pass
    except grpc.RpcError:
        pass


def check_archive(report: Report, address: str, sender: Sender) -> None:
    kept = [(m.producer_sequence, m.sequence) for m in read_channel(address, None, CHANNEL)]
    numbers = [number for number, _ in kept]
    report.check("the publisher worked across all of them", sender.streams > ROUNDS and sender.last > 100,
                 f"{sender.streams} streams, {sender.last} messages")
    report.check("nothing is lost and nothing doubled", numbers == list(range(1, sender.last + 1)),
                 f"{len(numbers)} of {sender.last}")
    report.check("every answer was the truth", all(sender.acked.get(n) == s for n, s in kept))
    report.check("every stream ended with OK", set(sender.statuses) == {"OK"}, set(sender.statuses))


def takeovers(report: Report, a) -> None:
    with Node(a.bin, auth="open", keep=a.keep) as first:
        loops = {"connects": Loop(raw_connects(first.grpc)), "calls on connections of their own":
                 Loop(connects(first.grpc)), "calls on one channel": Loop(calls(first.grpc)),
                 "HTTP requests": Loop(pages(first.http))}
        sender = Sender(first.grpc)
        nodes = [first]
        try:
            for number in range(ROUNDS):
                threading.Thread(target=watch, args=(first.grpc,), daemon=True).start()
                time.sleep(1)
                old = nodes[-1]
                began = time.monotonic()
                new = Successive(a, first.data, first.admin, ["--takeover"])
                nodes.append(new)
                new.start()
                seconds = time.monotonic() - began
                status = old.process.wait(20)
                report.check(f"takeover {number + 1}: the old one exits 0", status == 0, status)
                report.check("its addresses stay", (new.grpc, new.http, new.admin)
                             == (first.grpc, first.http, first.admin), new.grpc)
                report.check("within 5 s", seconds < 5, f"{seconds:.2f} s")
                done = new.posthouse("status", check=False)
                report.check("posthouse reaches the new one", done.returncode == 0, done.stderr)
            time.sleep(1)
            sender.stopping.set()
            sender.join(60)
            for name, loop in loops.items():
                loop.end()
                report.check(f"{name}: none failed", loop.done > 20 and not loop.errors,
                             f"{loop.done} done, longest {loop.longest:.2f} s, {loop.errors[:3]}")
            report.number(f"longest call {loops['calls on one channel'].longest * 1000:.0f} ms over "
                          f"{ROUNDS} takeovers")
            check_archive(report, first.grpc, sender)
            refused(report, a, nodes[-1], first)
        finally:
            for node in nodes[1:]:
                node.close()


def attempt(node: Node) -> tuple[int, str]:
    """(exit status, last line on standard error) of a node that should not come up."""
    done = subprocess.run(node.command(), capture_output=True, text=True, timeout=60,
                          env={**os.environ, **node.environment})
    return done.returncode, done.stderr.strip().splitlines()[-1]


def refused(report: Report, a, serving: Node, first: Node) -> None:
    other = Successive(a, first.data, first.admin, ["--takeover", "--set", "http_tls=127.0.0.1:0"])
    elsewhere = Successive(a, os.path.join(first.home, "elsewhere"), first.admin, ["--takeover"])
    nobody = Successive(a, first.data, os.path.join(first.home, "nobody.sock"), ["--takeover"])
    moved = Successive(a, first.data, first.admin, ["--takeover"], {"--grpc": "127.0.0.2:0"})
    for node, says in ((other, "certificate"), (elsewhere, "another data directory"),
                       (nobody, "no node to take over from"), (moved, "the settings say 127.0.0.2:0")):
        status, line = attempt(node)
        report.check(f"refused: {says}", status != 0 and says in line, f"{status} {line}")
        node.close()
    report.check("the node serves on", serving.running() and serving.get("/readyz")[0] == 200)


def supervised(report: Report, a) -> None:
    """Sockets that outlive every node; SIGTERM then ends streams with OK, and kill -9 lets the next one in."""
    sockets = {}
    for name in ("grpc", "http"):
        sockets[name] = socket.create_server(("127.0.0.1", 0), backlog=1024)
    ports = {name: "127.0.0.1:%d" % one.getsockname()[1] for name, one in sockets.items()}
    nodes = []

    def made(first: Node | None, listeners=None, settings=None) -> Node:
        listeners = listeners or sockets
        if first:
            node = Successive(a, first.data, first.admin, settings=settings, listeners=listeners)
        else:
            node = Node(a.bin, auth="open", keep=a.keep, listeners=listeners)
        nodes.append(node)
        return node

    try:
        first = made(None).start()
        report.check("a node serves on the sockets it was given", (first.grpc, first.http)
                     == (ports["grpc"], ports["http"]), first.grpc)
        loop = Loop(connects(first.grpc))
        raw = Loop(raw_connects(first.grpc))
        pb, services = Stubs.dataplane()
        channel = dial(first.grpc)
        ended = threading.Event()

        def hold() -> None:
            for _ in services.DataPlaneServiceStub(channel).OpenChannel(iter(ended.wait, True)):
                pass
            ended.set()  # without an exception: OK

        threading.Thread(target=hold, daemon=True).start()
        poll(10, lambda: "posthouse_sessions 1" in first.metrics())
        status = first.terminate()
        report.check("SIGTERM exits 0", status == 0, status)
        report.check("its streams end with OK: the sockets are kept", ended.wait(10))
        # By address instead of name, as systemd does without FileDescriptorName.
        second = made(first, {"posthoused.socket": sockets["grpc"], "unknown": sockets["http"]},
                      {"--grpc": ports["grpc"], "--http": ports["http"]}).start()
        report.check("sockets are known by their address, too", second.http == ports["http"], second.http)
        waiting = made(first)
        waiting.begin()
        report.check("a node in line waits for the directory",
                     poll(10, lambda: "waiting for the data directory" in waiting.log()))
        second.kill9()
        waiting.finish_start()
        report.check("it serves after kill -9", waiting.get("/readyz")[0] == 200)
        idle = made(first)
        idle.begin()
        poll(10, lambda: "waiting for the data directory" in idle.log())
        os.kill(idle.pid, signal.SIGTERM)
        report.check("SIGTERM ends a node in line", idle.process.wait(10) == 0, idle.process.returncode)
        for one in (loop, raw):
            one.end()
            refused_ones = [e for e in one.errors if "refused" in e.lower()]
            report.check("no connect was refused", one.done > 3 and not refused_ones,
                         f"{one.done} done, {refused_ones[:2]}")
        with socket.create_server(("127.0.0.1", 0)) as stray:
            wrong = made(first, {"grpc": sockets["grpc"], "stray": stray},
                         {"--grpc": ports["grpc"], "--http": ports["http"]})
            wrong.begin()
            report.check("a socket nobody has a setting for is an error", wrong.process.wait(20) != 0
                         and "no setting has this name" in wrong.log(), wrong.log()[-200:])
    finally:
        for node in nodes[::-1]:
            node.close()
        for one in sockets.values():
            one.close()


def main() -> int:
    a = arguments(__doc__)
    report = Report("takeover")
    takeovers(report, a)
    supervised(report, a)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
