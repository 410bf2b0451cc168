#!/usr/bin/env python3
"""What an operator sees of SLIM groups of both families, while published applications talk: `channel ls` and
`channel show` by the names slim-a: and slim-b:, `channel tail` (also --follow) with each message's type by name."""

import collections
import json
import subprocess
import sys
import threading
import uuid

from node import Node, Report, arguments, poll
from slim_pair import NotInstalled, Setup, converse, slim_python
from slim_wire import component

VERSIONS = {"a": "1.4.1", "b": "3.3.8"}
COUNT = 5
MEMBERS = 2
# Of a group's channel: the moderator's messages and one member's answers (the other answers to the moderator alone),
# and one more of each after the remove. Family A says on the same channel who comes and goes, B on another one.
MESSAGES = 2 * COUNT + 2
CHANGES = {"a": {"GROUP_REMOVE", "GROUP_CLOSE"}, "b": set()}


class Follower:
    """`posthouse channel tail --follow`, read as it comes."""

    def __init__(self, node: Node, channel: str):
        self.rows: list[dict] = []
        self.process = subprocess.Popen(
            [str(node.programs / "posthouse"), "channel", "tail", channel, "--follow", "-o", "jsonl",
             "--admin-socket", node.admin], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            if line.startswith("{"):
                self.rows.append(json.loads(line))

    def end(self) -> None:
        self.process.terminate()
        self.process.wait(10)
        self.reader.join(5)
        self.process.stdout.close()
        self.process.stderr.close()


def names(node: Node, prefix: str = "") -> list[str]:
    words = ["channel", "ls", *([prefix] if prefix else []), "-o", "json"]
    return [row["channel"] for row in json.loads(node.posthouse(*words).stdout)]


def group(report: Report, node: Node, family: str) -> None:
    version = VERSIONS[family]
    place = f"acme/t{uuid.uuid4().hex[:8]}"
    # Family A's channel has the name the application gave it; B's is known once it is there.
    follower = Follower(node, f"slim-a:{place}/chan") if family == "a" else None
    outcome: list = []
    talk = threading.Thread(target=lambda: outcome.append(converse(
        Setup(f"http://{node.grpc}", (version, version), count=COUNT, members=MEMBERS, gap=0.3, place=place),
        "grp-mls")))
    talk.start()
    hashes = "/".join(f"{component(part):016x}" for part in [*place.split("/"), "chan"])
    prefix = f"slim-{family}:{hashes}/"
    found = poll(60, lambda: names(node, prefix), 0.1)
    report.check(f"{version}: channel ls shows one channel of the group by its name", len(found) == 1, found)
    if found and follower is None:
        follower = Follower(node, found[0])
    talk.join()
    report.check(f"{version}: the applications' conversation", outcome[0].passed, outcome[0].detail)
    if not found:
        return
    names_alike(report, node, family, version, found[0], place)
    rows = json.loads(node.posthouse("channel", "tail", found[0], "-n", "1000", "-o", "json").stdout)
    types = collections.Counter(row["type"] for row in rows)
    # After the applications' own flake the first try is there, too, or half of it.
    report.check(f"{version}: channel tail names what was sent", outcome[0].repeated or (
        types["MSG"] == MESSAGES and set(types) - {"MSG"} == CHANGES[family]), dict(types))
    report.check(f"{version}: in the order of its sequence, with sizes",
                 [row["sequence"] for row in rows] == list(range(1, len(rows) + 1))
                 and all(row["size"] > 0 for row in rows if row["type"] == "MSG"))
    report.check(f"{version}: channel tail --follow showed it as it came",
                 poll(10, lambda: follower.rows and follower.rows[-1]["sequence"] == len(rows))
                 and follower.rows == rows[len(rows) - len(follower.rows):], f"{len(follower.rows)} of {len(rows)}")
    if family == "a":
        report.check(f"{version}: from its first message on", len(follower.rows) == len(rows))
    follower.end()
    plain = json.loads(node.posthouse("channel", "tail", f"{place}/chan", "-n", "1000", "-o", "json").stdout)
    report.check(f"{version}: channel tail finds it by its plain name", plain == rows, f"{len(plain)}")
    shown = json.loads(node.posthouse("channel", "show", f"{place}/chan", "-o", "json").stdout)
    report.check(f"{version}: and channel show", shown["channel"] == found[0], shown["channel"])
    listed = names(node, f"{place}/chan")
    report.check(f"{version}: and channel ls", listed == [found[0]], listed)
    text = node.posthouse("channel", "tail", found[0]).stdout
    report.check(f"{version}: on a terminal too", " MSG " in text and "SEQUENCE" in text)


def names_alike(report: Report, node: Node, family: str, version: str, channel: str, place: str) -> None:
    shown = json.loads(node.posthouse("channel", "show", channel, "-o", "json").stdout)
    report.check(f"{version}: channel show knows it", shown["channel"] == channel
                 and shown["family"] == f"slim{family.upper()}" and shown["state"] == "active", shown)
    typed = f"slim-{family}:{place}/chan"
    if family == "b":
        typed += "/" + channel.rsplit("/", 1)[1]
    shown = json.loads(node.posthouse("channel", "show", typed, "-o", "json").stdout)
    report.check(f"{version}: and by the words of its name", shown["channel"] == channel, typed)


def main() -> int:
    a = arguments(__doc__)
    report = Report("slim tail")
    try:
        for version in VERSIONS.values():
            slim_python(version)
    except NotInstalled as error:
        return report.skip(str(error))
    with Node(a.bin, auth="open", keep=a.keep) as node:
        talks = [threading.Thread(target=group, args=(report, node, family)) for family in VERSIONS]
        for talk in talks:
            talk.start()
        for talk in talks:
            talk.join()
        apart = {family: names(node, f"slim-{family}:") for family in VERSIONS}
        report.check("each family's channels stand under its own prefix",
                     all(found for found in apart.values())
                     and sorted(sum(apart.values(), [])) == sorted(names(node)), apart)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
