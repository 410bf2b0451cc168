#!/usr/bin/env python3
"""Two clusters of two nodes each, federated one-sided over mutual TLS, driven by the published stubs of agentanycast
0.7.3: registrations, refreshes and deletes converge; over many registrations, kills, partitions (both ways, one way),
clocks an hour off (faketime), a whole side gone and back; a flood and absurd counters are bounded and counted.

Every relay has a network namespace of its own. Needs root and `ip netns`; without faketime the clocks are left out,
loudly."""

import concurrent.futures
import glob
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from node import Node, Report, arguments, poll
from registry import C, Client, certificates, failure, fed, grpc, skill

HOURS = 3600
FAKETIME = next(iter(glob.glob("/usr/lib/*/faketime/libfaketime.so.1")), "")


def ip(*words: str, check: bool = True) -> bool:
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    if check and done.returncode != 0:
        raise RuntimeError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.returncode == 0


class Net:
    """Network namespaces on a bridge, all inside one that nobody else is in. A cut is a neighbour with a wrong
    address: what is sent there is lost without a word, one way."""

    def __init__(self, count: int):
        self.names = [f"ph{os.getpid()}-{i}" for i in range(count)]
        self.addresses = [f"10.77.0.{i + 1}" for i in range(count)]
        ip("link", "set", "lo", "up")
        ip("link", "add", "hub", "type", "bridge")
        ip("addr", "add", "10.77.0.254/24", "dev", "hub")
        ip("link", "set", "hub", "up")
        for i, name in enumerate(self.names):
            ip("netns", "add", name)
            ip("link", "add", f"leg{i}", "type", "veth", "peer", "name", "eth0", "netns", name)
            ip("link", "set", f"leg{i}", "master", "hub", "up")
            for words in (("link", "set", "lo", "up"), ("link", "set", "eth0", "up"),
                          ("addr", "add", f"{self.addresses[i]}/24", "dev", "eth0")):
                ip("-n", name, *words)

    def cut(self, source: int, target: int) -> None:
        ip("-n", self.names[source], "neigh", "replace", self.addresses[target], "lladdr",
           "02:00:00:00:00:fe", "dev", "eth0", "nud", "permanent")

    def heal(self) -> None:
        for name in self.names:
            for address in self.addresses:
                ip("-n", name, "neigh", "del", address, "dev", "eth0", check=False)

    def close(self) -> None:
        for name in self.names:
            ip("netns", "del", name, check=False)


class Relay(Node):
    """A node in its own network namespace."""

    def __init__(self, place: int, net: Net, *words, **named):
        super().__init__(*words, **named)
        self.place, self.net = place, net

    def command(self) -> list[str]:
        return ["ip", "netns", "exec", self.net.names[self.place], *super().command()]

    def metrics(self) -> str:
        """Figures are for callers on the same machine: asked from within its namespace."""
        code = f"import urllib.request as r; print(r.urlopen('http://{self.http}/metrics').read().decode())"
        return subprocess.run(["ip", "netns", "exec", self.net.names[self.place], sys.executable, "-c", code],
                              capture_output=True, text=True, timeout=20, check=True).stdout

    def gauge(self, name: str) -> int:
        return int(float(next(line.split()[1] for line in self.metrics().splitlines()
                              if line.startswith(f"posthouse_{name} "))))

    def client(self) -> Client:
        return Client(self.registry)


class Side:
    """A cluster of its own: its nodes know each other by it. `others`: the relays that it names as its peers."""

    def __init__(self, a, net: Net, folder: str, places: list[int], others: list[int], settings: list[str]):
        self.nodes = []

        def posthouse(*words: str) -> None:
            subprocess.run([str(pathlib.Path(a.bin) / "posthouse"), *words], check=True, capture_output=True,
                           text=True, timeout=60)

        # Certificates of nodes hold from an hour before they are made: on the clocks that are behind, too.
        authority = f"{folder}/cluster-{places[0]}"
        posthouse("tls", "init", "--dir", authority, "--name", f"side-{places[0]}")
        for place in places:
            peers = [net.addresses[p] for p in others]
            name = f"relay-{place}"
            certificates = f"{authority}/{name}"
            posthouse("tls", "issue", "--dir", authority, "--node", name, "--out", certificates)
            extra = ["--node-name", name, "--cluster", f"{net.addresses[place]}:7400", "--cert-dir", certificates,
                     "--set", "cluster.profile=local",
                     # The first one founds the cluster.
                     *(["--seeds", f"{net.addresses[places[0]]}:7400"] if place != places[0] else []),
                     "--insecure", "--registry", f"{net.addresses[place]}:50052", "--federation",
                     f"{net.addresses[place]}:50053", "--relay-id", name, "--federation-ca",
                     f"{folder}/ca.pem", "--federation-cert", f"{folder}/{name}.pem",
                     "--federation-key", f"{folder}/{name}.key"]
            if peers:
                extra += ["--federation-peers", ",".join(f"{peer}:50053" for peer in peers)]
            for text in settings:
                extra += ["--set", text]
            self.nodes.append(Relay(place, net, a.bin, keep=a.keep, extra=extra))

    def start(self) -> "Side":
        for node in self.nodes:
            node.start()
        self.clients = [node.client() for node in self.nodes]
        return self

    def restart(self, at: int, environment: dict[str, str] | None = None) -> None:
        node = self.nodes[at]
        node.kill9()
        if environment is not None:
            node.environment = environment
        node.start()
        self.clients[at] = node.client()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill9()

    def close(self) -> None:
        for node in self.nodes:
            node.close()


class World:
    """Both sides, and agents that keep speaking up at their home."""

    def __init__(self, a, report: Report, net: Net, folder: str):
        self.a, self.report, self.net = a, report, net
        proof = a.counts == "proof"
        # The proof waits for the real time-out, 90 s.
        self.timeout = 90 if proof else 4
        settings = ["registry.ttl=" + ("20s" if proof else "12s"), "federation.interval=" + ("1s" if proof else "200ms")]
        if not proof:
            settings.append(f"federation.origin_timeout={self.timeout}s")
        self.left = Side(a, net, folder, [0, 1], [2, 3], settings)
        self.right = Side(a, net, folder, [2, 3], [], settings)
        self.alive: dict[str, tuple[Side, int, list]] = {}
        self.stop = threading.Event()

    def __enter__(self) -> "World":
        try:
            self.right.start()
            self.left.start()
        except BaseException:
            self.__exit__()
            raise
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.stop.set()
        self.left.close()
        self.right.close()

    def _beat(self) -> None:
        """What an agent does: a heartbeat, and a registration when its relay does not know it any more."""
        while not self.stop.wait(1):
            for peer, (side, at, skills) in list(self.alive.items()):
                try:
                    side.clients[at].heartbeat(peer)
                except (grpc.RpcError, ValueError) as error:
                    if getattr(error, "code", lambda: None)() == C.NOT_FOUND and peer in self.alive:
                        try:
                            side.clients[at].register(peer, *skills)
                        except grpc.RpcError:
                            pass

    def register(self, side: Side, at: int, peer: str, *skills) -> None:
        side.clients[at].register(peer, *skills)
        self.alive[peer] = (side, at, list(skills))

    def unregister(self, side: Side, at: int, peer: str) -> None:
        self.alive.pop(peer, None)
        side.clients[at].unregister(peer)

    @property
    def clients(self) -> list[Client]:
        return [*self.left.clients, *self.right.clients]

    def shown(self, name: str, clients=None) -> list[set[str]]:
        found = []
        for client in clients or self.clients:
            try:
                found.append(client.peers(name))
            except grpc.RpcError as error:
                found.append({f"({error.code().name})"})
        return found

    def agree(self, what: str, name: str, wanted: set[str], seconds: float = 20, clients=None) -> float:
        began = time.monotonic()
        done = poll(seconds, lambda: all(one == wanted for one in self.shown(name, clients)), 0.1)
        took = time.monotonic() - began
        self.report.check(what, done, f"{took:.1f} s" if done else
                          f"{[len(one) for one in self.shown(name, clients)]} of {len(wanted)}: "
                          f"{[sorted(one)[:5] for one in self.shown(name, clients)]}")
        return took


def converge(w: World) -> None:
    w.register(w.left, 0, "l0", "all")
    w.register(w.left, 1, "l1", "all")
    w.register(w.right, 0, "r0", "all")
    w.register(w.right, 1, "r1", "all")
    w.agree("registrations reach every relay of both sides, though only one side names the other", "all",
            {"l0", "l1", "r0", "r1"})
    w.register(w.left, 0, "l0", "all", "more")
    w.agree("a changed registration crosses", "more", {"l0"})
    w.right.clients[1].register("r1", "other")
    w.alive["r1"] = (w.right, 1, ["other"])
    w.agree("a skill that is left out goes", "all", {"l0", "l1", "r0"})
    w.unregister(w.left, 1, "l1")
    w.agree("a delete crosses", "all", {"l0", "r0"})
    w.register(w.right, 0, "l0", "all", "moved")
    w.agree("an agent that changes sides is one agent", "moved", {"l0"})
    w.agree("and its old skills are gone", "more", set())
    w.unregister(w.right, 0, "l0")


def many(w: World, count: int = 20_000) -> None:
    """Upstream loses all past 1,000 of a page. These do not speak up: they end by themselves after their TTL, and
    what is compared is what lives."""
    client = w.left.clients[0]

    stop = threading.Event()

    def beat(part: int) -> None:
        while not stop.is_set():
            for i in range(part, count, 8):
                if stop.is_set():
                    return
                try:
                    client.heartbeat(f"m{i}")
                except grpc.RpcError:
                    pass

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: client.register(f"m{i}", f"bulk{i % 40}"), range(count)))
    written = time.monotonic() - began
    beats = [threading.Thread(target=beat, args=(part,), daemon=True) for part in range(8)]
    for one in beats:
        one.start()
    others = [w.left.nodes[1], *w.right.nodes]

    def equal() -> bool:
        local = w.left.nodes[0].gauge("registry_local_agents")
        return all(node.gauge("registry_federated_agents") >= local for node in others) and local >= count

    done = poll(120 if w.a.counts == "proof" else 40, equal, 0.3)
    took = time.monotonic() - began
    everywhere = poll(10, lambda: all(client.peers(f"bulk{k}") == {f"m{i}" for i in range(k, count, 40)}
                                      for client in w.clients for k in range(40)), 0.5)
    stop.set()
    for one in beats:
        one.join()
    w.report.check(f"{count} registrations are on every relay, each one", done and everywhere,
                   f"{took:.1f} s, {[n.gauge('registry_federated_agents') for n in others]}")
    w.report.number(f"{count} registered in {written:.1f} s, on all four relays after {took:.1f} s")
    gone = poll(60, lambda: not any(w.shown("bulk7")), 0.5)
    w.report.check("and when they fall silent they end everywhere", gone)


def killed(w: World) -> None:
    w.register(w.right, 1, "k1", "kept")
    w.register(w.left, 0, "k2", "kept")
    w.agree("before the kill all know both", "kept", {"k1", "k2"})
    w.right.nodes[1].kill9()
    rest = [*w.left.clients, w.right.clients[0]]
    took = w.agree("a killed relay's agents vanish from the others", "kept", {"k2"}, w.timeout + 30, rest)
    w.report.number(f"a killed relay's agents were hidden after {took:.1f} s")
    w.unregister(w.left, 0, "k2")
    w.right.restart(1)
    w.agree("they return with it, and what was deleted meanwhile is gone there, too", "kept", {"k1"}, 30)
    w.unregister(w.right, 1, "k1")


def parted(w: World, what: str, cuts: list[tuple[int, int]]) -> None:
    tag = what.replace(" ", "-")
    for i, (side, at) in enumerate([(w.left, 0), (w.left, 1), (w.right, 0), (w.right, 1)]):
        w.register(side, at, f"{tag}-{i}", tag)
    everybody = {f"{tag}-{i}" for i in range(4)}
    w.agree(f"{what}: all agree before it", tag, everybody)
    for source, target in cuts:
        w.net.cut(source, target)
    # What happens meanwhile on one side is not known on the other, and holds afterwards.
    w.unregister(w.left, 0, f"{tag}-0")
    w.register(w.right, 0, f"{tag}-new", tag)
    w.register(w.left, 1, f"{tag}-2", tag, f"{tag}-moved")
    # Longer than an origin may be silent, at the reduced counts.
    time.sleep(4.5)
    served = poll(5, lambda: f"{tag}-0" not in w.left.clients[0].peers(tag)
                  and f"{tag}-new" in w.right.clients[0].peers(tag))
    w.report.check(f"{what}: each side serves what it knows", served, w.shown(tag))
    w.net.heal()
    began = time.monotonic()
    # Back within the longest pause between tries, a minute; mostly much sooner.
    wanted = everybody - {f"{tag}-0"} | {f"{tag}-new"}
    w.agree(f"{what}: after it all agree, and no delete came back", tag, wanted, 75)
    w.agree(f"{what}: an agent that moved meanwhile is where it moved to", f"{tag}-moved", {f"{tag}-2"}, 20)
    w.report.number(f"{what}: equal {time.monotonic() - began:.1f} s after it")
    for i, (side, at) in enumerate([(w.left, 0), (w.left, 1), (w.left, 1), (w.right, 1)]):
        w.unregister(side, at, f"{tag}-{i}")
    w.unregister(w.right, 0, f"{tag}-new")


def clocks(w: World) -> None:
    if not FAKETIME:
        print("SKIP federation: clocks an hour off: NOT RUN, faketime is not installed", flush=True)
        w.report.number("clocks NOT RUN")
        return
    def skewed(hours: int) -> dict[str, str]:
        return {"LD_PRELOAD": FAKETIME, "FAKETIME": f"{hours * HOURS:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    w.register(w.left, 0, "c0", "clock")
    w.agree("before the clocks change all know it", "clock", {"c0"})
    w.right.restart(0, skewed(1))
    w.right.restart(1, skewed(-1))
    w.register(w.right, 0, "c-ahead", "clock")
    w.register(w.right, 1, "c-behind", "clock")
    w.agree("relays an hour ahead and an hour behind agree with the others", "clock",
            {"c0", "c-ahead", "c-behind"}, 75)
    # The agent leaves the relay that is ahead for one whose clock is right, then for the one behind.
    w.register(w.left, 1, "c-ahead", "clock", "clock-left")
    w.agree("an agent that moves from a clock ahead is where it moved to", "clock-left", {"c-ahead"})
    w.register(w.right, 1, "c-ahead", "clock", "clock-behind")
    w.agree("and from there to one behind", "clock-behind", {"c-ahead"})
    w.agree("with nothing left of its last home", "clock-left", set())
    w.unregister(w.right, 1, "c-ahead")
    w.unregister(w.right, 1, "c-behind")
    w.agree("deletes by a clock behind hold", "clock", {"c0"})
    w.right.restart(0, {})
    w.right.restart(1, {})
    w.register(w.right, 0, "c-back", "clock")
    w.agree("a relay whose clock is set back an hour goes on", "clock", {"c0", "c-back"}, 75)
    w.unregister(w.right, 0, "c-back")
    w.unregister(w.left, 0, "c0")
    w.agree("and so do its deletes", "clock", set())


def side_gone(w: World) -> None:
    for i in range(10):
        w.register(w.right, i % 2, f"s{i}", "side")
    w.register(w.left, 0, "s-left", "side")
    whole = {f"s{i}" for i in range(10)} | {"s-left"}
    w.agree("before it goes all know the side's agents", "side", whole)
    w.right.kill()
    took = w.agree("a whole side killed: its skills vanish within two minutes", "side", {"s-left"},
                   min(w.timeout + 30, 120), w.left.clients)
    w.report.number(f"a killed side's skills vanished after {took:.1f} s")
    w.right.start()
    took = w.agree("and return with it", "side", whole, 75)
    w.report.number(f"and were back after {took:.1f} s")
    for peer in whole - {"s-left"}:
        w.unregister(w.right, int(peer[1:]) % 2, peer)
    w.unregister(w.left, 0, "s-left")


# --- what peers may not do --------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7f:
        out.append(value & 0x7f | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def part(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def hostile(w: World, folder: str) -> None:
    """Somebody with a relay's certificate who speaks Posthouse's own fields, and lies in them."""
    def channel(name: str):
        files = [pathlib.Path(f"{folder}/{one}").read_bytes() for one in
                 ("ca.pem", f"{name}.key", f"{name}.pem")]
        return grpc.secure_channel(f"{w.net.addresses[0]}:50053", grpc.ssl_channel_credentials(*files))

    def push(connection, body: bytes) -> fed.PushRegistrationsResponse:
        call = connection.unary_unary("/agentanycast.v1.FederationService/PushRegistrations",
                                      request_serializer=lambda b: b,
                                      response_deserializer=fed.PushRegistrationsResponse.FromString)
        return call(body, timeout=10)

    def refused() -> int:
        return w.left.nodes[0].gauge("registry_records_refused_total")

    now = time.time_ns()
    w.register(w.left, 0, "safe", "safe")
    w.register(w.right, 0, "safe-too", "safe")
    w.agree("before the lies all is known", "safe", {"safe", "safe-too"})
    liar = channel("liar")
    one = fed.FederatedRegistration(peer_id="x", origin_relay_id="relay-2", version=now, skills=[skill("lies")])
    request = fed.PushRegistrationsRequest(relay_id="relay-2", registrations=[one])
    report = w.report
    report.check("a certificate of another name may not speak for a relay",
                 (failure(push, liar, request.SerializeToString() + number(100, 1)) or (None,))[0]
                 == C.PERMISSION_DENIED)
    before = refused()
    for version, incarnation, sequence in [
        (2 ** 64 - 1, now, now), (now, 2 ** 64 - 1, now), (now, now, 2 ** 64 - 1), (0, now, now),
        (now + 2 * 86_400 * 10 ** 9, now, now),
    ]:
        one = fed.FederatedRegistration(peer_id="x", origin_relay_id="liar", version=version,
                                        skills=[skill("lies")])
        body = one.SerializeToString() + number(101, incarnation) + number(102, sequence)
        # Records in Posthouse's form carry a checksum; a wrong one is refused before anything else.
        push(liar, fed.PushRegistrationsRequest(relay_id="liar").SerializeToString() + part(2, body)
             + number(100, 1))
    far = 2 ** 63
    for origin in ("relay-0", "relay-2", "relay-3"):
        element = (part(1, origin.encode()) + number(2, far) + number(3, far) + number(4, far)
                   + number(5, far) + number(6, far))
        push(liar, fed.PushRegistrationsRequest(relay_id="liar").SerializeToString() + number(100, 1)
             + part(101, element) + part(102, part(1, origin.encode()) + number(2, far) + number(4, far)))
    # Figures are of the last second.
    counted = poll(5, lambda: refused() >= before + 8, 0.3)
    report.check("absurd versions, lives and vectors are refused and counted",
                 counted and not any(w.shown("lies")), refused() - before)
    stop = threading.Event()

    def flood(part_of: int) -> None:
        client = Client(w.left.nodes[0].registry)
        i = 0
        while not stop.is_set():
            i += 1
            try:
                client.register(f"flood-{part_of}-{i}", "flood")
            except grpc.RpcError:
                pass

    def honest(seconds: float) -> list[float]:
        took = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            began = time.monotonic()
            w.right.clients[0].peers("safe")
            took.append(time.monotonic() - began)
            time.sleep(0.01)
        return sorted(took)

    calm = honest(2)
    floods = [threading.Thread(target=flood, args=(i,), daemon=True) for i in range(4)]
    for one in floods:
        one.start()
    busy = honest(5)
    stop.set()
    for one in floods:
        one.join()
    slowest = busy[len(busy) * 99 // 100]
    report.check("a flood of registrations on one relay holds no other up", slowest < 1,
                 f"p99 of a lookup elsewhere {calm[len(calm) * 99 // 100] * 1000:.1f} ms before, "
                 f"{slowest * 1000:.1f} ms during")
    w.agree("and what was there is there", "safe", {"safe", "safe-too"}, 75)
    w.register(w.right, 1, "after", "safe")
    w.agree("and what comes crosses", "safe", {"safe", "safe-too", "after"}, 75)
    # A flood: more origins than there are relays in the world, each in a vector of its own.
    for block in range(40):
        vector = b"".join(part(101, part(1, f"flood-{block}-{i}".encode()) + number(2, now) + number(6, now))
                          for i in range(200))
        push(liar, fed.PushRegistrationsRequest(relay_id="liar").SerializeToString() + number(100, 1) + vector)
    origins = poll(3, lambda: w.left.nodes[0].gauge("registry_origins"))
    report.check("a flood of origins is bounded", origins <= 4_096, f"{origins} after 8,000")


def main() -> int:
    a = arguments(__doc__, only="")
    report = Report("federation")
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        return report.skip("NOT RUN: needs root, ip and unshare for network namespaces")
    if os.environ.get("POSTHOUSE_NET") != "1":
        # In a network of its own: nothing here can be seen from, or reach, the machine's.
        if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode != 0:
            return report.skip("NOT RUN: network namespaces are not allowed here")
        os.environ["POSTHOUSE_NET"] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, "-u", *sys.argv])
    folder = tempfile.mkdtemp(prefix="posthouse-sides-")
    try:
        net = Net(4)
    except RuntimeError as error:
        return report.skip(f"NOT RUN: {error}")
    try:
        certificates(folder, [*(f"relay-{i}" for i in range(4)), "liar"], tuple(net.addresses))
        both = [(x, y) for x in (0, 1) for y in (2, 3)]
        parts = {
            "converge": converge,
            "many": lambda w: many(w, 20_000 if a.counts == "proof" else 4_000),
            "killed": killed,
            "both-ways": lambda w: parted(w, "partition both ways", both + [(y, x) for x, y in both]),
            "one-way": lambda w: parted(w, "partition one way", both),
            "other-way": lambda w: parted(w, "partition the other way", [(y, x) for x, y in both]),
            "clocks": clocks,
            "side-gone": side_gone,
            "hostile": lambda w: hostile(w, folder),
        }
        with World(a, report, net, folder) as world:
            for name, run in parts.items():
                # The third partition is the second one, seen from the other side.
                if name in a.only.split(",") or not a.only and (a.counts == "proof" or name != "other-way"):
                    run(world)
    finally:
        net.close()
        shutil.rmtree(folder, ignore_errors=True)
    return report.finish()


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    sys.exit(main())
