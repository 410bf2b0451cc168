#!/usr/bin/env python3
"""Nodes come and go under SLIM applications that talk. kill -9 while a successor waits with the same listening
sockets: 3.3.8 goes on (1.4.1 raises an error when it publishes in the gap, with its own nodes, too). A drain
every 4 s, `posthouse node drain` with a successor waiting: no version loses a message.

The sockets are inherited (LISTEN_FDS, LISTEN_FDNAMES=grpc:http): with two sockets on one port instead, a
connection that reaches the dying one is lost, and every second conversation with it.

--node http://127.0.0.1:PORT  the drain's conversations through a node that ends its streams by itself"""

import concurrent.futures
import shutil
import socket
import sys
import tempfile
import time

from node import Node, Report, arguments
from slim_pair import NotInstalled, Setup, converse, slim_python

VERSIONS = ["1.4.1", "3.3.8"]
GOES_ON = "3.3.8"
EVERY_SECONDS = 4


def listener() -> socket.socket:
    one = socket.create_server(("127.0.0.1", 0), backlog=1024)
    one.setblocking(False)
    return one


class Succession:
    """One node after another on one data directory and the same listening sockets."""

    def __init__(self, a):
        self.a = a
        self.data = tempfile.mkdtemp(prefix="posthouse-succession-")
        self.listeners = {"grpc": listener(), "http": listener()}
        self.grpc = "127.0.0.1:%d" % self.listeners["grpc"].getsockname()[1]
        self.nodes = [self.made().start()]

    def __enter__(self) -> "Succession":
        return self

    def __exit__(self, *_) -> None:
        for node in self.nodes:
            node.close()
        for one in self.listeners.values():
            one.close()
        shutil.rmtree(self.data, ignore_errors=True)

    def made(self) -> Node:
        return Node(self.a.bin, data=self.data, auth="open", keep=self.a.keep, listeners=self.listeners)

    def wait_in_line(self) -> tuple[Node, Node]:
        """(who serves, who waits for its directory)."""
        serving, waiting = self.nodes[-1], self.made()
        self.nodes.append(waiting)
        waiting.begin()
        time.sleep(0.5)
        return serving, waiting

    def kill(self) -> None:
        serving, waiting = self.wait_in_line()
        serving.kill9()
        waiting.finish_start()

    def drain(self) -> None:
        serving, waiting = self.wait_in_line()
        serving.posthouse("node", "drain")
        serving.process.wait(20)
        waiting.finish_start()


def killed(report: Report, a, rounds: int) -> None:
    for number in range(rounds):
        with Succession(a) as line, concurrent.futures.ThreadPoolExecutor(1) as pool:
            setup = Setup(f"http://{line.grpc}", (GOES_ON, GOES_ON), count=30, gap=0.2)
            talk = pool.submit(converse, setup, "p2p-mls")
            time.sleep(3)
            report.check("the conversation is under way at the kill", not talk.done())
            line.kill()
            outcome = talk.result()
            report.check(f"{GOES_ON} goes on after kill -9 ({number + 1})", outcome.passed, outcome.detail)


def drained(report: Report, a) -> None:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        if a.node:
            check_drained(report, conversations(pool, a.node), lambda: None)
            return
        with Succession(a) as line:
            check_drained(report, conversations(pool, f"http://{line.grpc}"), line.drain)
            report.check("several drains came in between", len(line.nodes) >= 3, len(line.nodes) - 1)


def conversations(pool, url: str) -> dict:
    return {(version, scenario): pool.submit(
        converse, Setup(url, (version, version), count=30, gap=0.4), scenario)
        for version in VERSIONS for scenario in ("p2p-mls", "grp-mls")}


def check_drained(report: Report, talks: dict, drain) -> None:
    while not all(talk.done() for talk in talks.values()):
        time.sleep(EVERY_SECONDS)
        if not all(talk.done() for talk in talks.values()):
            drain()
    for (version, scenario), talk in talks.items():
        outcome = talk.result()
        report.check(f"{version} {scenario} with a drain every {EVERY_SECONDS} s", outcome.passed,
                     f"{outcome.seconds:.0f} s, {outcome.detail}"
                     + (", second try after the apps' own flake" if outcome.repeated else ""))


def main() -> int:
    a = arguments(__doc__, node="", only="kill,drain")
    report = Report("slim drain")
    try:
        for version in VERSIONS:
            slim_python(version)
    except NotInstalled as error:
        return report.skip(str(error))
    if "kill" in a.only:
        killed(report, a, 4 if a.counts == "proof" else 1)
    if "drain" in a.only:
        drained(report, a)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
