#!/usr/bin/env python3
"""Single flipped bits in every file of a stopped node's directory. Each time the node either refuses to
start, or serves every acknowledged message right, or ends the read with an error and `posthouse channel
verify` names file, channel and sequence. Never is a wrong byte served, never is a channel shorter without a
word.  10,000 flips (proof), 200 (ci); half of them over a node that was stopped, half over one that was
killed."""

import json
import multiprocessing
import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import tempfile

from node import Node, Publisher, Report, arguments, read_channel

CHANNELS = ["acme/flips/one", "acme/flips/two", "acme/flips/three"]
MESSAGES = 240  # to a channel
# What no promise depends on: text for people, locks, sockets.
IDLE_NAMES = ("LOCK", "LOG", "admin.sock")
# What verify may name as the damaged file.
FILE = re.compile(r"\d+\.(sst|log)|MANIFEST-\d+|CURRENT")


def payload(channel: int, number: int) -> bytes:
    return random.Random(channel << 20 | number).randbytes(32 + number * 13 % 700)


class Image:
    """A directory to flip bits in, what it must hold, and its channels' ids."""

    def __init__(self, path: str, promised: dict[str, dict[int, bytes]], ids: dict[str, str]):
        self.path = path
        self.promised = promised
        self.ids = ids
        self.files = sorted(
            str(file.relative_to(path)) for file in pathlib.Path(path).rglob("*")
            if file.is_file() and file.stat().st_size > 0 and not file.name.startswith(IDLE_NAMES))

    def copy(self, to: str, touched: str) -> None:
        """Tables never change: they are linked, all else is copied."""
        shutil.rmtree(to, ignore_errors=True)
        for folder, _, names in os.walk(self.path):
            under = os.path.join(to, os.path.relpath(folder, self.path))
            os.makedirs(under, mode=0o700, exist_ok=True)
            for name in names:
                source = os.path.join(folder, name)
                if not os.path.isfile(source):
                    continue
                target = os.path.join(under, name)
                if name.endswith(".sst") and os.path.relpath(source, self.path) != touched:
                    os.link(source, target)
                else:
                    shutil.copy2(source, target)


def publish(node: Node, promised: dict[str, dict[int, bytes]], first: int, last: int) -> None:
    for index, channel in enumerate(CHANNELS):
        publisher = Publisher(node.grpc, None)
        for number in range(first, last):
            publisher.publish(channel, payload(index, number), producer=index + 1, number=number,
                              synced=number % 20 == 0)
        publisher.finish(60)
        for number, sequence in publisher.acked.items():
            promised.setdefault(channel, {})[sequence] = payload(index, number)


def make_images(a, base: str) -> tuple[Image, Image]:
    """(stopped, killed): both with several tables, the second with a log to replay."""
    promised: dict[str, dict[int, bytes]] = {}
    data = os.path.join(base, "data")
    node = Node(a.bin, data=data, auth="open", keep=a.keep)
    try:
        third = MESSAGES // 3
        for part in range(3):
            node.start()
            publish(node, promised, part * third + 1, (part + 1) * third + 1)
            if part < 2:
                node.terminate()
        ids = {channel: channel_id(node, channel) for channel in CHANNELS}
        node.kill9()
        killed = os.path.join(base, "killed")
        shutil.copytree(data, killed, ignore=shutil.ignore_patterns("*.sock"))
        node.start()
        if node.terminate() != 0:
            raise RuntimeError("the node did not end cleanly")
        stopped = os.path.join(base, "stopped")
        shutil.copytree(data, stopped, ignore=shutil.ignore_patterns("*.sock"))
    finally:
        node.close()
    return Image(stopped, promised, ids), Image(killed, promised, ids)


def channel_id(node: Node, channel: str) -> str:
    """What verify calls a channel whose name row is gone."""
    shown = node.posthouse("channel", "show", channel, "-o", "json").stdout
    return re.search(r'"([0-9a-f]{32})"', shown).group(1)


class Outcome:
    REFUSED, RIGHT, NAMED = "refused to start", "served right", "read refused, verify names it"


def try_one(a, image: Image, folder: str, name: str, byte: int, bit: int) -> tuple[str, str]:
    """(outcome, '') or ('', what is wrong)."""
    import grpc
    image.copy(folder, name)
    path = os.path.join(folder, name)
    with open(path, "r+b") as file:
        file.seek(byte)
        value = file.read(1)[0]
        file.seek(byte)
        file.write(bytes([value ^ 1 << bit]))
    node = Node(a.bin, data=folder, auth="open")
    try:
        try:
            node.start(30)
        except RuntimeError as error:
            process = node.process
            if process.poll() is None and not wait(process, 10):
                return "", f"neither READY nor ended: {error}"
            if process.returncode is not None and process.returncode < 0:
                return "", f"ended by signal {-process.returncode}: {node.log()[-500:]}"
            if not node.log().strip():
                return "", "refused without a word"
            return Outcome.REFUSED, ""
        broken: dict[str, str] = {}
        for channel, expected in image.promised.items():
            got: dict[int, bytes] = {}
            error = None
            try:
                for message in read_channel(node.grpc, None, channel, timeout=60):
                    got[message.sequence] = message.payload
            except grpc.RpcError as failed:
                error = failed
            for sequence, body in got.items():
                if expected.get(sequence) != body:
                    return "", f"{channel}: {sequence} is served wrong"
            if error is None and len(got) != len(expected):
                return "", f"{channel}: {len(got)} of {len(expected)} served without an error"
            if error is not None:
                broken[channel] = f"{error.code().name}: {error.details()}"
        if not broken:
            return Outcome.RIGHT, ""
        if not node.running():
            return "", f"the node died: {node.log()[-500:]}"
        return judge_verify(node, image, broken)
    finally:
        node.close()


def wait(process: subprocess.Popen, seconds: float) -> bool:
    try:
        process.wait(seconds)
        return True
    except subprocess.TimeoutExpired:
        return False


def judge_verify(node: Node, image: Image, broken: dict[str, str]) -> tuple[str, str]:
    """Reads ended with an error: verify must say which file, channel and sequence."""
    node.kill9()
    done = node.posthouse("channel", "verify", "-o", "json", check=False, offline=True)
    text = done.stdout + done.stderr
    try:
        findings = json.loads(done.stdout)["findings"]
    except (ValueError, KeyError, TypeError):
        return "", f"verify gives no findings: {text[-400:]}"
    if done.returncode != 1:
        return "", f"verify ended with {done.returncode}: {text[-300:]}"
    for channel, error in broken.items():
        mine = [f for f in findings if f["channel"] in (channel, image.ids[channel])]
        if not any(FILE.fullmatch(f["file"]) and int(f["sequence"]) >= 1 for f in mine):
            return "", f"verify names no file and sequence of {channel} ({error[:150]}): {findings}"
    return Outcome.NAMED, ""


def flip(task) -> tuple[str, str, str]:
    """One flip in a worker process: (outcome, what is wrong, where)."""
    a, base, images, index = task
    image = images[index % 2]
    dice = random.Random(f"{a.seed} {index}")
    name = image.files[index // 2 % len(image.files)]
    byte = dice.randrange(os.path.getsize(os.path.join(image.path, name)))
    bit = dice.randrange(8)
    where = f"flip {index}: {os.path.basename(image.path)}/{name} byte {byte} bit {bit}"
    try:
        outcome, wrong = try_one(a, image, os.path.join(base, f"flip{os.getpid()}"), name, byte, bit)
    except Exception as error:  # a failure of the test itself is a failure
        outcome, wrong = "", f"{type(error).__name__}: {error}"
    return outcome, wrong, where


def run(a, base: str, images: tuple[Image, Image], flips: int):
    """({outcome: count}, [what is wrong]), in worker processes."""
    os.environ["TMPDIR"] = base  # workers end without cleaning up after themselves
    outcomes: dict[str, int] = {}
    wrong: list[str] = []
    tasks = [(a, base, images, index) for index in range(a.first, a.first + flips)]
    with multiprocessing.get_context("spawn").Pool(a.workers) as pool:
        for done, (outcome, what, where) in enumerate(pool.imap_unordered(flip, tasks), 1):
            if what:
                wrong.append(f"{where}: {what}")
                print(f"     bit flips: WRONG {where}: {what}", flush=True)
                if len(wrong) >= 5:
                    pool.terminate()
                    break
            else:
                outcomes[outcome] = outcomes.get(outcome, 0) + 1
            if done % 500 == 0:
                print(f"     bit flips: {done} of {flips}: {outcomes}", flush=True)
    return outcomes, wrong


def main() -> int:
    a = arguments(__doc__, flips=0, first=0, seed=1, workers=2)
    flips = a.flips or (10_000 if a.counts == "proof" else 200)
    report = Report("bit flips")
    base = tempfile.mkdtemp(prefix="posthouse-flips-")
    try:
        images = make_images(a, base)
        promised = images[0].promised
        report.check("everything was acknowledged before the first flip",
                     all(len(promised.get(c, {})) == MESSAGES for c in CHANNELS),
                     str({c: len(p) for c, p in promised.items()}))
        outcomes, wrong = run(a, base, images, flips)
        done = sum(outcomes.values())
        report.number(f"{done} flips over {len(images[0].files)} and {len(images[1].files)} files: "
                      + ", ".join(f"{count} {what}" for what, count in sorted(outcomes.items())))
        report.check("no flipped bit is served, none shortens a channel in silence", not wrong,
                     "; ".join(wrong[:3]))
        report.check("every flip was tried", done + len(wrong) == flips, f"{done} of {flips}")
        report.check("each outcome was seen", len(outcomes) == 3 or flips < 100, str(outcomes))
    finally:
        if not a.keep:
            shutil.rmtree(base, ignore_errors=True)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
