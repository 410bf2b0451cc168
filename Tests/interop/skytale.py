#!/usr/bin/env python3
"""The published skytale-sdk 0.3.0, unmodified, three times on one channel name and one data directory in
both modes; the third time after kill -9. Then `channel verify` must find nothing."""

import sys

from node import Node, Report, arguments
from skytale_pair import converse


def main() -> int:
    a = arguments(__doc__)
    report = Report("skytale-sdk")
    for mode, auth in (("shim", "required"), ("keyless", "open")):
        with Node(a.bin, auth=auth, keep=a.keep, together=True) as node:
            key = node.create_tenant("acme")
            channel = "acme/team/general"
            for time in ("first", "second", "after kill -9"):
                if time == "after kill -9":
                    node.kill9()
                    node.start()

                def check(what, condition, detail="", time=time):
                    return report.check(f"{mode}, {time}: {what}", condition, detail)

                converse(check, mode=mode, grpc=node.grpc, http=node.http, key=key, channel=channel,
                         extended=True)
            verified = node.posthouse("channel", "verify", check=False)
            report.check(f"{mode}: channel verify finds nothing", verified.returncode == 0,
                         (verified.stdout + verified.stderr)[-300:].strip())
            # Another tenant's agent joins by invitation.
            if mode == "shim":
                other = node.create_tenant("globex")
                converse(lambda what, condition, detail="": report.check(
                    f"two tenants: {what}", condition, detail), mode=mode, grpc=node.grpc,
                    http=node.http, key=key, key_of_others=other, channel="acme/team/shared")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
