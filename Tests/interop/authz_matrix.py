#!/usr/bin/env python3
"""Who may do what: every HTTP endpoint and every message type, by a key or stream of the channel's own tenant,
of one that was granted it, of one whose grant was taken back, of a stranger, and by credentials that are
revoked, suspended, of a too small scope, or none at all."""

import sys
import urllib.parse

import grpc

from node import (Node, Publisher, Report, SkytaleStream, Stubs, arguments, base64_text, bearer, dial,
                  mls_application, poll, read_channel)
from token_api import KEY_PACKAGE, WELCOME, invite, join

CHANNEL = "acme/team/matrix"
CONFIG = "[rate]\nrequests = 1000000\nrequests_burst = 1000000\n"


def http(report: Report, node: Node, keys: dict[str, str]) -> None:
    own, granted = keys["own"], keys["granted"]
    name = urllib.parse.quote(CHANNEL, safe="")
    other = urllib.parse.quote("acme/team/other", safe="")
    openings = invite(node, own, CHANNEL, 1000)
    request = join(node, granted, CHANNEL, openings, "first")[1]["request_id"]
    mine = {who: node.get("/v1/account", key)[1]["key"]["id"] for who, key in keys.items()}
    spare = {who: node.call("POST", "/v1/keys", {"label": "spare"}, key)[1]["id"]
             for who, key in keys.items()}
    open_invites = node.get(f"/v1/channels/invites?channel={name}", own)[1]["invites"]

    def welcome(text: bytes = WELCOME) -> dict:
        return {"request_id": request, "welcome": base64_text(text)}

    def joining(token: str) -> dict:
        return {"channel": CHANNEL, "token": token, "identity": "x",
                "key_package": base64_text(KEY_PACKAGE)}

    # (method, path, body, own, granted, revoked, foreign)
    table = [
        ("GET", "/v1/account", None, 200, 200, 200, 200),
        ("GET", "/v1/usage", None, 200, 200, 200, 200),
        ("POST", "/v1/tokens", None, 200, 200, 200, 200),
        ("GET", "/v1/keys", None, 200, 200, 200, 200),
        ("GET", "/v1/channels", None, 200, 200, 200, 200),
        ("POST", "/v1/channels", {"name": CHANNEL}, 200, 200, 403, 403),
        ("POST", "/v1/channels", {"name": "acme/team/other"}, 201, 403, 403, 403),
        ("GET", f"/v1/channels/{name}", None, 200, 200, 403, 403),
        ("GET", f"/v1/channels/{name}/grants", None, 200, 403, 403, 403),
        ("DELETE", f"/v1/channels/{name}/grants/nobody", None, 404, 403, 403, 403),
        ("GET", f"/v1/channels/invites?channel={name}", None, 200, 403, 403, 403),
        ("POST", "/v1/channels/invites", {"channel": CHANNEL}, 201, 403, 403, 403),
        ("DELETE", f"/v1/channels/invites/{'a' * 26}", None, 404, 404, 404, 404),
        ("POST", "/v1/channels/join", joining("skt_inv_" + "a" * 77), 404, 404, 404, 404),
        ("GET", f"/v1/channels/pending?channel={name}", None, 200, 200, 403, 403),
        ("GET", f"/v1/channels/welcome/{request}", None, 404, 200, 404, 404),
        # Those without a right first, so that it is theirs to fail.
        ("POST", "/v1/channels/welcome", welcome(), 200, 404, 404, 404),
        ("DELETE", f"/v1/channels/{other}", None, 200, 403, 403, 403),
    ]
    who = ["own", "granted", "revoked", "foreign"]
    for method, path, body, *wanted in table:
        for index in reversed(range(4)):
            status, _ = node.call(method, path, body, keys[who[index]])
            report.check(f"{method} {path[:48]} by {who[index]}", status == wanted[index], status)

    for index, someone in enumerate(who[1:]):
        status, _ = node.call("DELETE", f"/v1/keys/{mine['own']}", key=keys[someone])
        report.check(f"another tenant's key is not {someone}'s to revoke", status == 404, status)
        status, _ = node.call("DELETE", f"/v1/channels/invites/{open_invites[0]['id']}", key=keys[someone])
        report.check(f"another tenant's invite is not {someone}'s to end", status == 404, status)
        listed = [k["id"] for k in node.get("/v1/keys", keys[someone])[1]["keys"]]
        report.check(f"{someone} sees its own keys only", set(listed) == {mine[someone], spare[someone]})
    names = [c["name"] for c in node.get("/v1/channels", granted)[1]["channels"]]
    report.check("granted lists what it was granted", names == [CHANNEL], names)
    report.check("foreign lists nothing", node.get("/v1/channels", keys["foreign"])[1]["channels"] == [])

    every = [(method, path, body) for method, path, body, *_ in table] + [
        ("POST", "/v1/keys", {}), ("DELETE", f"/v1/keys/{spare['own']}", None),
        ("DELETE", f"/v1/channels/{name}", None)]
    credentials(report, node, own, every)


def credentials(report: Report, node: Node, own: str, every: list) -> None:
    """No endpoint answers a bad credential, and each needs its scope."""
    revoked = node.call("POST", "/v1/keys", {}, own)[1]
    node.call("DELETE", f"/v1/keys/{revoked['id']}", key=own)
    suspended = node.create_tenant("suspended")
    node.posthouse("tenant", "suspend", "suspended")
    deleted = node.create_tenant("deleted")
    node.posthouse("tenant", "delete", "deleted", "--yes")
    bad = {"no credential": (None, 401), "a revoked key": (revoked["api_key"], 401),
           "a suspended tenant": (suspended, 403), "a deleted tenant": (deleted, 401)}
    for what, (key, wanted) in bad.items():
        answers = {f"{m} {p}": node.call(m, p, b, key)[0] for m, p, b in every}
        wrong = {k: v for k, v in answers.items() if v not in (wanted, 429)}
        report.check(f"{what}: all {len(every)} endpoints refuse", not wrong, wrong or wanted)

    def needed(method: str, path: str) -> str:
        if path.startswith("/v1/account"):
            return ""
        if path.startswith("/v1/usage"):
            return "usage"
        if path.startswith("/v1/tokens"):
            return "tokens"
        if path.startswith("/v1/keys"):
            return "keys"
        return "invites" if "/invites" in path or "/grants" in path else "channels"

    for scope in ["channels", "invites", "keys", "tokens", "usage"]:
        key = node.call("POST", "/v1/keys", {"scopes": [scope]}, own)[1]["api_key"]
        wrong = {}
        for method, path, body in every:
            if needed(method, path) in ("", scope):
                continue
            status, answer = node.call(method, path, body, key)
            if status != 403 or answer["code"] != "forbidden":
                wrong[f"{method} {path}"] = status
        report.check(f"the scope `{scope}` opens nothing else", not wrong, wrong or "")
        report.check(f"the scope `{scope}` tells who it is", node.get("/v1/account", key)[0] == 200)


# --- streams -------------------------------------------------------------------------------------


def streams(report: Report, node: Node, keys: dict[str, str]) -> None:
    tokens = {who: node.token(key) for who, key in keys.items()}
    reader = SkytaleStream(node.grpc, tokens["own"])
    reader.subscribe(CHANNEL)
    allowed = {"own": True, "granted": True, "revoked": False, "foreign": False}
    for who, may in allowed.items():
        stream = SkytaleStream(node.grpc, tokens[who])
        stream.subscribe(CHANNEL)
        poll(0.5, lambda: stream.error)
        mark = f"by {who}".encode()
        before = len(reader.received)
        stream.publish(CHANNEL, mls_application(mark))
        got = poll(5 if may else 1.5, lambda: len(reader.received) > before)
        report.check(f"SLIM publish by {who}: {'delivered' if may else 'dropped'}",
                     bool(got) == may and (not may or reader.received[-1].endswith(mark)))
        report.check(f"SLIM: the stream of {who} stands", stream.error is None, stream.error or "")
        if who != "own":
            writer = SkytaleStream(node.grpc, tokens["own"])
            count = len(stream.received)
            writer.publish(CHANNEL, mls_application(b"to " + who.encode()))
            heard = poll(5 if may else 1.5, lambda: len(stream.received) > count)
            report.check(f"SLIM subscribe by {who}: {'served' if may else 'hears nothing'}",
                         bool(heard) == may)
            writer.close()
        stream.close()
    reader.close()

    for who, may in allowed.items():
        publisher = Publisher(node.grpc, tokens[who])
        publisher.publish(CHANNEL, mls_application(b"own service"), producer=ord(who[0]), number=1)
        poll(5, lambda: publisher.acked or publisher.refused or publisher.error)
        refused = bool(publisher.refused) or publisher.error is not None
        report.check(f"ChannelService.Publish by {who}", bool(publisher.acked) == may and refused != may,
                     publisher.refused or publisher.error or "")
        publisher.close()
        code = grpc.StatusCode.OK
        try:
            count = sum(1 for _ in read_channel(node.grpc, tokens[who], CHANNEL, timeout=10))
        except grpc.RpcError as error:
            count, code = 0, error.code()
        report.check(f"ChannelService.Read by {who}",
                     count > 0 if may else code == grpc.StatusCode.PERMISSION_DENIED, code)


def revoked_while_open(report: Report, node: Node, keys: dict[str, str]) -> None:
    """A grant that is taken back shuts the channel to a stream that stands."""
    channel = "acme/team/while"
    join(node, keys["granted"], channel, invite(node, keys["own"], channel))
    stream = SkytaleStream(node.grpc, node.token(keys["granted"]))
    stream.subscribe(channel)
    writer = SkytaleStream(node.grpc, node.token(keys["own"]))
    writer.subscribe(channel)

    def reaches(text: bytes, seconds: float) -> bool:
        count = len(stream.received)
        writer.publish(channel, mls_application(text))
        return bool(poll(seconds, lambda: len(stream.received) > count))

    report.check("before: served", poll(5, lambda: reaches(b"one", 1)))
    status, _ = node.call(
        "DELETE", f"/v1/channels/{urllib.parse.quote(channel, safe='')}/grants/granted", key=keys["own"])
    report.check("the grant is taken back", status == 200, status)
    shut = poll(5, lambda: stream.error is not None or not reaches(b"two", 0.5))
    report.check("within 5 s: nothing more, or the stream ended", shut, stream.error or "silent")
    stream.close()
    writer.close()


def admin(report: Report, node: Node, strict: Node, good: dict[Node, str], keys: dict[str, str]) -> None:
    """A tenant's JWT is no operator's credential. (The admin socket is trusted, and loopback without any.)"""
    Stubs.load()
    from posthouse.v1 import admin_pb2, admin_pb2_grpc
    stub = admin_pb2_grpc.AdminServiceStub(dial("unix:" + node.admin))
    answer = stub.ListTenants(admin_pb2.ListTenantsRequest(), timeout=10)
    report.check("the admin socket lists tenants", {"acme", "foreign"} <= {t.tenant for t in answer.tenants})
    for verb, path in [("POST", "/v1/tenants"), ("DELETE", "/v1/tenants/acme"), ("GET", "/v1/tenants")]:
        report.check(f"{verb} {path} is not there over HTTP",
                     node.call(verb, path, None, keys["own"])[0] == 404)
    wrong = {"a key": keys["own"], "a JWT": node.token(keys["own"]), "a forged credential": good[node][:-4] + "aaaa"}

    def asked(at: str, credential: str | None):
        with dial(at) as channel:
            try:
                admin_pb2_grpc.AdminServiceStub(channel).ListTenants(
                    admin_pb2.ListTenantsRequest(), timeout=10,
                    metadata=None if credential is None else bearer(credential))
                return grpc.StatusCode.OK
            except grpc.RpcError as error:
                return error.code()

    for what, text in wrong.items():
        code = asked(node.grpc, text)
        report.check(f"loopback with {what} is no operator", code == grpc.StatusCode.PERMISSION_DENIED, code)
        status, _ = node.get("/metrics", text)
        report.check(f"nor gets metrics with {what}", status == 403, status)
    report.check("loopback with an admin credential is one", asked(node.grpc, good[node]) == grpc.StatusCode.OK)
    code = asked(node.grpc, None)
    report.check("loopback without any is one: admin_loopback is trusted", code == grpc.StatusCode.OK, code)
    code = asked(strict.grpc, None)
    report.check("admin_loopback = token: loopback needs one", code == grpc.StatusCode.PERMISSION_DENIED, code)
    report.check("metrics, too", strict.get("/metrics")[0] == 403)
    report.check("with an admin credential both answer", asked(strict.grpc, good[strict]) == grpc.StatusCode.OK
                 and strict.get("/metrics", good[strict])[0] == 200)
    report.check("the admin socket needs none", asked("unix:" + strict.admin, None) == grpc.StatusCode.OK)


def main() -> int:
    a = arguments(__doc__)
    report = Report("authorization")
    with Node(a.bin, keep=a.keep, config=CONFIG) as node, \
            Node(a.bin, keep=a.keep, config='admin_loopback = "token"\n') as strict:
        # Before gRPC has threads, which a fork disturbs.
        good = {one: one.posthouse("admin", "token", "-o", "name").stdout.strip() for one in (node, strict)}
        keys = {"own": node.create_tenant("acme")}
        for who in ("granted", "revoked", "foreign"):
            keys[who] = node.create_tenant(who)
        node.call("POST", "/v1/channels", {"name": CHANNEL}, keys["own"])
        for who in ("granted", "revoked"):
            node.posthouse("channel", "grant", CHANNEL, who)
        node.posthouse("channel", "revoke", CHANNEL, "revoked")
        streams(report, node, keys)
        http(report, node, keys)
        revoked_while_open(report, node, keys)
        admin(report, node, strict, good, keys)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
