#!/usr/bin/env python3
"""Published agents on three real nodes (ops/dev/cluster): a Skytale pair and slim-bindings 1.4.1 and 3.3.8 in all four
scenarios, the ends of each on different nodes and the owner of the channel on the third, by the same drivers as on one
node: each alone, all at once, and while a fourth node joins and one hands its slots over and leaves.

A one-to-one conversation of SLIM has no owner: it goes straight from node to node. 3.3.8 gives a group's channel an
id of its own choice, and so an owner by chance."""

import concurrent.futures
import contextlib
import json
import re
import shutil
import sys
import tempfile
import threading
import urllib.request
import uuid

from node import Report, arguments, poll
from skytale_pair import Peer
from skytale_pair import converse as skytale_converse
from slim_pair import SCENARIOS, NotInstalled, Setup, converse, slim_python
from slim_wire import component
from test_cluster import Cluster, agree, members

FAMILIES = {"1.4.1": "slim-a", "3.3.8": "slim-b"}
# The ways of an acknowledgement and of a remove differ here: the apps' own flake would be met every third time.
SETTLE_SECONDS = 0.5
# The first and the second end, and the owner.
PLACES = [("n1", "n2", "n3"), ("n2", "n3", "n1"), ("n3", "n1", "n2")]


# --- names by their owner ------------------------------------------------------------------------


def owner(c: Cluster, channel: str) -> str:
    told = c.json("n1", "ring", "owner", channel)
    return told["owner"] if told else ""


def drawn(c: Cluster, wanted: str, form: str) -> str:
    """A name of this form, with something random for `*`, that belongs to a node."""
    for _ in range(200):
        name = form.replace("*", uuid.uuid4().hex[:8])
        if owner(c, name) == wanted:
            return name
    raise RuntimeError(f"{wanted} owns none of 200 channels")


def slim_channels(c: Cluster, name: str, version: str, place: str) -> list[str]:
    """Channels of a group that stand in a node's archive."""
    hashes = "/".join(f"{component(part):016x}" for part in [*place.split("/"), "chan"])
    return [row["channel"] for row in c.json(name, "channel", "ls", f"{FAMILIES[version]}:{hashes}/") or []]


# --- conversations -------------------------------------------------------------------------------


class Talks:
    """Conversations of all kinds over one cluster. Skytale's agents have `key` where the node wants one."""

    def __init__(self, r: Report, c: Cluster, a, mode: str):
        self.r, self.c, self.a, self.mode = r, c, a, mode
        self.setups: list[Setup] = []    # of all conversations of SLIM, the failed ones, too
        self.key = self.tenant("acme")

    def tenant(self, org: str) -> str:
        made = self.c.posthouse("n1", "tenant", "create", org, "-o", "json")
        return json.loads(made.stdout)["api_key"]

    def slim(self, what: str, version: str, scenario: str, place: tuple[str, str, str], **changes) -> str:
        """Returns the owner of a group's channel, when it is known."""
        first, second, third = place
        setup = Setup(f"http://{self.c.nodes[first]['grpc']}", (version, version),
                      second_url=f"http://{self.c.nodes[second]['grpc']}", settle=SETTLE_SECONDS, **changes)
        if scenario.startswith("grp"):
            setup.place = f"acme/g{uuid.uuid4().hex[:8]}"
            if FAMILIES[version] == "slim-a":
                name = drawn(self.c, third, "slim-a:acme/g*/chan")
                setup.place = name.removeprefix("slim-a:").removesuffix("/chan")
        self.setups.append(setup)
        outcome = converse(setup, scenario)
        self.r.check(f"{version} {scenario} {what}, {first} to {second}", outcome.passed,
                     f"{outcome.seconds:.1f} s, {outcome.detail}"
                     + (", second try after the apps' own flake" if outcome.repeated else ""))
        return self.archived(setup.place, version) if setup.place and not changes else ""

    def slim_over(self, what: str, version: str, scenario: str, place: tuple[str, str, str]) -> None:
        """A group whose owner is the third. 3.3.8 gives its channel an id of its own choice: it may take a few."""
        owners = [self.slim(what, version, scenario, place)]
        while FAMILIES[version] == "slim-b" and place[2] not in owners and len(owners) < 12:
            owners.append(self.slim(what, version, scenario, place))
        self.r.check(f"{version} {scenario} {what}: {place[2]} was the owner", place[2] in owners, owners)

    def archived(self, group: str, version: str) -> str:
        """The group's messages stand in the archive of their owner, and nowhere else."""
        found = [(n, name) for n in self.c.nodes for name in slim_channels(self.c, n, version, group)]
        owners = [owner(self.c, name) for _, name in found]
        self.r.check(f"{version}: the owner has the group's archive, nobody else",
                     [n for n, _ in found] == owners and len(found) == 1, found)
        return owners[0] if owners else ""

    def holds(self, name: str, channel: str) -> bool:
        shown = self.c.json(name, "channel", "show", channel)
        return bool(shown) and shown["last_sequence"] > 0

    def skytale(self, what: str, place: tuple[str, str, str], key_of_others: str = "") -> None:
        first, second, third = place
        one, other = self.c.nodes[first], self.c.nodes[second]

        def check(step, condition, detail=""):
            return self.r.check(f"Skytale {what}, {first} to {second}: {step}", condition, detail)

        channel = drawn(self.c, third, "acme/team/c*")
        skytale_converse(
            check, mode=self.mode, grpc=one["grpc"], http=one["http"], key=self.key, channel=channel, extended=True,
            grpc_of_others=other["grpc"], http_of_others=other["http"], key_of_others=key_of_others or None)
        found = [n for n in place if self.holds(n, channel)]
        check(f"{third} has the channel's archive, nobody else", found == [third], found)


def alone(t: Talks, versions: list[str], places) -> None:
    for place in places:
        t.skytale("alone", place)
        for version in versions:
            for scenario in t.a.only.split(","):
                talk = t.slim_over if scenario.startswith("grp") else t.slim
                talk("alone", version, scenario, place)


def together(t: Talks, versions: list[str]) -> None:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        talks = [pool.submit(t.slim, "beside all others", version, scenario, place)
                 for version, place in zip(versions, PLACES[1:]) for scenario in t.a.only.split(",")]
        talks.append(pool.submit(t.skytale, "beside all others", PLACES[0]))
        for talk in talks:
            talk.result()


# --- nodes that come and go ----------------------------------------------------------------------


class Chat:
    """Two Skytale agents that send each other a message every half second, until told to end."""

    def __init__(self, t: Talks, place: tuple[str, str, str]):
        first, second, third = place
        self.t, self.place = t, place
        self.channel = drawn(t.c, third, "acme/team/c*")
        self.sent = [0, 0]
        self.got: list[list[str]] = [[], []]
        self.fault = ""
        self.over = threading.Event()
        self.peers = [
            Peer(role, mode="keyless", grpc=t.c.nodes[name]["grpc"], http=t.c.nodes[name]["http"], key=t.key,
                 channel=self.channel) for role, name in (("alice", first), ("bob", second))]
        alice, bob = self.peers
        alice.do("create")
        bob.do("join", token=alice.do("invite")["token"], seconds=60)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        try:
            while not self.over.is_set():
                for i, peer in enumerate(self.peers):
                    peer.do("send", text=f"{peer.role}:{self.sent[i]}")
                    self.sent[i] += 1
                for i, peer in enumerate(self.peers):
                    self.got[i] += peer.receive(self.sent[1 - i] - len(self.got[i]), seconds=10)
                self.over.wait(0.5)
        except Exception as error:
            self.fault = f"{type(error).__name__}: {error}"

    def end(self, check) -> None:
        self.over.set()
        self.thread.join(60)
        for i, peer in enumerate(self.peers):
            other = self.peers[1 - i].role
            wanted = [f"{other}:{n}" for n in range(self.sent[1 - i])]
            check(f"{peer.role} got all that {other} said, in order",
                  not self.fault and self.got[i] == wanted and len(wanted) > 5,
                  self.fault or f"{len(self.got[i])} of {len(wanted)}")
        for peer in self.peers:
            peer.end()


def begin(t: Talks, chat: Chat, pool: concurrent.futures.Executor, talks: list[tuple], **changes) -> list:
    """Conversations (as `Talks.slim` wants them) beside the chat; returns when in all of them something was heard."""
    before = len(t.setups)
    started = [pool.submit(t.slim, *talk, **changes) for talk in talks]
    t.r.check("all have met", poll(60, lambda: all(chat.got) and len(t.setups) == before + len(talks)
                                   and all(setup.has_met() for setup in t.setups[before:])))
    return started


def middle(t: Talks, versions: list[str]) -> None:
    """All talk from n1 to n2 over n3 while n4 joins and one leaves: n3 with its channels when slots move, else n4."""
    r, c = t.r, t.c
    place = PLACES[0]
    chat = Chat(t, place)
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        talks = begin(t, chat, pool, [("while nodes come and go", version, scenario, place)
                                      for version in versions for scenario in t.a.only.split(",")],
                      count=t.a.n or 30, gap=1.0)
        r.check("n4 joins", c.run("start", "n4").returncode == 0)
        r.check("all have it in the ring", poll(30, lambda: all(
            any(n["name"] == "n4" for n in (c.json(m, "ring", "show", "--here") or {"nodes": []})["nodes"])
            for m in ("n1", "n2", "n3", "n4"))))
        leaving, staying = ("n3", "n4") if t.a.moves == "yes" else ("n4", "n3")
        if t.a.moves == "yes":
            r.check("n4 gets its share", poll(60, lambda: agree(c, ["n1", "n2", "n3", "n4"])))
        told = c.posthouse("n1", "node", "drain", leaving)
        r.check(f"{leaving} is told to hand its slots over", told.returncode == 0, told.stderr)
        if t.a.moves == "yes":
            r.check(f"{leaving} owns nothing any more", poll(60, lambda: slots(c, leaving) == 0),
                    slots(c, leaving))
        going = sum(not talk.done() for talk in talks)
        r.check(f"{leaving} ends", c.run("kill", leaving, "--term").returncode == 0)
        r.check("the conversations were in the middle", going == len(talks) and chat.sent[0] > 3,
                f"{going} of {len(talks)}")
        r.check("the others see that it is gone", poll(30, lambda: all(
            members(c, n).get(leaving) in ("left", "dead") for n in ("n1", "n2", staying))),
            members(c, "n1"))
        for talk in talks:
            talk.result()
    chat.end(lambda what, condition, detail="": r.check(
        f"Skytale while nodes come and go: {what}", condition, detail))
    if t.a.moves == "yes":
        for version in versions:
            t.slim("afterwards", version, "grp-mls", ("n1", "n2", "n4"))


def slots(c: Cluster, name: str) -> int:
    ring = c.json("n1", "ring", "show") or {"nodes": []}
    return next((n["slots"] for n in ring["nodes"] if n["name"] == name), -1)


# --- what went over the links --------------------------------------------------------------------


def links(c: Cluster, name: str) -> dict[str, float]:
    """The link metrics of a node, summed up over its peers."""
    text = urllib.request.urlopen(f"http://{c.nodes[name]['http']}/metrics", timeout=10).read().decode()
    sums: dict[str, float] = {}
    for line in text.splitlines():
        if match := re.match(r"(posthouse_(?:link|slim)_\w+)(?:\{[^}]*\})? (\S+)$", line):
            sums[match[1]] = sums.get(match[1], 0) + float(match[2])
    return sums


def crossed(t: Talks, names: list[str]) -> None:
    for name in names:
        sums = links(t.c, name)
        t.r.check(f"{name}: messages went over its links, none was lost there",
                  sums["posthouse_link_sent_total"] > 100 and not any(
                      sums[f"posthouse_{trouble}_total"] for trouble in
                      ("link_refused", "link_resets", "link_lost", "slim_unreachable")),
                  {key.removeprefix("posthouse_"): int(value) for key, value in sums.items()
                   if key.startswith("posthouse_link") and value and "bytes" not in key})


@contextlib.contextmanager
def cluster(r: Report, a, auth: str):
    """Three nodes that agree on a map."""
    home = tempfile.mkdtemp(prefix="ph-agents-")
    c = Cluster(a, 3, home, auth=auth)
    try:
        r.check(f"three nodes serve, --auth {auth}",
                c.ready.wait(90) and poll(20, lambda: agree(c, ["n1", "n2", "n3"])), c.lines)
        yield c
    finally:
        if c.process.poll() is None:
            c.process.terminate()
            c.process.wait(60)
        if a.keep:
            print(f"     kept: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)


def main() -> int:
    a = arguments(__doc__, n=0, versions=",".join(FAMILIES), only=",".join(SCENARIOS),
                  parts="tokens,alone,together,middle",
                  moves="yes")   # whether slots that hold something are handed over
    r = Report("agents on a cluster")
    versions = [version for version in a.versions.split(",") if version]
    parts = a.parts.split(",")
    try:
        for version in versions:
            slim_python(version)
    except NotInstalled as error:
        return r.skip(str(error))
    if "tokens" in parts:
        with cluster(r, a, "required") as c:
            t = Talks(r, c, a, "shim")
            for place in PLACES if a.counts == "proof" else PLACES[:1]:
                t.skytale("with tokens", place)
            t.skytale("of two tenants, with tokens", PLACES[1], key_of_others=t.tenant("globex"))
    if {"alone", "together", "middle"} & set(parts):
        with cluster(r, a, "open") as c:
            t = Talks(r, c, a, "keyless")
            if "alone" in parts:
                alone(t, versions, PLACES if a.counts == "proof" else PLACES[:1])
            if "together" in parts:
                together(t, versions)
                crossed(t, ["n1", "n2", "n3"])
            if "middle" in parts:
                middle(t, versions)
    return r.finish()


if __name__ == "__main__":
    sys.exit(main())
