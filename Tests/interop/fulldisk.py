#!/usr/bin/env python3
"""A small file system fills up: publishes must be refused, reads go on, /readyz says why; when space comes
back, publishing recovers by itself and nothing acknowledged is gone. Needs root (tmpfs)."""

import os
import subprocess
import sys
import tempfile

from node import Node, Publisher, Report, arguments, mls_application, poll, read_channel

CHANNEL = "acme/full/disk"
SIZE_MIB = 256
MIN_FREE_MIB = 64


def publish(node: Node, token: str, first: int, count: int, size: int = 4096):
    """(acknowledged, refusal codes) of `count` messages."""
    publisher = Publisher(node.grpc, token)
    for number in range(first, first + count):
        if not publisher.publish(CHANNEL, mls_application(bytes(size)), producer=5, number=number):
            break
    publisher.finish(30)
    return publisher.acked, [code for _, code in publisher.refused], publisher.error


def starts_full(a, report: Report, mount: str, text: str) -> None:
    """A node on a volume with no room ends with a sentence, not with a signal."""
    node = Node(a.bin, data=os.path.join(mount, "data"), keep=a.keep)
    try:
        node.begin()
        status = node.process.wait(20)
        report.check(f"{text}: a node that cannot start says why", status > 0 and "bytes free" in node.log(),
                     f"status {status}: {node.log()[-200:]}")
    finally:
        node.close()


def small(size: str, body) -> None:
    mount = tempfile.mkdtemp(prefix="posthouse-small-")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", mount], check=True)
    try:
        body(mount)
    finally:
        subprocess.run(["umount", mount], check=False)
        os.rmdir(mount)


def main() -> int:
    a = arguments(__doc__)
    report = Report("full disk")
    if os.geteuid() != 0:
        return report.skip("NOT RUN: needs root to mount a small file system")
    for size in ("64k", "128k", "224k"):
        small(size, lambda mount: starts_full(a, report, mount, f"a volume of {size}"))
    small(f"{SIZE_MIB}m", lambda mount: run(a, report, mount))
    return report.finish()


def free_mib(mount: str) -> float:
    facts = os.statvfs(mount)
    return facts.f_bavail * facts.f_frsize / (1 << 20)


def run(a, report: Report, mount: str) -> None:
    ballast = os.path.join(mount, "ballast")
    config = f'[disk]\nmin_free = "{MIN_FREE_MIB}MiB"\n'
    with Node(a.bin, data=os.path.join(mount, "data"), config=config, keep=a.keep) as node:
        key = node.create_tenant("acme")
        token = node.token(key)
        acked, refused, error = publish(node, token, 1, 200)
        report.check("publishes are taken while there is room", len(acked) == 200 and not refused,
                     f"{len(acked)} {refused[:1]} {error}")
        report.check("ready", node.get("/readyz")[0] == 200)
        kept = dict(acked)
        for label, leave in (("below disk.min_free", MIN_FREE_MIB // 2), ("no byte free", 0)):
            with open(ballast, "ab") as file:
                try:
                    while free_mib(mount) > leave + 0.5:
                        file.write(bytes(min(1 << 20, max(4096, int((free_mib(mount) - leave) * (1 << 19))))))
                        file.flush()
                except OSError:
                    pass
            ready = poll(15, lambda: node.get("/readyz")[0] != 200)
            report.check(f"{label}: /readyz says why", ready and "disk" in str(node.get("/readyz")[1]),
                         str(node.get("/readyz"))[:120])
            acked, refused, error = publish(node, token, 1000, 20)
            report.check(f"{label}: publishes are refused as disk_full",
                         not acked and refused and set(refused) == {"disk_full"},
                         f"{len(acked)} taken, {refused[:2]}, {error}")
            got = [m.sequence for m in read_channel(node.grpc, token, CHANNEL)]
            report.check(f"{label}: reads go on", got == list(range(1, 201)), f"{len(got)} read")
            report.check(f"{label}: the node runs", node.running())
        os.unlink(ballast)
        report.check("ready again when space returns", poll(30, lambda: node.get("/readyz")[0] == 200),
                     str(node.get("/readyz"))[:120])
        token = node.token(key)
        acked, refused, error = publish(node, token, 1000, 100)
        report.check("publishing recovers by itself", len(acked) == 100, f"{refused[:2]} {error}")
        kept.update(acked)
        got = {m.producer_sequence: m.sequence for m in read_channel(node.grpc, token, CHANNEL)}
        report.check("nothing acknowledged is gone", got == kept, f"{len(got)} kept, {len(kept)} acked")
        verified = node.posthouse("channel", "verify", check=False)
        report.check("channel verify agrees", verified.returncode == 0, verified.stdout[-200:].strip())


if __name__ == "__main__":
    sys.exit(main())
