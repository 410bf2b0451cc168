#!/usr/bin/env python3
"""Plants known plaintext and known secrets, makes a node meet all of them on good and on bad paths, then
searches everything the node leaves: logs, audit log, metrics, answers, data files, a backup, a core dump.
The signing-key file and digests are the exceptions; plaintext has none."""

import base64
import glob
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

from node import Node, Publisher, Report, SkytaleStream, arguments, mls_application
from skytale_pair import Peer

PLAINTEXT = "plaintext-marker-7f3a9c51-the-eagle-has-landed"
CHANNEL = "acme/secret/lane"
SIGNING_KEYS = "signing"  # part of the name of the file that may hold a secret: the node's own


class Search:
    """Needles in the forms in which they could lie about."""

    def __init__(self):
        self.needles: dict[bytes, str] = {}

    def add(self, label: str, text: str) -> None:
        raw = text.encode()
        self.needles[raw] = label
        self.needles[base64.b64encode(raw).rstrip(b"=")[:-1]] = f"{label} (base64)"
        self.needles[raw.hex().encode()] = f"{label} (hex)"

    def add_credential(self, label: str, text: str) -> None:
        """prefix + base32(tenant 8, record 8, secret 32): the text, and the secret's bytes."""
        self.add(label, text)
        body = text.rsplit("_", 1)[-1].upper()
        decoded = base64.b32decode(body + "=" * (-len(body) % 8))
        if len(decoded) >= 48:
            self.needles[decoded[16:48]] = f"{label} (bytes of the secret)"
        self.needles[body[26:].lower().encode()] = f"{label} (its end)"

    def add_token(self, label: str, token: str) -> None:
        self.add(label, token)
        signature = token.rsplit(".", 1)[1]
        self.needles[signature.encode()] = f"{label} (signature)"
        self.needles[base64.urlsafe_b64decode(signature + "==")] = f"{label} (signature bytes)"

    def found_in(self, data: bytes) -> list[str]:
        return sorted({label for needle, label in self.needles.items() if needle in data})

    def found_in_file(self, path: str) -> list[str]:
        overlap = max(map(len, self.needles))
        found: set[str] = set()
        with open(path, "rb") as file:
            tail = b""
            while block := file.read(32 << 20):
                found.update(self.found_in(tail + block))
                tail = (tail + block)[-overlap:]
        return sorted(found)


def converse(node: Node, key: str, plain: Search, secret: Search) -> None:
    """Real agents: the SDK encrypts the marker, the node sees keys, invites, JWTs and ciphertext."""
    alice = Peer("alice", mode="shim", grpc=node.grpc, http=node.http, key=key, channel=CHANNEL)
    bob = None
    try:
        alice.do("create")
        invite = alice.do("invite", options={"max_uses": 5})["token"]
        secret.add_credential("invite", invite)
        bob = Peer("bob", mode="shim", grpc=node.grpc, http=node.http, key=key, channel=CHANNEL)
        bob.do("join", token=invite, seconds=60)
        for i in range(20):
            alice.do("send", text=f"{PLAINTEXT} {i} " + "x" * 500)
        got = bob.receive(20, seconds=20)
        if len(got) != 20 or PLAINTEXT not in got[0]:
            raise RuntimeError(f"bob read {len(got)} messages")
    finally:
        alice.end()
        if bob:
            bob.end()
    plain.add("plaintext", PLAINTEXT)


def misuse(node: Node, key: str, token: str, secret: Search) -> list[str]:
    """Every answer the node gives to secrets in wrong places."""
    answers = []
    revoked = node.create_tenant("globex")
    secret.add_credential("another API key", revoked)
    forged = key[:-4] + "aaaa"
    secret.add("forged API key", forged)
    bad_token = token[:-6] + "AAAAAA"
    secret.add("forged JWT", bad_token)
    for method, path, body, credential in [
            ("POST", "/v1/tokens", None, forged),
            ("POST", "/v1/channels", {"name": key}, key),
            ("POST", "/v1/channels", {"name": token}, token),
            ("POST", "/v1/channels/join", {"channel": CHANNEL, "token": forged, "key_package": key}, key),
            ("POST", "/v1/channels/join", {key: token}, revoked),
            ("POST", "/v1/channels/invites", {"channel": CHANNEL, "max_uses": key}, key),
            ("POST", "/v1/channels/welcome", {"request_id": key, "welcome": token}, key),
            ("GET", f"/v1/channels/welcome/{key}", None, key),
            ("GET", f"/v1/channels/pending?channel={key}", None, revoked),
            ("GET", f"/{key}/{token}", None, key),
            ("PUT", "/v1/tokens?key=" + key, None, None)]:
        answers.append(str(node.call(method, path, body, credential)))
    for credential in (bad_token, key, "not.a.jwt"):
        stream = SkytaleStream(node.grpc, credential)
        stream.reader.join(5)
        answers.append(str(stream.error))
        stream.close()
    publisher = Publisher(node.grpc, token)
    publisher.publish(key[:60], mls_application(b"x"), number=1)  # a key where a channel belongs
    publisher.finish(10)
    answers.append(str(publisher.refused) + str(publisher.error))
    return answers


def core_of(node: Node, kind: str) -> str | None:
    """A core file of the node: `abort`, written by the kernel on SIGABRT; `gcore`, the same taken from the
    living; `everything`, all memory whatever the node asked for. None when there is none."""
    if kind == "abort":
        os.kill(node.pid, signal.SIGABRT)
        node.process.wait(30)
        cores = [p for p in glob.glob(os.path.join(node.home, "core*")) if os.path.getsize(p)]
        return cores[0] if cores else None
    if not shutil.which("gcore"):
        return None
    base = os.path.join(node.home, kind)
    subprocess.run(["gcore", *(["-a"] if kind == "everything" else []), "-o", base, str(node.pid)],
                   capture_output=True, timeout=120, check=False)
    cores = glob.glob(base + ".*")
    return cores[0] if cores else None


def main() -> int:
    a = arguments(__doc__)
    report = Report("markers")
    plain, secret = Search(), Search()
    with Node(a.bin, keep=a.keep, core_dumps=True, extra=["--set", "log.level=debug"]) as node:
        key = node.create_tenant("acme")
        secret.add_credential("API key", key)
        token = node.token(key)
        secret.add_token("JWT", token)
        stream = SkytaleStream(node.grpc, token)
        converse(node, key, plain, secret)
        answers = misuse(node, key, token, secret)
        # The forms that `misuse` sent must not come back in an answer either.
        outputs = {"answers to misuse": "\n".join(answers).encode(), "metrics": node.metrics().encode()}
        for words in (["status"], ["tenant", "ls"], ["key", "ls", "acme"], ["channel", "ls"],
                      ["channel", "show", CHANNEL], ["channel", "tail", CHANNEL, "--count", "50", "--hex"],
                      ["config", "show", "--origin"], ["channel", "verify"]):
            for form in ([], ["-o", "json"]):
                done = node.posthouse(*words, *form, check=False)
                outputs[f"posthouse {' '.join(words + form)}"] = (done.stdout + done.stderr).encode()
        backup = os.path.join(node.home, "backup")
        node.posthouse("backup", "create", backup, check=False)
        time.sleep(1)
        outputs["log"] = node.log().encode()
        stream.close()

        for name, data in outputs.items():
            report.check(f"{name}: no plaintext, no secret",
                         not plain.found_in(data) and not secret.found_in(data),
                         ", ".join(plain.found_in(data) + secret.found_in(data)))
        report.check("the search can find: ciphertext is in `channel tail`",
                     len(outputs[f"posthouse channel tail {CHANNEL} --count 50 --hex"]) > 500)

        files = 0
        for root, label in ((node.data, "data"), (backup, "backup")):
            hits = []
            for path in sorted(pathlib.Path(root).rglob("*")):
                if not path.is_file():
                    continue
                files += 1
                found = plain.found_in_file(str(path))
                if SIGNING_KEYS not in path.name:
                    found += secret.found_in_file(str(path))
                hits += [f"{path.name}: {what}" for what in found]
            report.check(f"{label} files: no plaintext, no secret", not hits, ", ".join(hits[:6]))
        report.check("there were files to search", files > 5, files)

        for kind in ("everything", "gcore", "abort"):
            core = core_of(node, kind)
            if core is None:
                report.number(f"core ({kind}): none")
                continue
            size = os.path.getsize(core) >> 20
            report.check(f"core ({kind}, {size} MiB): no plaintext", not plain.found_in_file(core))
            if kind == "everything":
                # Root reads all memory, and what is in use or was freed lately is there. What must not
                # be there is plaintext; and the channel's name must, or the search was blind.
                here = Search()
                here.add("channel", CHANNEL)
                report.check("core (everything): the search can find", bool(here.found_in_file(core)))
                report.number(f"credentials in all memory, which root may read: "
                              f"{len(secret.found_in_file(core))} forms")
            else:
                report.check(f"core ({kind}): no API key, invite or JWT",
                             not secret.found_in_file(core), ", ".join(secret.found_in_file(core)[:6]))
            os.unlink(core)
        crash = node.log().encode()
        report.check("the log after the crash: no plaintext, no secret",
                     not plain.found_in(crash) and not secret.found_in(crash),
                     ", ".join(secret.found_in(crash)))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
