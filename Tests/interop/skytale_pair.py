#!/usr/bin/env python3
"""Agents of the published skytale-sdk, each in a process of its own, talk through a node.

  skytale_pair.py --grpc HOST:PORT --http HOST:PORT --api-key KEY [--channel org/ns/name] \
      [--mode keyless|shim] [--extended]

keyless  the package and the process as they are; no API key for the native client (the published Linux
         wheels panic when they get one), so the stream carries no authorization: `--auth open`. The
         HTTP part uses the key.
shim     the README's flow with rustls_shim.install() first: token exchange, JWT on the stream.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid


# --- in the agent's process ----------------------------------------------------------------------


class Agent:
    """One SDK client, told what to do by lines of JSON on stdin."""

    def __init__(self, role: str, mode: str, grpc: str, http: str, key: str, folder: str):
        from skytale_sdk import SkytaleChannelManager
        endpoint, api = f"http://{grpc}", f"http://{http}"
        if mode == "keyless":
            from skytale_sdk._api import SkytaleAPI
            os.environ.pop("SKYTALE_API_KEY", None)
            self.manager = SkytaleChannelManager(
                identity=role.encode(), endpoint=endpoint, data_dir=folder)
            self.manager._api = SkytaleAPI(api, key)
        else:
            sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
            import rustls_shim
            rustls_shim.install()
            self.manager = SkytaleChannelManager(
                identity=role.encode(), endpoint=endpoint, data_dir=folder, api_key=key, api_url=api)

    def do(self, order: dict) -> dict:
        from skytale_sdk import Envelope, Protocol
        channel, verb = order.get("channel", ""), order["verb"]
        if verb == "create":
            self.manager.create(channel)
        elif verb == "invite":
            return {"token": self.manager.invite(channel, **order.get("options", {}))}
        elif verb == "join":
            self.manager.join_with_token(channel, order["token"], timeout=order["seconds"])
        elif verb == "send":
            self.manager.send(channel, order["text"])
        elif verb == "send_bytes":
            self.manager.send(channel, bytes.fromhex(order["hex"]))
        elif verb == "send_envelope":
            self.manager.send_envelope(channel, Envelope(
                Protocol.A2A, "application/json", order["payload"].encode(), {"k": "v"}))
        elif verb == "receive":
            return {"messages": self.gather(
                order, lambda: self.manager.receive(channel, timeout=0.5))}
        elif verb == "receive_envelopes":
            return {"messages": self.gather(order, lambda: [
                [e.protocol.value, e.content_type, e.payload.hex(), e.metadata]
                for e in self.manager.receive_envelopes(channel, timeout=0.5)])}
        else:
            raise ValueError(verb)
        return {}

    @staticmethod
    def gather(order: dict, take) -> list:
        messages: list = []
        deadline = time.monotonic() + order.get("seconds", 10)
        while len(messages) < order["count"] and time.monotonic() < deadline:
            messages += take()
        return messages


def agent_main(a: argparse.Namespace) -> None:
    def answer(**what) -> None:
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()

    folder = tempfile.mkdtemp(prefix=f"skytale-{a.agent}-")
    try:
        agent = Agent(a.agent, a.mode, a.grpc, a.http, a.api_key, folder)
        answer(event="ready", version=__import__("skytale_sdk").__version__)
        for line in sys.stdin:
            order = json.loads(line)
            if order["verb"] == "quit":
                break
            try:
                answer(event="done", **agent.do(order))
            except BaseException as error:  # the SDK's panics are no Exception
                answer(event="failed", kind=type(error).__name__, text=str(error))
    except BaseException as error:
        answer(event="failed", kind=type(error).__name__, text=str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        sys.stdout.flush()
        os._exit(0)  # the SDK's listener threads would keep the process


# --- in the test's process -----------------------------------------------------------------------


class Peer:
    """The test's handle on one agent process."""

    def __init__(self, role: str, *, mode: str, grpc: str, http: str, key: str, channel: str = ""):
        self.role = role
        self.channel = channel
        self.process = subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "--agent", role, "--mode", mode, "--grpc", grpc,
             "--http", http, "--api-key", key],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            self.version = self._read()["version"]
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def _read(self) -> dict:
        while True:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError(f"{self.role}: the process ended")
            if line.startswith("{"):
                answer = json.loads(line)
                if answer["event"] == "failed":
                    raise RuntimeError(f"{self.role}: {answer['kind']}: {answer['text']}")
                return answer

    def do(self, verb: str, **order) -> dict:
        order = {"verb": verb, "channel": self.channel, **order}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._read()

    def receive(self, count: int, seconds: float = 10) -> list:
        return self.do("receive", count=count, seconds=seconds)["messages"]

    def end(self) -> None:
        try:
            self.process.stdin.write('{"verb": "quit"}\n')
            self.process.stdin.close()
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


def converse(check, *, mode: str, grpc: str, http: str, key: str, channel: str,
             extended: bool = False, seconds: float = 60, key_of_others: str | None = None,
             grpc_of_others: str | None = None, http_of_others: str | None = None) -> None:
    """The README's conversation; `check(what, condition, detail)` hears of every step. The others, bob and carol,
    may be another tenant's, and connect to another node."""
    peers: list[Peer] = []

    def peer(role: str) -> Peer:
        first = role == "alice"
        one = Peer(role, mode=mode, channel=channel, grpc=grpc if first else grpc_of_others or grpc,
                   http=http if first else http_of_others or http,
                   key=key if first else key_of_others or key)
        peers.append(one)
        return one

    try:
        alice = peer("alice")
        alice.do("create")
        token = alice.do("invite")["token"]
        check("invite", token.startswith("skt_inv_"), f"skytale-sdk {alice.version}")
        bob = peer("bob")
        began = time.monotonic()
        bob.do("join", token=token, seconds=seconds)
        check("bob joins with the token", True, f"{time.monotonic() - began:.1f} s")
        alice.do("send", text="Hello from Alice!")
        alice.do("send", text="Another message!")
        got = bob.receive(2)
        check("bob reads both messages in order", got == ["Hello from Alice!", "Another message!"], got)
        got = alice.receive(1, seconds=1.5)
        check("alice gets no echo", got == [], got)
        if extended:
            _extended(check, alice, bob, peer, seconds)
    except Exception as error:
        check("conversation", False, str(error)[:600])
    finally:
        for one in peers:
            one.end()


def _extended(check, alice: Peer, bob: Peer, peer, seconds: float) -> None:
    bob.do("send", text="hi alice")
    got = alice.receive(1)
    check("bob to alice", got == ["hi alice"], got)
    token = alice.do("invite", options={"max_uses": 2, "ttl": 60})["token"]
    carol = peer("carol")
    carol.do("join", token=token, seconds=seconds)
    # Bob applies the commit when his SDK reads it; what is sent after it on the stream comes after it.
    alice.do("send", text="to all")
    got = bob.receive(1) + carol.receive(1)
    check("both follow the commit that added carol", got == ["to all", "to all"], got)
    bob.do("send", text="from bob")
    got = alice.receive(1) + carol.receive(1)
    check("bob to alice and carol", got == ["from bob", "from bob"], got)
    carol.do("send", text="from carol")
    got = alice.receive(1) + bob.receive(1)
    check("carol to alice and bob", got == ["from carol", "from carol"], got)
    alice.do("send_envelope", payload='{"x":1}')
    wanted = [["a2a", "application/json", b'{"x":1}'.hex(), {"k": "v"}]]
    got = bob.do("receive_envelopes", count=1)["messages"]
    check("envelope", got == wanted, got)
    carol.do("receive_envelopes", count=1)
    for length in (1, 3, 8, 9, 1000, 65_536, 262_144):
        payload = (bytes(range(256)) * (length // 256 + 1))[:length].hex()
        alice.do("send_bytes", hex=payload)
        got = bob.do("receive_envelopes", count=1)["messages"]
        check(f"payload of {length} bytes", len(got) == 1 and got[0][2] == payload, f"{len(got)} got")
        carol.do("receive_envelopes", count=1)
    for i in range(50):
        alice.do("send", text=f"m{i}")
    got = bob.receive(50, seconds=20)
    check("50 messages in order", got == [f"m{i}" for i in range(50)], f"{len(got)} got")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grpc", required=True)
    parser.add_argument("--http", required=True)
    parser.add_argument("--api-key", required=True)
    parser.add_argument("--api-key-of-others", help="bob's and carol's, when they are another tenant")
    parser.add_argument("--grpc-of-others", help="where they connect, when that is another node")
    parser.add_argument("--http-of-others")
    parser.add_argument("--channel", default=f"acme/team/general-{uuid.uuid4().hex[:8]}")
    parser.add_argument("--mode", choices=["keyless", "shim"], default="keyless")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--extended", action="store_true")
    parser.add_argument("--agent", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.agent:
        agent_main(a)
    from node import Report
    report = Report(f"skytale pair ({a.mode})")
    converse(report.check, mode=a.mode, grpc=a.grpc, http=a.http, key=a.api_key, channel=a.channel,
             extended=a.extended, seconds=a.seconds, key_of_others=a.api_key_of_others,
             grpc_of_others=a.grpc_of_others, http_of_others=a.http_of_others)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
