#!/usr/bin/env python3
"""Simulated power cuts: the data directory lies on an ext4 image with rare journal commits; in the middle
of a burst the node is killed and the image's backing file is copied before the kernel writes back what was
not synced. The node starts on the copy and must serve everything it acknowledged as `synced`, gapless and
byte for byte; then the next cycle goes on from there.  50 cycles (proof), 3 (ci). Needs root."""

import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time

from node import Node, Publisher, Report, arguments, poll, read_channel

CHANNELS = ["acme/power/one", "acme/power/two"]
IMAGE_MIB = 1024


def sh(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip()[-300:]}")


class Volume:
    """An ext4 image on a loop device. Only what was pushed to the device is in the backing file."""

    def __init__(self, image: str, mount: str):
        self.image = image
        self.mount = mount
        os.makedirs(mount, exist_ok=True)
        # The journal commits by itself after 300 s only: what is not synced stays in memory.
        sh("mount", "-o", "loop,commit=300", image, mount)
        self.device = os.stat(mount).st_dev

    @staticmethod
    def make(image: str) -> None:
        with open(image, "wb") as file:
            file.truncate(IMAGE_MIB << 20)
        sh("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)

    def cut(self, to: str) -> None:
        """Copies the backing file as it is, without asking the file system to write anything."""
        sh("cp", "--sparse=always", self.image, to)

    def drop(self) -> None:
        if not poll(20, lambda: subprocess.run(["umount", self.mount], capture_output=True).returncode == 0):
            raise RuntimeError(f"{self.mount} stays busy")
        os.unlink(self.image)


class Burst:
    """One publisher on one channel, until the node dies."""

    def __init__(self, address: str, token: str, channel: str, identity: int, synced: bool):
        self.channel, self.identity, self.synced = channel, identity, synced
        self.publisher = Publisher(address, token, window=64)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def payload(self, number: int) -> bytes:
        return payload(self.identity, number)

    def _run(self) -> None:
        number = 0
        while not self.publisher.ended.is_set():
            number += 1
            if not self.publisher.publish(self.channel, self.payload(number), producer=self.identity,
                                          number=number, synced=self.synced):
                break

    def end(self) -> dict[int, int]:
        self.publisher.ended.wait(10)
        self.publisher.close()
        self.thread.join(30)
        return dict(self.publisher.acked)


def payload(identity: int, number: int) -> bytes:
    body = random.Random(identity << 32 | number).randbytes(16 + number * 37 % 1500)
    return struct.pack(">QQ", identity, number) + body


def read_all(node: Node, token: str, wrong: list[str]):
    """{channel: {sequence: (producer, number)}}, with what is not gapless or not as published."""
    out: dict[str, dict[int, tuple[int, int]]] = {}
    for channel in CHANNELS:
        out[channel] = {}
        expected = 1
        for message in read_channel(node.grpc, token, channel):
            if message.sequence != expected:
                wrong.append(f"{channel}: sequence {message.sequence} where {expected} was due")
                expected = message.sequence
            expected += 1
            identity, number = struct.unpack(">QQ", message.payload[:16])
            if message.payload != payload(identity, number):
                wrong.append(f"{channel}: {message.sequence}: not the bytes that were published")
            out[channel][message.sequence] = (identity, number)
    return out


def main() -> int:
    a = arguments(__doc__, cycles=0, seed=1)
    cycles = a.cycles or (50 if a.counts == "proof" else 3)
    report = Report("power cut")
    if os.geteuid() != 0:
        return report.skip("NOT RUN: needs root for a loop device")
    if not shutil.which("mkfs.ext4") or not os.path.exists("/dev/loop-control"):
        return report.skip("NOT RUN: needs mkfs.ext4 and loop devices")
    base = tempfile.mkdtemp(prefix="posthouse-power-")
    state = Cycles(a, report, base)
    try:
        state.run(cycles)
    finally:
        state.clean()
        shutil.rmtree(base, ignore_errors=True)
    return report.finish()


class Cycles:
    def __init__(self, a, report: Report, base: str):
        self.a, self.report, self.base = a, report, base
        self.dice = random.Random(a.seed)
        self.volumes: list[Volume] = []
        self.node: Node | None = None
        # (channel, sequence) -> (producer, number): what must be there for ever.
        self.promised: dict[tuple[str, int], tuple[int, int]] = {}
        self.key = ""
        self.count = 0
        self.written = self.written_lost = 0
        self.restarts: list[float] = []

    def mount(self, image: str) -> Volume:
        self.count += 1
        volume = Volume(image, os.path.join(self.base, f"mnt{self.count}"))
        self.volumes.append(volume)
        return volume

    def clean(self) -> None:
        if self.node:
            self.node.close()
        for volume in self.volumes:
            subprocess.run(["umount", volume.mount], capture_output=True)

    def start(self, volume: Volume) -> Node:
        if self.node:
            self.node.close()
        self.node = Node(self.a.bin, data=os.path.join(volume.mount, "data"), keep=self.a.keep)
        began = time.monotonic()
        self.node.start()
        self.restarts.append(time.monotonic() - began)
        return self.node

    def run(self, cycles: int) -> None:
        wrong: list[str] = []
        image = os.path.join(self.base, "0.img")
        Volume.make(image)
        volume = self.mount(image)
        node = self.start(volume)
        self.key = node.create_tenant("acme")
        done = 0
        for cycle in range(1, cycles + 1):
            bursts = self.burst(node, cycle)
            volume, node = self.cut(volume, node, cycle)
            self.settle(bursts)
            done = cycle
            try:
                token = node.token(self.key)
            except Exception as error:  # whatever it is: the key was acknowledged
                wrong.append(f"cycle {cycle}: the key that was created is refused: {error}"[:300])
                break
            found = read_all(node, token, wrong)
            self.compare(found, bursts, wrong, cycle)
            if cycle % 10 == 0:
                print(f"     power cut: cycle {cycle} of {cycles}, {len(self.promised)} synced so far",
                      flush=True)
            if wrong:
                break
        self.report.number(
            f"{done} cycles, {len(self.promised)} acknowledged as synced; of {self.written} acknowledged "
            f"as written {self.written_lost} went; restart at most {max(self.restarts):.1f} s")
        self.report.check("nothing acknowledged as synced is lost, moved or changed", not wrong,
                          "; ".join(wrong[:5]))
        self.report.check("every cycle acknowledged something", len(self.promised) >= done)
        if not wrong:
            node = self.control(volume, node, cycles + 1)
        verified = node.posthouse("channel", "verify", check=False)
        self.report.check("channel verify agrees", verified.returncode == 0,
                          " ".join((verified.stdout + verified.stderr)[-300:].split()))

    def control(self, volume: Volume, node: Node, cycle: int) -> Node:
        """Without a single sync asked for, a cut must cost something: else these cuts cut nothing."""
        bursts = self.burst(node, cycle, synced=0)
        volume, node = self.cut(volume, node, cycle)
        self.settle(bursts)
        wrong: list[str] = []
        found = read_all(node, node.token(self.key), wrong)
        self.written = self.written_lost = 0
        self.compare(found, bursts, wrong, cycle)
        self.report.check("and nothing synced before the last cut is lost either", not wrong,
                          "; ".join(wrong[:5]))
        self.report.check("control: of what was only written, a cut takes some", self.written_lost > 0,
                          f"{self.written_lost} of {self.written}")
        return node

    def burst(self, node: Node, cycle: int, synced: int = 3) -> list[Burst]:
        token = node.token(self.key)
        bursts = [Burst(node.grpc, token, CHANNELS[i % 2], cycle * 10 + i, synced=i < synced)
                  for i in range(4)]
        poll(10, lambda: all(b.publisher.acked for b in bursts))
        time.sleep(self.dice.uniform(0.1, 1.2))  # how far into the burst the cut comes
        return bursts

    def cut(self, volume: Volume, node: Node, cycle: int) -> tuple[Volume, Node]:
        node.kill9()
        copy = os.path.join(self.base, f"{cycle}.img")
        volume.cut(copy)
        # Mounted beside the first, so that it is another device: as after a reboot, the page cache's
        # promises are void.
        after = self.mount(copy)
        if after.device == volume.device:
            raise RuntimeError("the copy has the device number of the first image")
        volume.drop()
        self.volumes.remove(volume)
        return after, self.start(after)

    def settle(self, bursts: list[Burst]) -> None:
        for burst in bursts:
            burst.acked = burst.end()
            if burst.synced:
                for number, sequence in burst.acked.items():
                    self.promised[burst.channel, sequence] = (burst.identity, number)

    def compare(self, found, bursts: list[Burst], wrong: list[str], cycle: int) -> None:
        for (channel, sequence), promised in self.promised.items():
            there = found[channel].get(sequence)
            if there != promised:
                wrong.append(f"cycle {cycle}: {channel}: {sequence} was acknowledged for {promised}, "
                             f"there is {there}")
        for burst in bursts:
            if burst.synced:
                continue
            self.written += len(burst.acked)
            self.written_lost += sum(
                found[burst.channel].get(sequence) != (burst.identity, number)
                for number, sequence in burst.acked.items())


if __name__ == "__main__":
    sys.exit(main())
