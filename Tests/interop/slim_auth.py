#!/usr/bin/env python3
"""A node with --auth required and SLIM: applications with a static JWT, in clear text and over TLS, talk in both
families; a bad token fails at connect; a second tenant gets nothing out of the first's names and nothing
into them, whatever its frames claim; the families do not see each other.

--node real runs the frames against the packages' own nodes, which refuse nothing: there the attacks must be
seen to succeed, so most checks FAIL."""

import contextlib
import subprocess
import sys
import time

from node import Node, Report, SkytaleStream, arguments, mls_application, poll
from slim_pair import App, NotInstalled, RealNode, Setup, converse, slim_python
from slim_wire import EVERYBODY, Name, SlimStream, component, settle

FAMILIES = {"A": "1.4.1", "B": "3.3.8"}
CHANNEL = "acme/team/general"


# --- applications --------------------------------------------------------------------------------


def talk(report: Report, how: str, url: str, token: str, authority: str = "") -> None:
    for version in FAMILIES.values():
        for scenario in ("p2p-mls", "grp-mls"):
            outcome = converse(Setup(url, (version, version), bearer=token, authority=authority), scenario)
            report.check(f"{how}, {version} {scenario}", outcome.passed,
                         f"{outcome.seconds:.1f} s, {outcome.detail}")


def bad_tokens(report: Report, node: Node, key: str) -> None:
    good = node.token(key)
    revoked = node.call("POST", "/v1/keys", {"label": "short"}, key)[1]
    dead = node.token(revoked["api_key"])
    node.call("DELETE", f"/v1/keys/{revoked['id']}", key=key)
    head, claims, mark = good.split(".")
    cases = {"no token": "", "words": "not-a-token", "another signature": f"{head}.{claims}.{mark[::-1]}",
             "a revoked key's token": dead}
    for version in FAMILIES.values():
        for what, token in cases.items():
            began = time.monotonic()
            app = App(slim_python(version), f"http://{node.grpc}", "receiver", "acme/team/nobody",
                      {"bearer": token})
            try:
                app.wait("ready", 20)
                ending = "it connected"
            except (RuntimeError, TimeoutError) as error:
                ending = str(error)
            finally:
                app.end()
            report.check(f"{version}: connect fails with {what}",
                         "authentication" in ending and time.monotonic() - began < 10,
                         f"{time.monotonic() - began:.1f} s, {ending[:160]}")


def certificates(folder: str) -> tuple[str, str, str]:
    """(authority, certificate, key): an authority of its own signs for 127.0.0.1."""
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder)

    with open(f"{folder}/san", "w") as file:
        file.write("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=tests", "-days", "2")
    openssl("req", *curve, "-keyout", "node.key", "-out", "node.csr", "-subj", "/CN=localhost")
    openssl("x509", "-req", "-in", "node.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "node.pem", "-days", "2", "-extfile", "san")
    return f"{folder}/ca.pem", f"{folder}/node.pem", f"{folder}/node.key"


# --- frames --------------------------------------------------------------------------------------


def channel_of(family: str, text: str = CHANNEL) -> Name:
    """A group's name as apps of the family make it: everybody of a name, or a drawn id."""
    return Name.of(text, EVERYBODY["A"] if family == "A" else 7 << 64 | 9)


def tricks(family: str, victim: Name) -> dict[str, tuple[Name, Name]]:
    """What the second tenant claims: (source, destination) that mean `victim` or pretend it is its own."""
    mine = Name.of("globex/team/agent", 4711)
    texts = ("globex", "team", "general")
    own_first = (component("globex"), *victim.parts[1:])
    return {
        "its own source": (mine, victim),
        "the first tenant's source": (Name.of("acme/team/agent", 4711), victim),
        "its own texts over the other's numbers": (mine, Name(victim.parts, victim.id, texts)),
        "the other's texts over its own numbers": (mine, Name(own_first, victim.id, victim.texts)),
        "numbers alone": (mine, Name(victim.parts, victim.id)),
        "texts alone": (mine, Name(None, None, victim.texts)),
        "no id": (mine, Name(victim.parts, None, victim.texts)),
        "its own texts in a foreign source": (
            Name(Name.of("acme/team/agent").parts, 4711, texts), victim),
    }


def opened(address: str, family: str, token: str | None, name: Name, report: Report, what: str) -> SlimStream:
    stream = SlimStream(address, family, token)
    stream.own = Name.of(f"{name.texts[0]}/team/agent", stream.last_id)
    report.check(what, stream.subscribed(name, source=stream.own), stream.error or "")
    return stream


def second_tenant(report: Report, family: str, address: str, first: str | None, second: str | None) -> None:
    victim = channel_of(family)

    def check(what: str, condition, detail="") -> None:
        report.check(f"{family}: {what}", condition, detail)

    with contextlib.ExitStack() as stack:
        member = stack.enter_context(opened(
            address, family, first, victim, report, f"{family}: a member subscribes to its tenant's channel"))
        author = stack.enter_context(opened(
            address, family, first, channel_of(family, "acme/team/other"), report,
            f"{family}: another one to another channel"))
        author.publish(victim, b"control", source=author.own)
        check("a member gets what its own tenant sends", member.gets(b"control"))

        spies = {}
        for what, (source, destination) in tricks(family, victim).items():
            spy = stack.enter_context(SlimStream(address, family, second))
            spies[what] = spy
            taken = spy.subscribed(destination, seconds=2, source=source)
            check(f"a second tenant may not subscribe with {what}", not taken, spy.error or "")
        author.publish(victim, b"secret", source=author.own)
        check("the member gets it", member.gets(b"secret"))
        settle(member, author)
        for what, spy in spies.items():
            check(f"nothing leaks to {what}", spy.payloads() == [], len(spy.publishes))

        for number, (what, (source, destination)) in enumerate(tricks(family, victim).items()):
            with SlimStream(address, family, second) as forger:
                forger.publish(destination, b"forged %d" % number, source=source)
                settle(member, seconds=0.3)
            check(f"a second tenant may not publish with {what}",
                  b"forged %d" % number not in member.payloads())
        routing(check, stack, family, address, second, member)
        if family == "B":
            unsigned(check, author, member, victim)


def routing(check, stack, family: str, address: str, second: str | None, member: SlimStream) -> None:
    """Commands between nodes, from an application: obeyed, they would reach any connection."""
    forger = stack.enter_context(SlimStream(address, family, second))
    mine = Name.of("globex/team/agent", 99)
    for connection in range(12):
        for command in ("receive_from", "forward_to", "incoming"):
            forger.publish(mine, b"routed", source=mine, **{command: connection})
            forger.subscribe(mine, acknowledge=False, source=mine, **{command: connection})
    forger.publish(mine, b"routed", source=mine)
    settle(member)
    check("commands between nodes are not an application's to give", b"routed" not in member.payloads())
    check("and its stream stands", not forger.ended.is_set(), forger.error or "")


def unsigned(check, author: SlimStream, member: SlimStream, channel: Name) -> None:
    author.publish(channel, b"wrong mac", source=author.own, mac=bytes(32))
    author.publish(channel, b"ttl 0", source=author.own, ttl=0)
    author.publish(channel, b"signed", source=author.own)
    check("what is signed right arrives", member.gets(b"signed"))
    check("a wrong MAC is dropped, the link stays", b"wrong mac" not in member.payloads())
    check("a message at the end of its life is dropped", b"ttl 0" not in member.payloads())


def families_apart(report: Report, node: Node, token: str) -> None:
    with contextlib.ExitStack() as stack:
        streams = {}
        for family in FAMILIES:
            streams[family] = stack.enter_context(opened(
                node.grpc, family, token, Name.of("acme/team/one", EVERYBODY[family]), report,
                f"{family}: subscribes to a name all three wires use"))
        skytale = SkytaleStream(node.grpc, token)
        stack.callback(skytale.close)
        skytale.subscribe("acme/team/one")
        time.sleep(0.5)
        with contextlib.ExitStack() as senders:
            for family in FAMILIES:
                sender = senders.enter_context(SlimStream(node.grpc, family, token))
                sender.own = Name.of("acme/team/agent", 5)
                sender.publish(Name.of("acme/team/one", EVERYBODY[family]), family.encode() * 9,
                               source=sender.own)
                report.check(f"{family}: gets its own", streams[family].gets(family.encode() * 9))
        other = SkytaleStream(node.grpc, token)
        stack.callback(other.close)
        other.publish("acme/team/one", mls_application(b"S"))
        report.check("Skytale gets its own", poll(5, lambda: len(skytale.received) > 0))
        settle(*streams.values())
        report.check("and nobody anything else", len(skytale.received) == 1
                     and all(len(stream.publishes) == 1 for stream in streams.values()),
                     [len(skytale.received)] + [len(stream.publishes) for stream in streams.values()])


def granted(report: Report, node: Node, first: str, second: str) -> None:
    node.posthouse("channel", "grant", CHANNEL, "globex")
    for family in FAMILIES:
        with SlimStream(node.grpc, family, first) as author, SlimStream(node.grpc, family, second) as guest:
            guest.own, author.own = Name.of("globex/team/guest", 1), Name.of("acme/team/agent", 2)
            report.check(f"{family}: with a grant the second tenant subscribes",
                         guest.subscribed(channel_of(family), source=guest.own), guest.error or "")
            author.publish(channel_of(family), b"granted", source=author.own)
            report.check(f"{family}: and reads", guest.gets(b"granted"))


def main() -> int:
    a = arguments(__doc__, node="own")
    report = Report("slim auth")
    try:
        for version in FAMILIES.values():
            slim_python(version)
    except NotInstalled as error:
        return report.skip(str(error))
    if a.node == "real":
        for family, version in FAMILIES.items():
            with RealNode(version) as node:
                second_tenant(report, family, node.grpc, None, None)
        return report.finish()
    with Node(a.bin, keep=a.keep) as node:
        acme, globex = node.create_tenant("acme"), node.create_tenant("globex")
        first, second = node.token(acme), node.token(globex)
        talk(report, "static JWT", f"http://{node.grpc}", first)
        bad_tokens(report, node, acme)
        for family in FAMILIES:
            second_tenant(report, family, node.grpc, first, second)
        families_apart(report, node, first)
        granted(report, node, first, second)
        log = node.log()
        report.check("no token in the log", first not in log and second not in log)
        authority, certificate, key = certificates(node.home)
        tls = ["--grpc-tls", "127.0.0.1:0", "--cert", certificate, "--key", key]
        with Node(a.bin, keep=a.keep, extra=tls) as secure:
            token = secure.token(secure.create_tenant("acme"))
            talk(report, "TLS", f"https://{secure.grpc_tls}", token, authority)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
