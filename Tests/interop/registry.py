#!/usr/bin/env python3
"""The registry and its federation, driven by the published stubs of agentanycast 0.7.3: words and codes,
limits, restarts, two relays that speak for themselves, three over mutual TLS with one in the middle, an
AgentAnycast relay (its rules, in Python), hostile peers."""

import concurrent.futures
import hashlib
import importlib.util
import json
import os
import pathlib
import socket
import sys
import tempfile
import threading
import time

from node import Node, Report, arguments, poll

spec = importlib.util.find_spec("agentanycast")
if spec is None:
    sys.exit("agentanycast is not installed (ops/dev/setup)")
sys.path.insert(0, str(pathlib.Path(spec.origin).parent / "_generated"))

import grpc  # noqa: E402
from agentanycast.v1 import federation_pb2 as fed  # noqa: E402
from agentanycast.v1 import federation_pb2_grpc as fed_grpc  # noqa: E402
from agentanycast.v1 import registry_service_pb2 as reg  # noqa: E402
from agentanycast.v1 import registry_service_pb2_grpc as reg_grpc  # noqa: E402

C = grpc.StatusCode


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def skill(name: str, **tags) -> reg.SkillInfo:
    return reg.SkillInfo(skill_id=name, description=f"does {name}", tags=tags)


class Client:
    """One agent's view of a relay."""

    def __init__(self, address: str):
        self.channel = grpc.insecure_channel(address)
        self.registry = reg_grpc.RegistryServiceStub(self.channel)
        self.federation = fed_grpc.FederationServiceStub(self.channel)

    def register(self, peer: str, *skills, metadata=None, name="", description=""):
        request = reg.RegisterSkillsRequest(
            peer_id=peer, skills=[skill(s) if isinstance(s, str) else s for s in skills],
            agent_name=name, agent_description=description)
        return self.registry.RegisterSkills(request, timeout=10, metadata=metadata)

    def heartbeat(self, peer: str):
        return self.registry.Heartbeat(reg.HeartbeatRequest(peer_id=peer), timeout=10)

    def unregister(self, peer: str, *skills):
        return self.registry.UnregisterSkills(
            reg.UnregisterSkillsRequest(peer_id=peer, skill_ids=skills), timeout=10)

    def agents(self, name: str, limit: int = 0, federated: bool = False, **tags):
        return self.registry.DiscoverBySkill(reg.DiscoverBySkillRequest(
            skill_id=name, tags=tags, limit=limit, federated=federated), timeout=10).agents

    def peers(self, name: str, limit: int = 1000) -> set[str]:
        return {a.peer_id for a in self.agents(name, limit)}


def failure(call, *args, **named):
    try:
        call(*args, **named)
        return None
    except grpc.RpcError as error:
        return error.code(), error.details()


def one_relay(a, report: Report) -> None:
    extra = ["--registry", "127.0.0.1:0", "--set", "registry.ttl=3s", "--set", "registry.capacity=1300"]
    with Node(a.bin, keep=a.keep, extra=extra) as node:
        me = Client(node.registry)
        for what, call, code, text in [
            ("no peer_id", lambda: me.register("", "x"), C.INVALID_ARGUMENT, "peer_id is required"),
            ("no skills", lambda: me.register("p"), C.INVALID_ARGUMENT,
             "at least one skill is required"),
            ("an empty skill_id", lambda: me.register("p", "x", ""), C.INVALID_ARGUMENT,
             "skill_id is required for all skills"),
            ("a heartbeat of nobody", lambda: me.heartbeat("p"), C.NOT_FOUND,
             "peer p not found in registry"),
            ("an empty heartbeat", lambda: me.heartbeat(""), C.INVALID_ARGUMENT,
             "peer_id is required"),
            ("an empty unregister", lambda: me.unregister(""), C.INVALID_ARGUMENT,
             "peer_id is required"),
            ("discovery of nothing", lambda: me.agents(""), C.INVALID_ARGUMENT,
             "skill_id is required"),
        ]:
            report.check(f"{what} is refused as upstream does", failure(call) == (code, text),
                         failure(call))
        report.check("unregistering nobody is fine", failure(me.unregister, "p") is None)
        report.check("too long a name is refused",
                     failure(me.register, "p" * 300, "x")[0] == C.RESOURCE_EXHAUSTED)
        before = time.time()
        answer = me.register("12D3KooW-a", "echo", skill("sum", lang="de", hw="gpu"), name="A",
                             description="first")
        until = answer.expires_at.ToNanoseconds() / 1e9
        report.check("registered for the TTL", 2.5 < until - before < 4, f"{until - before:.2f} s")
        found = me.agents("sum")
        whole = found and found[0]
        report.check("discovery gives back everything", len(found) == 1
                     and whole.peer_id == "12D3KooW-a" and len(whole.skills) == 2
                     and whole.agent_name == "A" and whole.agent_description == "first"
                     and dict(whole.skills[1].tags) == {"lang": "de", "hw": "gpu"}
                     and abs(whole.registered_at.ToNanoseconds() / 1e9 - before) < 2
                     and abs(whole.expires_at.ToNanoseconds() / 1e9 - until) < 0.1)
        report.check("tags filter within one skill",
                     len(me.agents("sum", lang="de", hw="gpu")) == 1
                     and not me.agents("sum", lang="en") and not me.agents("echo", lang="de")
                     and len(me.agents("sum", none="")) == 1)
        me.register("12D3KooW-a", "echo")
        report.check("registering again replaces", not me.agents("sum") and me.peers("echo"))
        me.unregister("12D3KooW-a", "echo")
        report.check("unregistered", not me.agents("echo")
                     and failure(me.heartbeat, "12D3KooW-a")[0] == C.NOT_FOUND)
        me.register("12D3KooW-b", "echo")
        for _ in range(4):
            time.sleep(1)
            me.heartbeat("12D3KooW-b")
        report.check("heartbeats keep an agent", me.peers("echo") == {"12D3KooW-b"})
        gone = poll(5, lambda: not me.agents("echo"))
        report.check("no heartbeat: gone after the TTL", gone)
        for i in range(1200):
            me.register(f"n{i}", "many")
        report.check("limits are upstream's", [len(me.agents("many", n)) for n in (0, -1, 7, 5000)]
                     == [100, 100, 7, 1000])
        shown: dict[str, int] = {}
        for _ in range(24):
            for agent in me.agents("many", 100):
                shown[agent.peer_id] = shown.get(agent.peer_id, 0) + 1
        report.check("equals take turns", len(shown) == 1200 and set(shown.values()) == {2},
                     f"{len(shown)} agents, {set(shown.values())}")
        full = None
        for i in range(200):
            full = full or failure(me.register, f"f{i}", "x")
        report.check("a full registry says so",
                     full == (C.RESOURCE_EXHAUSTED, "registry is at maximum capacity"), full)
        from grpc_health.v1 import health_pb2, health_pb2_grpc
        from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
            ProtoReflectionDescriptorDatabase)
        health = health_pb2_grpc.HealthStub(me.channel)
        answers = [health.Check(health_pb2.HealthCheckRequest(service=s)).status for s in
                   ("agentanycast.v1.RegistryService", "agentanycast.v1.FederationService")]
        services = ProtoReflectionDescriptorDatabase(me.channel).get_services()
        report.check("health and reflection know both services", answers == [1, 1]
                     and {"agentanycast.v1.RegistryService", "agentanycast.v1.FederationService"}
                     <= set(services))
        listed = json.loads(node.posthouse("registry", "ls", "--skill", "many", "--limit", "5", "-o",
                                           "json").stdout)
        shown = json.loads(node.posthouse("registry", "show", listed[0]["peer_id"], "-o",
                                          "json").stdout)
        found = json.loads(node.posthouse("registry", "discover", "many", "--limit", "3", "-o",
                                          "json").stdout)
        report.check("operators list, show and discover", len(listed) == 5 and len(found) == 3
                     and shown["skills"][0]["skill_id"] == "many" and shown["state"] == "live",
                     shown)
        report.check("and are told what is not there",
                     node.posthouse("registry", "show", "nobody", check=False).returncode == 3)
        report.check("metrics tell", "posthouse_registry_local_agents" in node.metrics())


def restarts(a, report: Report) -> None:
    extra = ["--registry", "127.0.0.1:0", "--set", "registry.ttl=4s"]
    with Node(a.bin, keep=a.keep, extra=extra) as node:
        me = Client(node.registry)
        acknowledged = []
        for i in range(300):
            me.register(f"p{i}", skill("kept", n=str(i)))
            acknowledged.append(f"p{i}")
        me.unregister("p7")
        node.kill9()
        node.start()
        me = Client(node.registry)
        report.check("kill -9 loses no acknowledged registration, and no delete comes back",
                     me.peers("kept") == set(acknowledged) - {"p7"}, len(me.peers("kept")))
        report.check("tags are found after a restart", [x.peer_id for x in me.agents("kept", n="9")]
                     == ["p9"])
        me.heartbeat("p3")
        report.check("those that do not speak up again go", poll(8, lambda: len(me.peers("kept")) <= 1))
        me.register("last", "kept")
        report.check("a drained node exits 0", node.terminate() == 0)
        node.start()
        report.check("and knows its agents", "last" in Client(node.registry).peers("kept"))


def proofs(a, report: Report) -> None:
    import base58
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    peer = base58.b58encode(bytes.fromhex("002408011220") + key.public_key().public_bytes_raw()).decode()

    def proof(path: str, request, at: int | None = None, signer=key):
        at = at or time.time_ns()
        digest = hashlib.sha256(request.SerializeToString()).hexdigest()
        text = f"posthouse registry 1\n{path}\n{peer}\n{at}\n{digest}\n".encode()
        return [("posthouse-proof", f"{at}.{signer.sign(text).hex()}")]

    path = "/agentanycast.v1.RegistryService/RegisterSkills"
    request = reg.RegisterSkillsRequest(peer_id=peer, skills=[skill("signed")])
    with Node(a.bin, keep=a.keep, extra=["--registry", "127.0.0.1:0"]) as node:
        me = Client(node.registry)
        signed = proof(path, request)
        me.registry.RegisterSkills(request, metadata=signed)
        report.check("a signed registration is taken", me.peers("signed") == {peer})
        report.check("the same proof twice is not",
                     failure(me.registry.RegisterSkills, request, metadata=signed)[0]
                     == C.UNAUTHENTICATED)
        report.check("once signed, unsigned calls are refused",
                     failure(me.register, peer, "other")[0] == C.PERMISSION_DENIED
                     and failure(me.unregister, peer)[0] == C.PERMISSION_DENIED
                     and failure(me.heartbeat, peer)[0] == C.PERMISSION_DENIED)
        stranger = Ed25519PrivateKey.generate()
        for what, bad in [
            ("another key", proof(path, request, signer=stranger)),
            ("another method", proof(path + "x", request)),
            ("an old time", proof(path, request, time.time_ns() - 10 ** 12)),
            ("nonsense", [("posthouse-proof", "1.zz")]),
        ]:
            report.check(f"a proof with {what} is refused",
                         failure(me.registry.RegisterSkills, request, metadata=bad)[0]
                         == C.UNAUTHENTICATED)
    with Node(a.bin, keep=a.keep, extra=["--registry", "127.0.0.1:0", "--set",
                                         "registry.proof=required"]) as node:
        me = Client(node.registry)
        report.check("where proofs are required, nothing unsigned is taken",
                     failure(me.register, "p", "x")[0] == C.UNAUTHENTICATED)
        me.registry.RegisterSkills(request, metadata=proof(path, request))
        report.check("and signed calls are", me.peers("signed") == {peer})


def two_relays(a, report: Report) -> None:
    """Each names the other in --federation-insecure."""
    ports = [free_port(), free_port()]
    names = ["relay-a", "relay-b"]
    count = 20_000 if a.counts == "proof" else 4_000

    def extra(i: int) -> list[str]:
        return ["--registry", f"127.0.0.1:{ports[i]}", "--relay-id", names[i],
                "--federation-insecure", f"{names[1 - i]}=127.0.0.1:{ports[1 - i]}",
                "--set", "federation.interval=200ms", "--set", "federation.origin_timeout=4s",
                "--set", "registry.ttl=8s"]

    with Node(a.bin, keep=a.keep, extra=extra(0)) as one, \
            Node(a.bin, keep=a.keep, extra=extra(1)) as two:
        left, right = Client(one.registry), Client(two.registry)
        stop = threading.Event()
        alive = {"l1": left, "r1": right}

        def beat() -> None:
            while not stop.wait(1):
                for peer, client in list(alive.items()):
                    try:
                        client.heartbeat(peer)
                    except grpc.RpcError:
                        pass

        threading.Thread(target=beat, daemon=True).start()
        left.register("l1", "both")
        right.register("r1", "both")
        met = poll(10, lambda: left.peers("both") == right.peers("both") == {"l1", "r1"})
        report.check("registrations cross both ways", met)
        report.check("local agents come first", left.agents("both")[0].peer_id == "l1"
                     and right.agents("both")[0].peer_id == "r1")
        left.register("l1", "both", "more")
        report.check("a new skill crosses", poll(5, lambda: right.peers("more") == {"l1"}))
        left.unregister("l1", "more")
        report.check("a skill taken away crosses", poll(5, lambda: not right.peers("more")))
        time.sleep(9)
        report.check("past the TTL both still show both: heartbeats stay at home",
                     left.peers("both") == right.peers("both") == {"l1", "r1"})
        del alive["l1"]
        left.unregister("l1")
        report.check("a delete crosses", poll(5, lambda: right.peers("both") == {"r1"}))

        began = time.monotonic()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda i: left.register(f"m{i}", f"bulk{i % 40}"), range(count)))
        written = time.monotonic() - began

        def total() -> int:
            return int(float(next(
                line.split()[1] for line in two.metrics().splitlines()
                if line.startswith("posthouse_registry_federated_agents "))))

        # Those registered first end by themselves on a slow machine: what counts is that nothing is missing.
        report.check("a skill of each page arrived", poll(15, lambda: all(
            right.peers(f"bulk{k}") == left.peers(f"bulk{k}") and left.peers(f"bulk{k}")
            for k in range(40))), f"{total()} there")
        report.number(f"{count} registered in {written:.1f} s, {total()} on the other relay")
        alive["l9"] = left
        left.register("l9", "stays")
        poll(5, lambda: right.peers("stays"))
        status = json.loads(two.posthouse("gossip", "status", "-o", "json").stdout)
        report.check("gossip status knows both relays", {o["relay_id"] for o in status["origins"]}
                     == set(names) and status["peers"][0]["kind"] == "posthouse", status["peers"])
        two.posthouse("gossip", "sync")
        one.kill9()
        gone = time.monotonic()
        hidden = poll(12, lambda: not right.peers("stays"))
        report.check("a killed relay's agents vanish after origin_timeout", hidden,
                     f"{time.monotonic() - gone:.1f} s")
        failing = two.posthouse("gossip", "status", check=False)
        report.check("gossip status says who is missing", failing.returncode == 1
                     and "relay-a" in failing.stdout, failing.stdout)
        peers = json.loads(two.posthouse("gossip", "peer", "ls", "-o", "json").stdout)
        report.check("gossip peer ls says why", peers[0]["failing"] > 0 and peers[0]["last_failure"])
        two.posthouse("registry", "purge", "--origin", "relay-a", "--yes")
        left_over = json.loads(two.posthouse("registry", "ls", "--origin", "relay-a", "-o",
                                             "json").stdout)
        report.check("a purged relay's agents are forgotten", left_over == [])
        one.start()
        report.check("and return with it", poll(10, lambda: right.peers("stays") == {"l9"}))
        push = fed.PushRegistrationsRequest(relay_id="stranger")
        report.check("a stranger may not push",
                     failure(right.federation.PushRegistrations, push)[0] == C.PERMISSION_DENIED)
        report.check("a sync without relay_id is refused", failure(
            right.federation.SyncRegistrations, fed.SyncRegistrationsRequest())
            == (C.INVALID_ARGUMENT, "relay_id is required"))
        stop.set()


def certificates(folder: str, names: list[str], addresses: tuple[str, ...] = ("127.0.0.1",)):
    """A CA and a certificate for each name, for these addresses, and one of a stranger's CA. They hold on clocks
    that are some hours off."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.timezone.utc)

    def make(name: str, issuer=None):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (x509.CertificateBuilder().subject_name(subject).public_key(key.public_key())
                   .issuer_name(issuer[1].subject if issuer else subject)
                   .serial_number(x509.random_serial_number())
                   .not_valid_before(now - datetime.timedelta(days=1))
                   .not_valid_after(now + datetime.timedelta(days=1))
                   .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), True))
        if issuer:
            builder = builder.add_extension(x509.SubjectAlternativeName(
                [x509.IPAddress(ipaddress.ip_address(one)) for one in addresses]), False)
        return key, builder.sign(issuer[0] if issuer else key, hashes.SHA256())

    def write(path: str, pair) -> None:
        pathlib.Path(path + ".key").write_bytes(pair[0].private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption()))
        pathlib.Path(path + ".pem").write_bytes(pair[1].public_bytes(serialization.Encoding.PEM))

    authority, other = make("test relays"), make("strangers")
    write(f"{folder}/ca", authority)
    for name in names:
        write(f"{folder}/{name}", make(name, authority))
    write(f"{folder}/stranger", make("relay-1", other))


def three_relays(a, report: Report) -> None:
    """Mutual TLS: 1 knows 2, 2 knows 3, nobody else anybody."""
    folder = tempfile.mkdtemp(prefix="posthouse-relays-")
    certificates(folder, ["relay-1", "relay-2", "relay-3"])
    ports = [free_port() for _ in range(3)]

    def extra(i: int, peers: list[int], certificate: str | None = None) -> list[str]:
        mine = certificate or f"relay-{i + 1}"
        line = ["--registry", "127.0.0.1:0", "--federation", f"127.0.0.1:{ports[i]}",
                "--relay-id", f"relay-{i + 1}", "--federation-ca", f"{folder}/ca.pem",
                "--federation-cert", f"{folder}/{mine}.pem", "--federation-key",
                f"{folder}/{mine}.key", "--set", "federation.interval=200ms"]
        if peers:
            line += ["--federation-peers", ",".join(f"127.0.0.1:{ports[p]}" for p in peers)]
        return line

    with Node(a.bin, keep=a.keep, extra=extra(0, [1])) as first, \
            Node(a.bin, keep=a.keep, extra=extra(1, [2])) as second, \
            Node(a.bin, keep=a.keep, extra=extra(2, [])) as third:
        ends = [Client(first.registry), Client(third.registry)]
        ends[0].register("a1", "far")
        ends[1].register("c1", "far")
        report.check("agents cross a relay in the middle, both ways", poll(
            15, lambda: ends[0].peers("far") == ends[1].peers("far") == {"a1", "c1"}),
            [e.peers("far") for e in ends])
        ends[0].unregister("a1")
        report.check("and deletes", poll(10, lambda: ends[1].peers("far") == {"c1"}))
        report.check("an agent that moves is one agent", (
            ends[1].register("c1", "moved"), ends[0].register("c1", "moved"),
            poll(10, lambda: [len(e.agents("moved")) for e in ends] == [1, 1]
                 and not ends[0].peers("far")))[2])
        # Somebody with a certificate of another authority, and one who names himself wrongly.
        first.terminate()
        first.extra = extra(0, [1], "stranger")
        first.start()
        liar = Client(first.registry)
        liar.register("evil", "far")
        time.sleep(2)
        report.check("a stranger's certificate opens nothing", "evil" not in ends[1].peers("far")
                     and "posthouse_federation_failures_total" in first.metrics())
        first.terminate()
        first.extra = extra(0, [1], "relay-3")
        first.start()
        Client(first.registry).register("evil", "far")
        time.sleep(2)
        report.check("nor does another relay's", "evil" not in ends[1].peers("far"))
        second.terminate()


class Upstream(fed_grpc.FederationServiceServicer):
    """What an AgentAnycast relay does, as its contract has it: no deletes, LWW by version, expiry."""

    def __init__(self, name: str, accepts: bool):
        self.name, self.accepts = name, accepts
        self.local: dict[str, fed.FederatedRegistration] = {}
        self.federated: dict[str, fed.FederatedRegistration] = {}
        self.pages: list[int] = []

    def put(self, peer: str, *skills: str) -> None:
        now = time.time_ns()
        one = fed.FederatedRegistration(
            peer_id=peer, origin_relay_id=self.name, skills=[skill(s) for s in skills], version=now)
        one.registered_at.FromNanoseconds(now)
        one.expires_at.FromNanoseconds(now + 30 * 10 ** 9)
        self.local[peer] = one

    def SyncRegistrations(self, request, context):  # noqa: N802
        if not request.relay_id:
            context.abort(C.INVALID_ARGUMENT, "relay_id")
        answer = fed.SyncRegistrationsResponse(registrations=self.local.values())
        answer.sync_timestamp.FromNanoseconds(time.time_ns())
        return answer

    def take(self, one) -> None:
        known = self.federated.get(one.peer_id)
        if known is None or one.version > known.version:
            self.federated[one.peer_id] = one

    def PushRegistrations(self, request, context):  # noqa: N802
        if not self.accepts:
            context.abort(C.UNIMPLEMENTED, "")
        for one in request.registrations:
            self.take(one)
        return fed.PushRegistrationsResponse(accepted=len(request.registrations))

    def pull(self, client: Client, limit: int = 1000) -> None:
        """What its own loop does every 10 s."""
        request = fed.SyncRegistrationsRequest(relay_id=self.name, limit=limit)
        if getattr(self, "since", None):
            request.since.CopyFrom(self.since)
        answer = client.federation.SyncRegistrations(request, timeout=10)
        self.pages.append(len(answer.registrations))
        for one in answer.registrations:
            self.take(one)
        self.since = answer.sync_timestamp

    def shows(self, name: str) -> set[str]:
        now = time.time_ns()
        return {p for p, r in self.federated.items() if r.expires_at.ToNanoseconds() > now
                and any(s.skill_id == name for s in r.skills)}


def upstream_relay(a, report: Report) -> None:
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    upstream = Upstream("12D3KooW-up", accepts=True)
    fed_grpc.add_FederationServiceServicer_to_server(upstream, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    upstream.put("u1", "theirs")
    extra = ["--registry", "127.0.0.1:0", "--relay-id", "ours", "--federation-insecure",
             f"{upstream.name}=127.0.0.1:{port}", "--set", "federation.interval=200ms",
             "--set", "registry.ttl=25s"]
    with Node(a.bin, keep=a.keep, extra=extra) as node:
        me = Client(node.registry)
        me.register("p1", "ours")
        report.check("an AgentAnycast relay's agents are shown here",
                     poll(15, lambda: me.peers("theirs") == {"u1"}))
        report.check("and ours there, though it never asked",
                     poll(15, lambda: upstream.shows("ours") == {"p1"}))
        me.unregister("p1")
        upstream.put("u1", "theirs", "second")
        del upstream.local["u1"]
        report.check("deletes reach it", poll(15, lambda: not upstream.shows("ours")))
        report.check("what it no longer shows ends here", poll(15, lambda: not me.peers("theirs")))
        for i in range(250):
            me.register(f"q{i}", "pages")
        other = Upstream("12D3KooW-asks", accepts=False)
        for _ in range(20):
            other.pull(me, limit=40)
        report.check("its pages of 40 miss nobody",
                     other.shows("pages") == {f"q{i}" for i in range(250)},
                     f"{len(other.shows('pages'))} of 250")
        first = other.federated["q0"].version
        me.heartbeat("q0")
        for _ in range(20):
            other.pull(me, limit=40)
        report.check("a refresh has a higher version", other.federated["q0"].version > first)
        # Absurd counters and foreign names, pushed by the one that may push.
        push = fed.PushRegistrationsRequest(relay_id=upstream.name)
        now = time.time_ns()
        for peer, origin, version, expires in [
            ("x1", upstream.name, 2 ** 64 - 1, now), ("x2", "somebody", now, now),
            ("", upstream.name, now, now), ("x3", upstream.name, 0, now),
        ]:
            one = push.registrations.add(peer_id=peer, origin_relay_id=origin, version=version,
                                         skills=[skill("absurd")])
            one.registered_at.FromNanoseconds(now)
            one.expires_at.FromNanoseconds(expires)
        push.registrations.add(peer_id="x4", version=now, skills=[skill("absurd")])
        answer = me.federation.PushRegistrations(push)
        report.check("absurd records are refused one by one",
                     (answer.accepted, answer.rejected) == (0, 5) and not me.peers("absurd"),
                     (answer.accepted, answer.rejected))
    server.stop(0)


def hanging_peer(a, report: Report) -> None:
    """A peer that takes connections and says nothing holds nobody up."""
    dumb = socket.socket()
    dumb.bind(("127.0.0.1", 0))
    dumb.listen(16)
    ports = [free_port(), free_port()]
    names = ["relay-a", "relay-b"]

    def extra(i: int) -> list[str]:
        peers = [f"{names[1 - i]}=127.0.0.1:{ports[1 - i]}",
                 f"dumb=127.0.0.1:{dumb.getsockname()[1]}"]
        return ["--registry", f"127.0.0.1:{ports[i]}", "--relay-id", names[i],
                "--federation-insecure", ",".join(peers), "--set", "federation.interval=200ms"]

    with Node(a.bin, keep=a.keep, extra=extra(0)) as one, \
            Node(a.bin, keep=a.keep, extra=extra(1)) as two:
        left, right = Client(one.registry), Client(two.registry)
        slowest = 0.0
        for i in range(10):
            left.register(f"h{i}", "hang")
            began = time.monotonic()
            if not poll(5, lambda: f"h{i}" in right.peers("hang")):
                slowest = 99
                break
            slowest = max(slowest, time.monotonic() - began)
        report.check("exchanges go on beside it", slowest < 3, f"slowest {slowest:.2f} s")
    dumb.close()


def main() -> int:
    a = arguments(__doc__, only="")
    report = Report("registry")
    for part in (one_relay, restarts, proofs, two_relays, three_relays, upstream_relay, hanging_peer):
        if not a.only or part.__name__ in a.only.split(","):
            part(a, report)
    return report.finish()


if __name__ == "__main__":
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    sys.exit(main())
