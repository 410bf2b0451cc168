#!/usr/bin/env python3
"""The token API of three real nodes: accounts, keys, JWTs, invites and streams at whichever node, an end of a key or
a tenant on all of them within 5 s, signing keys that change without a refusal, what goes on without a node, tenants
whose slots move."""

import base64
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

import grpc

from cluster_moves import settled
from node import Node, Publisher, Report, SkytaleStream, arguments, poll, read_channel
from skytale_pair import converse
from slim_raw import RawSlim, framed, group
from slim_wire import Name, xxh64
from test_cluster import Cluster, agree
from token_api import invite, join, path_of, pending, put_welcome

EVERYONE = ["n1", "n2", "n3"]
LIMIT = 5.0  # seconds until what was revoked is refused everywhere and its streams have ended


class Member:
    """One node of the cluster, asked as a node alone is."""

    call, get, token, usage_messages = Node.call, Node.get, Node.token, Node.usage_messages

    def __init__(self, c: Cluster, name: str):
        self.name, self.c = name, c
        self.http, self.grpc = c.nodes[name]["http"], c.nodes[name]["grpc"]

    def posthouse(self, *words: str):
        return self.c.posthouse(self.name, *words)

    def json(self, *words: str):
        return self.c.json(self.name, *words)

    def code(self, key: str) -> str:
        """How an account is answered: "200", or the code of the error."""
        status, answer = self.get("/v1/account", key)
        return str(status) if status == 200 else answer.get("code", str(status))


class Places:
    """Which node has what: names become slots as on every node."""

    def __init__(self, c: Cluster):
        self.owners = [row["owner"] for row in c.json("n1", "ring", "show", "--slots")]
        self.shift = 64 - (len(self.owners) - 1).bit_length()

    def of(self, name: str) -> str:
        return self.owners[xxh64(name.encode()) >> self.shift]

    def org(self, node: str, stem: str) -> str:
        return next(o for o in (f"{stem}{i}" for i in range(10_000)) if self.of(o) == node)

    def channel(self, node: str, org: str) -> str:
        names = (f"{org}/team/room{i}" for i in range(10_000))
        return next(name for name in names if self.of(name) == node)


def stream_code(member: Member, token: str, channel: str):
    """How ChannelService takes a publish: OK when it is acknowledged."""
    one = Publisher(member.grpc, token)
    try:
        one.publish(channel, b"x", number=1, producer=random.getrandbits(40) | 1)
        poll(5, lambda: one.acked or one.refused or one.error is not None)
        if one.error is not None:
            return one.error.code()
        return one.refused[0][1] if one.refused else grpc.StatusCode.OK if one.acked else None
    finally:
        one.close()


class Streams:
    """At every node a stream that publishes and one that reads, all held open."""

    def __init__(self, nodes: list[Member], token: str, channel: str):
        self.channel = channel
        self.readers = [SkytaleStream(n.grpc, token) for n in nodes]
        self.publishers = [Publisher(n.grpc, token) for n in nodes]
        for one in self.readers:
            one.subscribe(channel)
        # A subscribe is not answered: it stands when something comes.
        self.stand = bool(poll(10, self.heard, interval=0.1))

    def heard(self) -> bool:
        before = [len(one.sequences) for one in self.readers]
        for one in self.publishers:
            one.publish(self.channel, b"hello")
        return poll(0.5, lambda: all(len(one.sequences) >= count + len(self.publishers)
                                     for one, count in zip(self.readers, before)), interval=0.01)

    def codes(self):
        return [one.error.code().name if one.error is not None else None
                for one in self.readers + self.publishers]

    def ended(self, seconds: float) -> bool:
        return bool(poll(seconds, lambda: None not in self.codes(), interval=0.01))

    def close(self) -> None:
        for one in self.readers + self.publishers:
            one.close()


# --- the parts -----------------------------------------------------------------------------------


def accounts(r: Report, nodes: list[Member], places: Places) -> dict[str, str]:
    """A tenant of each node, made at another one. Their keys by org."""
    n1, n2, n3 = nodes
    keys: dict[str, str] = {}
    for maker, home in ((n1, "n3"), (n2, "n1"), (n3, "n2")):
        org = places.org(home, "acme")
        keys[org] = maker.json("tenant", "create", org)["api_key"]
        r.check(f"{org}, made at {maker.name}: the key is good at all nodes",
                [n.code(keys[org]) for n in nodes] == ["200"] * 3)
        r.check("and a wrong one at none", [n.code(keys[org][:-3] + "aaa") for n in nodes]
                == ["unauthorized"] * 3)
        made = json.loads(n2.posthouse("key", "create", org, "--label", "x", "-o", "json").stdout)
        rows = [n.json("key", "ls", org) for n in nodes]
        r.check("a key more, made by the command at n2, stands in every list", all(
            sorted(k["key_id"] for k in row) == sorted(k["key_id"] for k in rows[0]) and len(row) == 2
            for row in rows), [len(row) for row in rows])
        r.check("and is good", n3.code(made["api_key"]) == "200")
        channel = f"{org}/team/general"
        token = maker.token(made["api_key"])
        r.check("a JWT made at one opens streams at all", [stream_code(n, token, channel) for n in nodes]
                == [grpc.StatusCode.OK] * 3)
        r.check("what was published at three nodes is one channel at each", all(
            [m.sequence for m in read_channel(n.grpc, token, channel)] == [1, 2, 3] for n in nodes))
        r.check("and is counted once", poll(10, lambda: [n.usage_messages(keys[org]) for n in nodes]
                                            == [3, 3, 3]), [n.usage_messages(keys[org]) for n in nodes])
    lists = [[t["tenant"] for t in n.json("tenant", "ls")] for n in nodes]
    r.check("every node lists all tenants", all(one == sorted(keys) for one in lists), lists)
    tell = [n.posthouse("tenant", "create", next(iter(keys))) for n in nodes]
    r.check("a tenant that is there is there at all nodes", all(
        t.returncode == 6 and "(conflict)" in t.stderr for t in tell), [t.stderr for t in tell])
    return keys


def invites(r: Report, nodes: list[Member], keys: dict[str, str], places: Places) -> None:
    n1, n2, n3 = nodes
    owner, other = (next(o for o in keys if places.of(o) == home) for home in ("n3", "n1"))
    channel = f"{owner}/team/joint"
    token = invite(n1, keys[owner], channel)
    status, answer = join(n2, keys[other], channel, token)
    r.check("an invite made at n1 is used at n2, n3 has the owner", status == 201, answer)
    request = answer.get("request_id", "")
    spent = [join(n, keys[other], channel, token)[1]["code"] for n in nodes]
    r.check("it is spent at every node", spent == ["not_found"] * 3, spent)
    served = pending(n2, keys[owner], channel)
    r.check("the owner finds the request at n2", [one["id"] for one in served] == [request],
            [one["id"] for one in served])
    waits = n1.get(f"/v1/channels/welcome/{request}", keys[other])
    r.check("the joiner waits at n1", waits[1].get("status") == "pending", waits)
    r.check("a stranger does not see it", n3.get(
        f"/v1/channels/welcome/{request}", keys[next(o for o in keys if places.of(o) == "n2")])[0] == 404)
    r.check("the welcome is given at n3", put_welcome(n3, keys[owner], request)[0] == 200)
    got = [n.get(f"/v1/channels/welcome/{request}", keys[other])[1].get("status") for n in nodes]
    r.check("and fetched anywhere", got == ["completed"] * 3, got)
    codes = [stream_code(n, n.token(keys[other]), channel) for n in nodes]
    r.check("the joiner's streams stand at all nodes", codes == [grpc.StatusCode.OK] * 3, codes)

    elsewhere = [stream_code(n, n.token(keys[other]), places.channel("n2", owner)) for n in nodes]
    r.check("no grant, no message on the owner's other channels", elsewhere == ["forbidden"] * 3, elsewhere)
    began = time.monotonic()
    n2.call("DELETE", path_of(channel) + f"/grants/{other}", key=keys[owner])
    refused = poll(LIMIT, lambda: all(n.get(path_of(channel), keys[other])[0] == 403 for n in nodes)
                   and all(stream_code(n, n.token(keys[other]), channel) == "forbidden" for n in nodes))
    r.check("the grant taken back at n2 is gone at all", refused, f"{time.monotonic() - began:.2f} s")

    def heard(what, condition, detail=""):
        return r.check(f"skytale-sdk, alice of {owner} at n1, bob of {other} at n2: {what}", condition, detail)

    converse(heard, mode="shim", grpc=n1.grpc, http=n1.http, key=keys[owner],
             channel=f"{owner}/team/talk", key_of_others=keys[other], grpc_of_others=n2.grpc,
             http_of_others=n2.http)


def revocations(r: Report, nodes: list[Member], keys: dict[str, str], places: Places) -> None:
    n1, n2, n3 = nodes
    org = next(o for o in keys if places.of(o) == "n3")
    worst = 0.0
    for home in EVERYONE:
        channel = places.channel(home, org)
        made = n2.call("POST", "/v1/keys", {"label": "short"}, keys[org])[1]
        streams = Streams(nodes, n3.token(made["api_key"]), channel)
        left = Streams(nodes, n3.token(keys[org]), channel + "-left")
        r.check(f"streams at all nodes on a channel of {home}", streams.stand and left.stand,
                streams.codes() + left.codes())
        token = n1.token(made["api_key"])
        began = time.monotonic()
        by_operator = home == "n2"
        done = (n1.posthouse("key", "revoke", made["id"], "--yes").returncode == 0 if by_operator
                else n1.call("DELETE", f"/v1/keys/{made['id']}", key=keys[org])[0] == 200)
        answered = [n.code(made["api_key"]) for n in nodes] + [n.code(token) for n in nodes]
        r.check("its key is revoked at n1, and with the answer refused by all", done
                and answered == ["key_revoked"] * 6, answered)
        ended = streams.ended(LIMIT)
        worst = max(worst, time.monotonic() - began)
        r.check("its streams end within 5 s on every node", ended
                and streams.codes() == ["UNAUTHENTICATED"] * 6, streams.codes())
        codes = [stream_code(n, token, channel) for n in nodes]
        r.check("and no new one opens", codes == [grpc.StatusCode.UNAUTHENTICATED] * 3, codes)
        r.check("the tenant's other streams stand", left.codes() == [None] * 6, left.codes())
        if home == "n3":
            began = time.monotonic()
            n2.posthouse("tenant", "suspend", org)
            ended = left.ended(LIMIT)
            worst = max(worst, time.monotonic() - began)
            r.check("a tenant suspended at n2: all its streams end", ended
                    and left.codes() == ["PERMISSION_DENIED"] * 6, left.codes())
            answered = [n.code(keys[org]) for n in nodes]
            r.check("and its keys are refused", answered == ["tenant_suspended"] * 3, answered)
            n3.posthouse("tenant", "resume", org)
            answered = [n.code(keys[org]) for n in nodes]
            r.check("until it is let back", answered == ["200"] * 3, answered)
        streams.close()
        left.close()
    r.number(f"the last of 6 streams on 3 nodes ended {worst:.2f} s after the call at most")


def slim(r: Report, nodes: list[Member], keys: dict[str, str], places: Places) -> None:
    """SLIM streams of both families at all nodes, of a tenant and of a guest."""
    n1, n2, n3 = nodes
    owner, other = (next(o for o in keys if places.of(o) == home) for home in ("n3", "n1"))
    channel = f"{owner}/team/slim"
    for family in "AB":
        name = group(channel, family)
        made = n2.call("POST", "/v1/keys", {"label": "short"}, keys[owner])[1]
        granted = n1.posthouse("channel", "grant", channel, other)
        r.check(f"{family}: an operator grants a channel at n1", granted.returncode == 0, granted.stderr)
        sender = RawSlim(n1.grpc, family, token=n1.token(keys[owner]))
        sender.own = Name.of(f"{owner}/team/agent", 4)
        own = [RawSlim(n.grpc, family, token=n3.token(made["api_key"])) for n in nodes]
        guests = [RawSlim(n.grpc, family, token=n2.token(keys[other])) for n in nodes]
        for i, one in enumerate(own + guests):
            one.own = Name.of(f"{owner if one in own else other}/team/app{i}", 10 + i)
        stand = [one.subscribe(name) for one in own + guests]
        r.check(f"{family}: streams of both tenants subscribe at all nodes", stand == [True] * 6, stand)
        sender.send(framed(sender.publication(name)(b"hello")))
        got = [one.waits_for(1, 5) for one in own + guests]
        r.check(f"{family}: and hear what is said at n1", got == [[b"hello"]] * 6, got)
        n1.call("DELETE", f"/v1/keys/{made['id']}", key=keys[owner])
        ended = poll(LIMIT, lambda: all(one.ended.is_set() for one in own))
        others = [one.ended.is_set() for one in [sender, *guests]]
        r.check(f"{family}: a key revoked at n1 ends its streams at all nodes", ended and others == [False] * 4,
                others)
        n3.posthouse("channel", "revoke", channel, other)
        ended = poll(LIMIT, lambda: all(one.ended.is_set() for one in guests))
        r.check(f"{family}: a grant taken back at n3 ends the guest's", ended and not sender.ended.is_set(),
                [one.ended.is_set() for one in guests])
        for one in [sender, *own, *guests]:
            one.close()


class Traffic:
    """Tokens made at one node and used at another over HTTP and on a stream, one after the other, until `stop`."""

    def __init__(self, nodes: list[Member], key: str, channel: str):
        self.nodes, self.key, self.channel = nodes, key, channel
        self.refused: list[str] = []
        self.used = 0
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(2)]
        for one in self.threads:
            one.start()

    def run(self, number: int) -> None:
        choose = random.Random(number)
        while not self.over.is_set():
            at, to = choose.choice(self.nodes), choose.choice(self.nodes)
            try:
                token = at.token(self.key)
                answer = to.code(token)
                on_stream = stream_code(to, token, self.channel)
            except Exception as error:  # a refusal of the exchange, with its text
                self.refused.append(f"{at.name}: {error}")
                continue
            if answer != "200" or on_stream != grpc.StatusCode.OK:
                self.refused.append(f"{at.name} to {to.name}: {answer} {on_stream}")
            self.used += 1

    def stop(self) -> None:
        self.over.set()
        for one in self.threads:
            one.join(30)


def held_rotation(r: Report, c: Cluster, nodes: list[Member], keys: dict[str, str], places: Places) -> None:
    """A node that stands still for a moment does not have the new key: it must not sign meanwhile."""
    n1, n2, n3 = nodes
    key = keys[next(o for o in keys if places.of(o) == "n1")]

    def kid() -> str:
        head = n1.token(key).split(".")[0]
        return json.loads(base64.urlsafe_b64decode(head + "=="))["kid"]

    before = kid()
    done: list = []
    pid = c.pids()["n3"]
    os.kill(pid, signal.SIGSTOP)
    try:
        waits = threading.Thread(target=lambda: done.append(n1.json("signing-key", "rotate")))
        waits.start()
        time.sleep(0.7)
        during, early = kid(), list(done)
    finally:
        os.kill(pid, signal.SIGCONT)
    waits.join(20)
    r.check("a new signing key waits for a node that stands still", during == before and not early, early)
    r.check("and signs when that has it", done and done[0] and done[0]["kid"] == kid() != before, done)
    r.check("to which it is good at once", [n.code(n1.token(key)) for n in (n3, n2)] == ["200"] * 2)


def rotations(r: Report, c: Cluster, nodes: list[Member], keys: dict[str, str], places: Places) -> None:
    held_rotation(r, c, nodes, keys, places)
    org = next(o for o in keys if places.of(o) == "n3")
    traffic = Traffic(nodes, keys[org], f"{org}/team/general")
    try:
        before = nodes[1].token(keys[org])
        kids, worst = [], 0.0
        for member in (nodes[1], nodes[0]):
            time.sleep(1)
            began = time.monotonic()
            done = member.json("signing-key", "rotate") or {}
            worst = max(worst, time.monotonic() - began)
            kids.append(done.get("kid"))
            if len(kids) == 1:
                answered = [n.code(before) for n in nodes]
                r.check("what was signed before a change of the signing key is good at all nodes",
                        answered == ["200"] * 3, answered)
        time.sleep(1)
    finally:
        traffic.stop()
    r.check("the signing key is changed twice, at n2 and at n1", None not in kids
            and len(set(kids)) == 2, kids)
    r.check("no token was refused meanwhile, made and used on whichever node",
            not traffic.refused and traffic.used > 20, traffic.refused[:5])
    r.check("two keys back is over", [n.code(before) for n in nodes] == ["unauthorized"] * 3)
    r.number(f"{traffic.used} JWTs over two changes of the signing key, none refused; a change took "
             f"{worst:.2f} s at most")


def without_nodes(r: Report, c: Cluster, nodes: list[Member], keys: dict[str, str],
                  places: Places) -> None:
    n1, n2, _ = nodes
    gone, stays, kept = (next(o for o in keys if places.of(o) == home) for home in ("n3", "n2", "n1"))
    fresh = n1.token(keys[gone])
    talk = Streams([n1, n2], n1.token(keys[stays]), places.channel("n1", stays))
    r.check("kill n3", talk.stand and c.run("kill", "n3").returncode == 0)
    for member in (n1, n2):
        request = urllib.request.Request(f"http://{member.http}/v1/tokens", method="POST",
                                         headers={"Authorization": "Bearer " + keys[gone]})
        try:
            urllib.request.urlopen(request, timeout=10)
            r.check("a dead node's tenant is refused", False)
        except urllib.error.HTTPError as error:
            answer = json.loads(error.read())
            r.check(f"its tenant's call at {member.name} is a 503 that says why", error.code == 503
                    and error.headers.get("Retry-After") and answer["code"] == "unavailable"
                    and "n3" in answer["error"], answer)
    told = n1.posthouse("tenant", "show", gone)
    r.check("and so for an operator", told.returncode == 5
            and "node n3, which has this tenant, does not answer (unavailable)" in told.stderr, told.stderr)
    codes = [stream_code(n, fresh, places.channel("n1", gone)) for n in (n1, n2)]
    r.check("its JWT of a moment ago opens streams", codes == [grpc.StatusCode.OK] * 2, codes)
    answered = [n.code(keys[o]) for n in (n1, n2) for o in (stays, kept)]
    r.check("other tenants go on", answered == ["200"] * 4, answered)
    r.check("and their streams", poll(10, talk.heard) and talk.codes() == [None] * 4, talk.codes())
    # Revoked while a node is away: it must not come back with it.
    made = n2.call("POST", "/v1/keys", {"label": "short"}, keys[stays])[1]
    token = n2.token(made["api_key"])
    n1.call("DELETE", f"/v1/keys/{made['id']}", key=keys[stays])
    n1.posthouse("tenant", "suspend", kept)
    r.check("start n3", c.run("start", "n3").returncode == 0)
    back = Member(c, "n3")
    began = time.monotonic()
    r.check("its tenant is back", poll(10, lambda: all(n.code(keys[gone]) == "200" for n in (n1, n2, back))),
            f"{time.monotonic() - began:.1f} s")
    answered = [back.code(made["api_key"]), back.code(token), back.code(keys[kept])]
    r.check("what was revoked while it was away is refused there, too",
            answered == ["key_revoked", "key_revoked", "tenant_suspended"], answered)
    r.check("on streams as well", stream_code(back, token, talk.channel)
            == grpc.StatusCode.UNAUTHENTICATED)
    talk.close()
    n2.posthouse("tenant", "resume", kept)

    # The host of the metadata has the signing keys.
    r.check("kill n1", c.run("kill", "n1").returncode == 0)
    told = n2.posthouse("signing-key", "rotate")
    r.check("without the host of the metadata no signing key changes, and that is said",
            told.returncode == 5 and "n1, which hosts the signing keys, does not answer" in told.stderr, told.stderr)
    token = n2.token(keys[gone])
    answered = [back.code(token), stream_code(back, token, places.channel("n2", gone))]
    r.check("JWTs are made and taken all the same", answered == ["200", grpc.StatusCode.OK], answered)
    again = c.run("kill", "n3"), c.run("start", "n3")
    r.check("a node starts, with the keys that it kept", all(a.returncode == 0 for a in again)
            and Member(c, "n3").code(token) == "200", again[1].stderr)
    r.check("start n1", c.run("start", "n1").returncode == 0)
    again = poll(15, lambda: (n2.json("signing-key", "rotate") or {}).get("kid"))
    fresh = Member(c, "n1").token(keys[kept])
    r.check("and the signing key changes again", again
            and [n.code(fresh) for n in (n1, n2, back)] == ["200"] * 3)


def weigh(c: Cluster, name: str, weight: int) -> tuple[str, set[int]]:
    """Stages a node's share: the version it was planned from, and the slots that would move."""
    c.posthouse("n1", "ring", "stage", name, "--weight", str(weight))
    version = str(c.json("n2", "ring", "plan")["version"])
    return version, {int(row["slot"]) for row in c.json("n3", "ring", "diff", "--slots")}


def apply(c: Cluster, version: str) -> bool:
    done = c.posthouse("n2", "ring", "apply", "--version", version)
    return done.returncode == 0 and bool(poll(60, lambda: settled(c, EVERYONE), interval=0.1))


def moves(r: Report, c: Cluster, nodes: list[Member], keys: dict[str, str]) -> None:
    """A tenant's slot goes to another node while it is used, with a channel of its own, and slots come back."""
    n1, n2, n3 = nodes
    places = Places(c)
    version, moving = weigh(c, "n3", 90)

    def leaving(names):
        return next(name for name in names if xxh64(name.encode()) >> places.shift in moving)

    org = leaving(f"mover{i}" for i in range(100_000))
    quiet = leaving(f"quiet{i}" for i in range(100_000))
    channel = leaving(f"{org}/team/room{i}" for i in range(100_000))
    other = next(iter(keys))
    r.check("tenants of n3 are about to move", {places.of(o) for o in (org, quiet, channel)} == {"n3"},
            f"{len(moving)} slots")
    keys[org] = n2.json("tenant", "create", org)["api_key"]
    keys[quiet] = quiet_key = n1.json("tenant", "create", quiet)["api_key"]
    for member in nodes:
        stream_code(member, member.token(quiet_key), f"{quiet}/team/general")
    counted = (3, 3)

    def usage(member: Member) -> tuple[int, int]:
        total = member.get("/v1/usage", quiet_key)[1]["total"]
        return total["messages"], total["tokens"]

    r.check("their use is counted", poll(10, lambda: all(usage(n) == counted for n in nodes)),
            [usage(n) for n in nodes])
    ended = n2.call("POST", "/v1/keys", {"label": "short"}, keys[org])[1]
    n1.call("DELETE", f"/v1/keys/{ended['id']}", key=keys[org])
    token = invite(n1, keys[org], channel, uses=2)
    request = join(n2, keys[other], channel, token)[1]["request_id"]
    guests = Streams(nodes, n1.token(keys[other]), channel)
    r.check("streams of a guest stand at all nodes", guests.stand, guests.codes())
    traffic = Traffic(nodes, keys[org], channel)
    try:
        began = time.monotonic()
        r.check("they move", apply(c, version), c.json("n1", "ring", "show"))
        r.number(f"{len(moving)} slots moved in {time.monotonic() - began:.1f} s")
        after = Places(c)
        r.check("to other nodes", "n3" not in {after.of(o) for o in (org, quiet, channel)})
        time.sleep(4)  # until the last of them says no more of its tenants
        stand = guests.codes() == [None] * 6 and poll(5, guests.heard)
        r.check("the guest's streams have not noticed", stand, guests.codes())
        used = traffic.used
        r.check("and the tenant works on", poll(10, lambda: traffic.used > used + 5), traffic.used)
    finally:
        traffic.stop()
    r.check("no call, JWT or stream of the tenant was refused meanwhile",
            not traffic.refused and traffic.used > 10, traffic.refused[:5])
    answered = [n.code(keys[org]) for n in nodes] + [n.code(ended["api_key"]) for n in nodes]
    r.check("keys are good, and those that ended have ended", answered
            == ["200"] * 3 + ["key_revoked"] * 3, answered)
    r.check("a join that waited is answered", put_welcome(n3, keys[org], request)[0] == 200
            and n1.get(f"/v1/channels/welcome/{request}", keys[other])[1]["status"] == "completed")
    r.check("an invite from before is good once more, and spent then",
            [join(n, keys[other], channel, token)[0] for n in (n3, n1)] == [201, 404])
    r.check("the use of a tenant came with it, to the message",
            poll(10, lambda: all(usage(n) == counted for n in nodes)), [usage(n) for n in nodes])
    n1.call("DELETE", path_of(channel) + f"/grants/{other}", key=keys[org])
    r.check("the guest's grant taken back ends its readers at all nodes", poll(
        LIMIT, lambda: [one.error is not None for one in guests.readers] == [True] * 3), guests.codes())
    guests.close()
    version, _ = weigh(c, "n3", 100)
    r.check("n3 has its share again", apply(c, version))
    answered = [n.code(key) for n in nodes for key in keys.values()]
    r.check("all tenants are good at all nodes", answered == ["200"] * len(answered), answered)
    r.check("and counted as before", all(usage(n) == counted for n in nodes), [usage(n) for n in nodes])


def main() -> int:
    a = arguments(__doc__)
    r = Report("cluster-token")
    home = tempfile.mkdtemp(prefix="ph-cluster-")
    c = Cluster(a, 3, home)
    try:
        if not r.check("three nodes serve and agree", c.ready.wait(90)
                       and poll(20, lambda: agree(c, EVERYONE)), c.lines):
            return r.finish()
        nodes, places = [Member(c, name) for name in EVERYONE], Places(c)
        keys = accounts(r, nodes, places)
        invites(r, nodes, keys, places)
        revocations(r, nodes, keys, places)
        slim(r, nodes, keys, places)
        rotations(r, c, nodes, keys, places)
        without_nodes(r, c, nodes, keys, places)
        moves(r, c, nodes, keys)
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
