#!/usr/bin/env python3
"""The token API of a running node: the whole flow over HTTP, JWTs as pyjwt sees them, forged tokens, races on
an invite, pending rotation, revocation, kill -9 in between, and schemathesis over /openapi.yaml."""

import base64
import concurrent.futures
import hashlib
import hmac
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

import grpc
import jwt

from node import ROOT, Node, Report, SkytaleStream, arguments, base64_text, poll

KEY_PACKAGE = b"\x00\x01\x00\x05" + b"\x01" * 280
WELCOME = b"\x00\x01\x00\x03" + b"\x02" * 900
CONFIG = "[rate]\nrequests = 1000000\nrequests_burst = 1000000\n"


def path_of(channel: str) -> str:
    return "/v1/channels/" + urllib.parse.quote(channel, safe="")


def invite(node: Node, key: str, channel: str, uses: int = 1, seconds: int = 3600) -> str:
    status, answer = node.call("POST", "/v1/channels/invites",
                               {"channel": channel, "max_uses": uses, "ttl_seconds": seconds}, key)
    assert status == 201, (status, answer)
    return answer["token"]


def join(node: Node, key: str, channel: str, token: str, identity: str = "bob"):
    return node.call("POST", "/v1/channels/join", {
        "channel": channel, "token": token, "identity": identity,
        "key_package": base64_text(KEY_PACKAGE + identity.encode())}, key)


def pending(node: Node, key: str, channel: str):
    status, answer = node.get("/v1/channels/pending?channel=" + urllib.parse.quote(channel, safe=""), key)
    assert status == 200, (status, answer)
    return answer["requests"]


def put_welcome(node: Node, key: str, request: str, welcome: bytes = WELCOME):
    return node.call("POST", "/v1/channels/welcome",
                     {"request_id": request, "welcome": base64_text(welcome)}, key)


def signing_key(node: Node) -> tuple[str, bytes]:
    keys = json.loads((pathlib.Path(node.data) / "signing-keys.json").read_text())["current"]
    return keys["kid"], base64.urlsafe_b64decode(keys["secret"] + "==")


def stream_status(node: Node, token: str | None) -> grpc.StatusCode:
    """How OpenChannel takes a credential: OK when the stream stands after half a second."""
    stream = SkytaleStream(node.grpc, token)
    try:
        stream.subscribe("acme/team/general")
        poll(1.0, lambda: stream.error is not None)
        return stream.error.code() if stream.error else grpc.StatusCode.OK
    finally:
        stream.close()


# --- the parts -----------------------------------------------------------------------------------


def handshake(report: Report, node: Node, acme: str, bob: str) -> None:
    channel = "acme/team/general"
    first = node.call("POST", "/v1/channels", {"name": channel}, acme)
    second = node.call("POST", "/v1/channels", {"name": channel}, acme)
    report.check("registering is idempotent", (first[0], second[0]) == (201, 200)
                 and first[1]["id"] == second[1]["id"], (first[0], second[0]))
    report.check("no requests yet", pending(node, acme, channel) == [])
    token = invite(node, acme, channel)
    report.check("an invite is a text of its own kind", token.startswith("skt_inv_"))
    status, answer = join(node, bob, channel, token)
    report.check("a join is taken", status == 201 and answer["request_id"].startswith("jr_"), status)
    request = answer["request_id"]
    report.check("the invite is spent", join(node, bob, channel, token)[1]["code"] == "not_found")
    waiting = node.get(f"/v1/channels/welcome/{request}", bob)
    report.check("the joiner waits", waiting == (200, {"request_id": request, "status": "pending"}), waiting)
    served = pending(node, acme, channel)
    report.check("the owner is served the request", [r["id"] for r in served] == [request]
                 and base64.b64decode(served[0]["key_package"]) == KEY_PACKAGE + b"bob"
                 and served[0]["identity"] == "bob")
    report.check("and not again inside the lease", pending(node, acme, channel) == [])
    report.check("an agent that joined polls and has nothing to serve", pending(node, bob, channel) == [])
    answers = [put_welcome(node, acme, request)[0], put_welcome(node, acme, request)[0],
               put_welcome(node, acme, request, WELCOME + b"x")[0]]
    report.check("a welcome is taken, again, and no other", answers == [200, 200, 409], answers)
    status, answer = node.get(f"/v1/channels/welcome/{request}", bob)
    report.check("the joiner gets it", status == 200 and answer["status"] == "completed"
                 and base64.b64decode(answer["welcome"]) == WELCOME, status)
    report.check("an agent that joined registers, too",
                 node.call("POST", "/v1/channels", {"name": channel}, bob)[0] == 200)


def tokens(report: Report, node: Node, acme: str) -> None:
    kid, secret = signing_key(node)
    # As the SDK asks: no body, no content type.
    request = urllib.request.Request(f"http://{node.http}/v1/tokens", method="POST",
                                     headers={"Authorization": "Bearer " + acme})
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = json.loads(answer.read())["token"]
    claims = jwt.decode(text, secret, algorithms=["HS256"], issuer="skytale-api")
    header = jwt.get_unverified_header(text)
    account = node.get("/v1/account", acme)[1]
    report.check("pyjwt verifies the token", claims["org"] == "acme"
                 and claims["sub"] == account["key"]["id"] and claims["exp"] - claims["iat"] == 300,
                 claims["org"])
    report.check("its header is ours", header == {"alg": "HS256", "typ": "JWT", "kid": kid}, header)
    status, answer = node.call("POST", "/v1/tokens", {"ttl_seconds": 2_592_000, "scope": "channels"}, acme)
    long = jwt.decode(answer["token"], secret, algorithms=["HS256"])
    report.check("a token of thirty days and one scope", status == 200 and long["scope"] == "channels"
                 and long["exp"] - long["iat"] == 2_592_000)
    report.check("no token of thirty-one",
                 node.call("POST", "/v1/tokens", {"ttl_seconds": 2_678_400}, acme)[0] == 400)
    report.check("a stream opens with it", stream_status(node, text) == grpc.StatusCode.OK)
    report.check("the HTTP API takes it, too", node.get("/v1/account", text)[0] == 200)
    forged(report, node, text, claims, kid, secret)


def forged(report: Report, node: Node, good: str, claims: dict, kid: str, secret: bytes) -> None:
    now = int(time.time())
    header = {"kid": kid}

    def sign(change: dict, key=secret, algorithm="HS256", headers=header) -> str:
        return jwt.encode({**claims, **change}, key, algorithm=algorithm, headers=headers)

    def raw(head: dict, body: dict, key: bytes) -> str:
        def part(value) -> str:
            return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
        text = part(head) + "." + part(body)
        mark = base64.urlsafe_b64encode(hmac.digest(key, text.encode(), hashlib.sha256)).rstrip(b"=")
        return text + "." + mark.decode()

    first, middle, last = good.split(".")
    none = jwt.encode(claims, None, algorithm="none", headers={"kid": kid})
    cases = {
        "another secret": sign({}, key=b"0" * 32),
        "expired": sign({"iat": now - 900, "exp": now - 600}),
        "not valid yet": sign({"iat": now + 600, "exp": now + 900}),
        "alg=none": none,
        "alg=none with our signature": none + last,
        "HS512": sign({}, key=secret * 2, algorithm="HS512"),
        "an unknown kid": sign({}, headers={"kid": "aaaaaaaaaaaaa"}),
        "no kid": sign({}, headers={}),
        "another tenant": sign({"org": "bob"}),
        "a tenant that is not there": sign({"org": "nobody"}),
        "another issuer": sign({"iss": "joe"}),
        "a key that is not there": sign({"sub": "a" * 26}),
        "a life of ten years": sign({"exp": now + 315_360_000}),
        "no end": raw({"alg": "HS256", "typ": "JWT", "kid": kid},
                      {k: v for k, v in claims.items() if k != "exp"}, secret),
        "two algorithms": raw({"alg": "HS256", "typ": "JWT", "kid": kid, "crit": ["exp"]}, claims, secret),
        "a changed payload": first + "." + jwt.encode({**claims, "exp": now + 86_400}, secret).split(".")[1]
                             + "." + last,
        "no signature": first + "." + middle + ".",
        "padding": good + "=",
        "a fourth part": good + "." + last,
        "an API key that is not there": "sk_live_" + "a" * 77,
        "words": "not-a-token",
    }
    for what, text in cases.items():
        status, answer = node.get("/v1/account", text)
        report.check(f"refused over HTTP: {what}", status in (401, 429) and "code" in answer, status)
    for what in ["another secret", "expired", "alg=none", "an unknown kid", "another tenant",
                 "a key that is not there", "words"]:
        code = stream_status(node, cases[what])
        report.check(f"refused on a stream: {what}", code == grpc.StatusCode.UNAUTHENTICATED, code)
    report.check("refused on a stream: nothing",
                 stream_status(node, None) == grpc.StatusCode.UNAUTHENTICATED)
    again = sign({})
    report.check("and what is signed right is taken", node.get("/v1/account", again)[0] == 200)


def races(report: Report, node: Node, acme: str, bob: str, rounds: int) -> None:
    wins = []
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        for number in range(rounds):
            uses = 1 + number % 3
            channel = f"acme/race/{number}"
            token = invite(node, acme, channel, uses)
            answers = list(pool.map(
                lambda n: join(node, bob, channel, token, f"agent{n}")[0], range(20)))
            wins.append(answers.count(201) == uses and set(answers) <= {201, 404})
    report.check(f"20 at once on the last uses of an invite, {rounds} times", all(wins))


def rotation(report: Report, node: Node, acme: str, bob: str) -> None:
    channel = "acme/team/rotation"
    token = invite(node, acme, channel, 10)
    ids = [join(node, bob, channel, token, f"agent{n}")[1]["request_id"] for n in range(3)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        served = [r["id"] for batch in pool.map(lambda _: pending(node, acme, channel), range(8))
                  for r in batch]
    report.check("pollers at once never get the same request", sorted(served) == sorted(ids), len(served))

    # An owner that fails on every request still comes round to each of them.
    def asked() -> list[str]:
        for request in ids:
            node.get(f"/v1/channels/welcome/{request}", bob)
        return [r["id"] for r in pending(node, acme, channel)]

    seen: list[str] = []
    poll(20, lambda: len(set(seen.extend(asked()) or seen)) == 3, interval=0.5)
    report.check("after the lease they come again, one by one", set(seen[:3]) == set(ids), len(seen))


def revocation(report: Report, node: Node, acme: str, bob: str) -> None:
    channel = "acme/team/general"
    status, made = node.call("POST", "/v1/keys", {"label": "short"}, acme)
    report.check("a key makes a key", status == 201 and made["api_key"].startswith("sk_live_"), status)
    stream = SkytaleStream(node.grpc, node.token(made["api_key"]))
    stream.subscribe(channel)
    time.sleep(0.3)
    report.check("its stream stands", stream.error is None)
    began = time.monotonic()
    status, gone = node.call("DELETE", f"/v1/keys/{made['id']}", key=acme)
    report.check("it is revoked", status == 200 and gone["revoked_at"], status)
    report.check("and refused", node.get("/v1/account", made["api_key"])[1].get("code") == "key_revoked")
    ended = poll(5, lambda: stream.error is not None)
    report.check("its stream ends within 5 s", ended, f"{time.monotonic() - began:.2f} s")
    report.check("with the right status", ended and stream.error.code() == grpc.StatusCode.UNAUTHENTICATED,
                 stream.error.code() if ended else "")
    stream.close()
    grants = node.get(path_of(channel) + "/grants", acme)[1]["grants"]
    report.check("the owner sees the grant", [g["tenant"] for g in grants] == ["bob"]
                 and grants[0]["joined"] is True)
    report.check("and takes it back",
                 node.call("DELETE", path_of(channel) + "/grants/bob", key=acme)[0] == 200)
    report.check("the channel is shut to bob", node.get(path_of(channel), bob)[0] == 403)
    node.posthouse("tenant", "suspend", "bob")
    report.check("a suspended tenant is told so",
                 node.get("/v1/account", bob)[1].get("code") == "tenant_suspended")
    node.posthouse("tenant", "resume", "bob")
    report.check("and works again after", node.get("/v1/account", bob)[0] == 200)


def survival(report: Report, node: Node, acme: str, bob: str) -> None:
    channel = "acme/team/survival"
    token = invite(node, acme, channel, 2)
    done = join(node, bob, channel, token, "done")[1]["request_id"]
    left = join(node, bob, channel, token, "left")[1]["request_id"]
    put_welcome(node, acme, done)
    jwt_before = node.token(acme)
    used = node.get("/v1/usage", acme)[1]["total"]["tokens"]
    node.kill9()
    node.start()
    report.check("kill -9: keys and JWTs live on", node.get("/v1/account", acme)[0] == 200
                 and node.get("/v1/account", jwt_before)[0] == 200)
    report.check("the invite stays spent", join(node, bob, channel, token)[0] == 404)
    report.check("the welcome is there",
                 node.get(f"/v1/channels/welcome/{done}", bob)[1].get("status") == "completed")
    report.check("what waited waits", [r["id"] for r in pending(node, acme, channel)] == [left])
    report.check("the grant stands", node.get(path_of(channel), bob)[0] == 200)
    after = node.get("/v1/usage", acme)[1]["total"]["tokens"]
    report.check("tokens are counted over the kill", after == used and used > 0, f"{used}, {after}")


def shape(report: Report, node: Node, acme: str) -> None:
    status, text = node.get("/openapi.yaml")
    report.check("the description is the one in the tree", status == 200
                 and text == (ROOT / "Proto/openapi/token.yaml").read_text())

    def raw(method: str, path: str, body: bytes | None = None, **headers) -> tuple[int, dict, dict]:
        request = urllib.request.Request(f"http://{node.http}{path}", data=body, method=method)
        request.add_header("Authorization", "Bearer " + acme)
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, dict(answer.headers), json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), json.loads(error.read())

    for what, wanted, given in [
        ("an unknown path", 404, raw("GET", "/v1/nothing")),
        ("a wrong method", 405, raw("PUT", "/v1/channels")),
        ("a body that is not JSON", 415, raw("POST", "/v1/channels", b"x=1", Content_Type="text/plain")),
        ("broken JSON", 400, raw("POST", "/v1/channels", b"{", Content_Type="application/json")),
        ("a JSON list", 400, raw("POST", "/v1/channels", b"[]", Content_Type="application/json")),
        ("a wrong type", 400, raw("POST", "/v1/channels", b'{"name":5}', Content_Type="application/json")),
        ("a broken escape", 400, raw("GET", "/v1/channels/%zz")),
    ]:
        status, headers, body = given
        report.check(f"{what} is a {wanted} with error and code",
                     status == wanted and isinstance(body, dict) and {"error", "code"} <= set(body), status)
    report.check("405 names what is allowed", raw("PUT", "/v1/channels")[1].get("allow") == "GET, POST"
                 or raw("PUT", "/v1/channels")[1].get("Allow") == "GET, POST")
    request = urllib.request.Request(f"http://{node.http}/v1/account")
    try:
        urllib.request.urlopen(request, timeout=30)
        report.check("401 says how to authenticate", False)
    except urllib.error.HTTPError as error:
        report.check("401 says how to authenticate", error.code == 401
                     and error.headers.get("www-authenticate", "").startswith("Bearer"))


def quota(report: Report, node: Node) -> None:
    key = node.create_tenant("frugal")
    node.posthouse("tenant", "quota", "frugal", "--tokens", "2")
    answers = [node.call("POST", "/v1/tokens", key=key) for _ in range(3)]
    report.check("the quota of tokens holds", [a[0] for a in answers] == [200, 200, 429]
                 and answers[2][1]["code"] == "quota_exceeded", [a[0] for a in answers])


def schemathesis(report: Report, node: Node, acme: str, examples: int) -> None:
    program = shutil.which("schemathesis", path=os.path.dirname(sys.executable) + ":" + os.environ["PATH"])
    if not program:
        report.check("schemathesis is installed", False)
        return
    spare = node.call("POST", "/v1/keys", {"label": "schemathesis"}, acme)[1]["api_key"]
    checks = ("not_a_server_error,status_code_conformance,content_type_conformance,"
              "response_headers_conformance,response_schema_conformance,ignored_auth,unsupported_method")

    # Of all names the generator could think of, hardly one is the tenant's own: a copy says which are.
    text = (ROOT / "Proto/openapi/token.yaml").read_text()
    generic = "^[a-z0-9-]{1,63}/"
    assert generic in text
    narrowed = pathlib.Path(node.home) / "narrowed.yaml"
    narrowed.write_text(text.replace(generic, "^acme/"))
    served = f"http://{node.http}/openapi.yaml"
    # Key revocation apart, because a revoked key of one's own answers 401 from then on.
    for what, where, choice in [
        ("any names", served, ["--exclude-operation-id", "revokeKey"]),
        ("names of the tenant", str(narrowed), ["--exclude-operation-id", "revokeKey"]),
        ("key revocation", served,
         ["--include-operation-id", "revokeKey", "--phases", "coverage,fuzzing"]),
    ]:
        for _ in range(3):
            done = subprocess.run(
                [program, "run", where, "--url", f"http://{node.http}",
                 "-H", "Authorization: Bearer " + spare, "--checks", checks,
                 "--max-examples", str(examples), "--workers", "1", "--seed", "1", "--no-color",
                 "--generation-database", ":memory:", *choice],
                capture_output=True, text=True, timeout=1500, cwd=node.home)
            # A fault of CPython 3.11's own parser under threads, nothing of the node's: once more.
            if "AST constructor recursion depth" not in done.stdout + done.stderr:
                break
        lines = [line.strip() for line in done.stdout.splitlines() if line.strip()]
        report.check(f"schemathesis: {what}", done.returncode == 0, lines[-1] if lines else done.stderr[-300:])
        if done.returncode != 0:
            print(done.stdout[-6000:], done.stderr[-2000:], flush=True)
    report.check("its key still works", node.get("/v1/account", spare)[0] == 200)


def main() -> int:
    a = arguments(__doc__)
    report = Report("token API")
    proof = a.counts == "proof"
    with Node(a.bin, keep=a.keep, config=CONFIG) as node:
        acme, bob = node.create_tenant("acme"), node.create_tenant("bob")
        shape(report, node, acme)
        handshake(report, node, acme, bob)
        tokens(report, node, acme)
        races(report, node, acme, bob, 100 if proof else 10)
        rotation(report, node, acme, bob)
        revocation(report, node, acme, bob)
        survival(report, node, acme, bob)
        quota(report, node)
        schemathesis(report, node, acme, 400 if proof else 40)
        log = node.log()
        report.check("no secret in the log", not any(
            text in log for text in (acme, bob, "skt_inv_", "sk_live_")))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
