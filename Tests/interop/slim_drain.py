#!/usr/bin/env python3
"""Nodes come and go under SLIM applications that talk. kill -9 while a successor waits with the same listening
sockets, five times under each conversation: it goes on. A drain every 4 s, `posthouse node drain` with a successor
waiting: no version loses a message.

What an app publishes while it has no connection is lost in the app: 3.3.8 forgets it ("connection not found"), 1.x
raises an error, with every node. The successor gives it a link within milliseconds, and no sooner; so the kills come
between two messages. With --counts proof some come at any moment, and how many conversations stop is printed.

The sockets are inherited (LISTEN_FDS, LISTEN_FDNAMES=grpc:http): with two sockets on one port instead, a
connection that reaches the dying one is lost, and every second conversation with it.

--node http://127.0.0.1:PORT  the drain's conversations through a node that ends its streams by itself"""

import concurrent.futures
import os
import random
import shutil
import socket
import sys
import tempfile
import time

from node import Node, Report, arguments, poll
from slim_pair import NotInstalled, Setup, converse, slim_python

VERSIONS = ["1.4.1", "3.3.8"]
EVERY_SECONDS = 4
KILLS = 5
GAP_SECONDS = 0.3       # between the messages of a conversation under kills
OPENING_SECONDS = 1     # of the next node's database: slow on purpose, messages fall into it
MOMENTS = 10


def listener() -> socket.socket:
    one = socket.create_server(("127.0.0.1", 0), backlog=1024)
    one.setblocking(False)
    return one


def opened(pipe: str) -> bool:
    """Lets go whoever reads it, when somebody does."""
    try:
        os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


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

    def kill(self, opening_seconds: float) -> None:
        """With somebody in line, whose database is not open before that time is over: it looks at every table first,
        and one of them is a pipe that nobody writes to."""
        serving, waiting = self.nodes[-2:]
        table = os.path.join(self.data, "db", "000001.sst")
        os.mkfifo(table)
        serving.kill9()
        time.sleep(opening_seconds)
        poll(20, lambda: opened(table), 0.005)
        waiting.finish_start()

    def drain(self) -> None:
        serving, waiting = self.wait_in_line()
        serving.posthouse("node", "drain")
        serving.process.wait(20)
        waiting.finish_start()


def between_messages(setup: Setup) -> bool:
    """Waits until the receiver has just answered; False when it has all."""
    receiver = poll(40, lambda: next((app for app in setup.started if app.texts()), None))
    seen = len(receiver.texts()) if receiver else setup.count
    if not receiver or not poll(20, lambda: len(receiver.texts()) > seen, 0.005):
        return False
    time.sleep(0.05)
    return len(receiver.texts()) < setup.count


def survives(a, version: str, kills: int, any_moment: bool = False):
    """(a conversation's outcome, kills that came under it)."""
    with Succession(a) as line, concurrent.futures.ThreadPoolExecutor(1) as pool:
        setup = Setup(f"http://{line.grpc}", (version, version), count=10 + 5 * kills, gap=GAP_SECONDS)
        talk = pool.submit(converse, setup, "p2p-mls")
        done = 0
        while done < kills and between_messages(setup):
            line.wait_in_line()
            if any_moment:
                time.sleep(random.uniform(0, GAP_SECONDS))
            elif not between_messages(setup):
                break
            line.kill(OPENING_SECONDS)
            done += 1
        return talk.result(), done


def killed(report: Report, a) -> None:
    for version in VERSIONS:
        outcome, kills = survives(a, version, KILLS)
        report.check(f"{version} goes on after kill -9, {KILLS} times", outcome.passed and kills == KILLS,
                     f"{kills} kills, {outcome.seconds:.0f} s, {outcome.detail}")
    if a.counts == "proof":
        for version in VERSIONS:
            went_on = sum(survives(a, version, 1, any_moment=True)[0].passed for _ in range(MOMENTS))
            report.number(f"{version} went on after {went_on} of {MOMENTS} kills at any moment")


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
        killed(report, a)
    if "drain" in a.only:
        drained(report, a)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
