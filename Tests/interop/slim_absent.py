#!/usr/bin/env python3
"""A member of a SLIM group is away for 5 s while the group goes on, and gets what it missed, once and in order.
Its connection is cut, and refused until it may come back: a proxy of this test does it. (A process that was
killed has lost its session, and no version takes one up again; an application whose connection is accepted and
closed at once gives up.)

Two groups for each family: in one the speaker goes on, so that senders could repeat what is missing as well; in the
other the speaker is gone (kill -9) before the member is back, so that only the node can have it.

--replay N   another slim.replay: with 0 the second group must FAIL"""

import concurrent.futures
import contextlib
import socket
import sys
import threading
import time
import uuid

from node import Node, Report, arguments, poll
from slim_pair import App, NotInstalled, slim_python

VERSIONS = {"A": "1.4.1", "B": "3.3.8"}
AWAY_SECONDS = 5
GAP = 0.2           # seconds between messages
BEFORE = 6          # messages before the member goes away


class Cable:
    """TCP from an application to the node, which can be pulled out and put back."""

    def __init__(self, target: str):
        host, port = target.rsplit(":", 1)
        self.target = host, int(port)
        self.lock = threading.Lock()
        self.sockets: list[socket.socket] = []
        self.connections = 0
        # Bound and not listening: it keeps the port while the cable is out.
        self.holder = socket.socket()
        self.holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.holder.bind(("127.0.0.1", 0))
        self.port = self.holder.getsockname()[1]
        self.put_back()

    def __enter__(self) -> "Cable":
        return self

    def __exit__(self, *_) -> None:
        self.pull()
        self.holder.close()

    def put_back(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def pull(self) -> None:
        """Ends all connections on both sides; who comes is refused until `put_back`."""
        with self.lock:
            # A thread that waits in accept keeps a closed socket open.
            with contextlib.suppress(OSError):
                self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            for one in self.sockets:
                self._end(one)
            self.sockets.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                if listener is not self.listener or listener.fileno() < 0:
                    near.close()
                    return
                far = socket.create_connection(self.target)
                self.sockets += [near, far]
                self.connections += 1
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    @classmethod
    def _carry(cls, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
        cls._end(source)
        cls._end(sink)

    @staticmethod
    def _end(one: socket.socket) -> None:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


class Group:
    """A host that invites, somebody who speaks (the host itself, or a member), and a listener behind a cable."""

    def __init__(self, node: Node, cable: Cable, version: str, host_speaks: bool):
        self.url, self.python = f"http://{node.grpc}", slim_python(version)
        self.place = f"acme/w{uuid.uuid4().hex[:8]}"
        self.count = 60 if host_speaks else 30
        self.apps: list[App] = []
        self.listener = self.app("listener", f"http://127.0.0.1:{cable.port}")
        self.speaker = None if host_speaks else self.app("speaker", self.url, count=self.count)
        names = [one.own_name for one in self.apps]
        self.host = self.app("host", self.url, count=self.count if host_speaks else 0, members=names,
                             channel=f"{self.place}/chan")
        for _ in names:
            self.host.wait("invited", 40)
        name = "host" if host_speaks else "speaker"
        self.wanted = [f"{name}:{number}" for number in range(self.count)]

    def app(self, role: str, url: str, **options) -> App:
        one = App(self.python, url, role, f"{self.place}/{role}", {"gap": GAP} | options)
        self.apps.append(one)
        one.wait("ready", 30)
        return one

    def heard(self) -> list[str]:
        return [text for text in self.listener.texts() if text != "go"]

    def end(self) -> None:
        for one in self.apps:
            one.end()


def absence(report: Report, node: Node, version: str, host_speaks: bool) -> None:
    what = f"{version}, the speaker {'goes on' if host_speaks else 'is gone'}"
    group = None
    with Cable(node.grpc) as cable:
        try:
            group = Group(node, cable, version, host_speaks)
            report.check(f"{what}: the member hears the group", poll(20, lambda: len(group.heard()) >= BEFORE))
            cable.pull()
            left = len(group.heard())
            time.sleep(AWAY_SECONDS)
            if group.speaker:
                group.speaker.wait("spoken", 20)
                group.speaker.end()
            report.check(f"{what}: it is away, and hears nothing", len(group.heard()) <= left + 1,
                         f"{left} before, {len(group.heard())} after")
            back = time.monotonic()
            cable.put_back()
            missed = left + int(AWAY_SECONDS / GAP / 2)
            caught_up = poll(20, lambda: len(group.heard()) >= missed)
            seconds = time.monotonic() - back
            poll(20, lambda: len(group.heard()) >= group.count, 0.2)
            heard = group.heard()
            lacking = [text for text in group.wanted if text not in heard]
            report.check(f"{what}: back after {AWAY_SECONDS} s it gets what it missed, once and in order",
                         heard == group.wanted,
                         f"{len(heard)} of {group.count}, lacking {len(lacking)} {lacking[:2]}, "
                         + (f"caught up after {seconds:.1f} s" if caught_up else "not caught up"))
            report.check(f"{what}: it came back once", cable.connections == 2, cable.connections)
        except (RuntimeError, TimeoutError) as error:
            report.check(what, False, error)
        finally:
            if group:
                group.end()


def main() -> int:
    a = arguments(__doc__, replay=100)
    report = Report("slim absent")
    try:
        for version in VERSIONS.values():
            slim_python(version)
    except NotInstalled as error:
        return report.skip(str(error))
    settings = ["--set", f"slim.replay={a.replay}", "--set", "slim.replay_window=30s"]
    with Node(a.bin, auth="open", keep=a.keep, extra=settings) as node, \
            concurrent.futures.ThreadPoolExecutor(4) as pool:
        talks = [pool.submit(absence, report, node, version, host_speaks)
                 for version in VERSIONS.values() for host_speaks in (True, False)]
        for talk in talks:
            talk.result()
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
