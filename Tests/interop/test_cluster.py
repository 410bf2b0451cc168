#!/usr/bin/env python3
"""Three real nodes by ops/dev/cluster: they agree on a map, outlive kill -9 of each in turn (the host of the metadata
too), a fourth joins, an unknown certificate does not get in, `down` leaves nothing behind."""

import json
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request

from node import ROOT, Report, _die_with_parent, arguments, poll

CLUSTER = ROOT / "ops/dev/cluster"
LINE = re.compile(r"^NODE (n\d+) grpc=(\S+) http=(\S+) registry=(\S+) admin=(\S+)$")


class Cluster:
    """`ops/dev/cluster up N` and its NODE lines."""

    def __init__(self, a, count: int, home: str, auth: str = "required"):
        self.a, self.home = a, home
        self.nodes: dict[str, dict[str, str]] = {}
        self.process = subprocess.Popen(
            [sys.executable, str(CLUSTER), "up", str(count), "--data", home, "--auth", auth,
             "--bin", a.bin], stdout=subprocess.PIPE, text=True, preexec_fn=_die_with_parent)
        self.lines: list[str] = []
        self.ready = threading.Event()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        for line in self.process.stdout:
            self.lines.append(line.strip())
            self.note(line)
            if line.strip() == "READY":
                self.ready.set()

    def note(self, line: str) -> None:
        if match := LINE.match(line.strip()):
            name, grpc, http, registry, admin = match.groups()
            self.nodes[name] = {"grpc": grpc, "http": http, "registry": registry, "admin": admin}

    def run(self, action: str, *words: str) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [sys.executable, str(CLUSTER), action, *words, "--data", self.home, "--bin", self.a.bin],
            capture_output=True, text=True, timeout=120)
        for line in done.stdout.splitlines():
            self.note(line)
        return done

    def posthouse(self, name: str, *words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [str(pathlib.Path(self.a.bin) / "posthouse"), *words, "--admin-socket",
             self.nodes[name]["admin"]], capture_output=True, text=True, timeout=60)

    def json(self, name: str, *words: str):
        done = self.posthouse(name, *words, "-o", "json")
        return json.loads(done.stdout) if done.returncode == 0 else None

    def pids(self) -> dict[str, int]:
        found = {}
        for line in self.run("status").stdout.splitlines():
            if " pid=" in line:
                found[line.split()[1]] = int(line.rpartition("=")[2])
        return found


def agree(c: Cluster, names) -> bool:
    """Each of these nodes tells the same map, and that each has slots."""
    rings = [c.json(n, "ring", "show", "--here") for n in names]
    if not all(rings):
        return False
    return (len({(r["version"], r["revision"]) for r in rings}) == 1
            and all(node["slots"] > 0 for node in rings[0]["nodes"]) and rings[0]["moving"] == 0)


def lives(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def skills(c: Cluster, node: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples/skills.py"), "--registry",
         c.nodes[node]["registry"], *words], capture_output=True, text=True, timeout=30)
    return done.stdout


def agents(c: Cluster, node: str, skill: str) -> list[str]:
    return sorted(line.split()[0] for line in skills(c, node, "discover", skill).splitlines())


def members(c: Cluster, asked: str) -> dict[str, str]:
    return {n["name"]: n["member"] for n in c.json(asked, "node", "ls") or []}


def main() -> int:
    a = arguments(__doc__)
    r = Report("cluster")
    home = tempfile.mkdtemp(prefix="ph-cluster-")
    c = Cluster(a, 3, home)
    try:
        if not r.check("three nodes serve", c.ready.wait(90), c.lines):
            return r.finish()
        everyone = ["n1", "n2", "n3"]
        r.check("a NODE line for each, then READY", list(c.nodes) == everyone
                and c.lines[-1] == "READY", c.lines)
        r.check("they agree on a map in which each owns slots", poll(20, lambda: agree(c, everyone)))
        ring = c.json("n2", "ring", "show")
        r.check("each owns a third", sorted(n["slots"] for n in ring["nodes"]) == [1365, 1365, 1366],
                ring)
        r.check("all know each other, with times", poll(20, lambda: all(
            sorted(members(c, n).values()) == ["alive", "alive", "self"]
            and all(row["rtt_median_ns"] for row in c.json(n, "gossip", "rtt"))
            for n in everyone)), [members(c, n) for n in everyone])

        # Two who apply at once.
        c.posthouse("n1", "ring", "stage", "n2", "--weight", "200")
        version = str(c.json("n1", "ring", "plan")["version"])
        both = [subprocess.Popen(
            [str(pathlib.Path(a.bin) / "posthouse"), "ring", "apply", "--version", version,
             "--admin-socket", c.nodes[n]["admin"]], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE) for n in ("n2", "n3")]
        codes = sorted(p.wait(30) for p in both)
        r.check("of two `ring apply` one wins, the other gets a conflict", codes == [0, 6], codes)

        r.check("where nothing was stored slots change at once", poll(20, lambda: agree(c, everyone))
                and sorted(n["slots"] for n in c.json("n1", "ring", "show")["nodes"])
                == [1024, 1024, 2048], c.json("n1", "ring", "show"))

        tenant = json.loads(c.posthouse("n1", "tenant", "create", "acme", "-o", "json").stdout)
        request = urllib.request.Request(f"http://{c.nodes['n1']['http']}/v1/relays")
        request.add_header("Authorization", "Bearer " + tenant["api_key"])
        relays = json.loads(urllib.request.urlopen(request, timeout=10).read())["relays"]
        r.check("GET /v1/relays lists the nodes with region, zone and addresses",
                [n["name"] for n in relays] == everyone and all(
                    n["region"] == "local" and n["grpc"] == c.nodes[n["name"]]["grpc"]
                    and n["available"] for n in relays), relays)

        # One agent at each node; found at every node, under its own name and no other.
        for n in everyone:
            skills(c, n, "register", f"agent-{n}", "translate", f"only-{n}")
        found = poll(20, lambda: all(agents(c, n, "translate") == [f"agent-{m}" for m in everyone]
                                     for n in everyone))
        r.check("an agent's skills, made known at one node, are found at every node", found,
                [agents(c, n, "translate") for n in everyone])
        r.check("the exchanges are with the other nodes", sorted(
            p["name"] for p in c.json("n2", "gossip", "peer", "ls") or []) == ["n1", "n3"],
            c.posthouse("n2", "gossip", "peer", "ls", "-o", "json").stdout[:300])

        # Each in turn, the host of the metadata (n1) too.
        for name in ("n2", "n3", "n1"):
            others = [n for n in everyone if n != name]
            before = c.nodes[name]
            r.check(f"kill {name}", c.run("kill", name).returncode == 0)
            r.check(f"the others see that {name} is gone", poll(30, lambda: all(
                members(c, n).get(name) == "dead" for n in others)),
                [members(c, n) for n in others])
            if name == "n1":
                down = c.posthouse("n2", "ring", "plan")
                r.check("the ring cannot be changed without the host of the metadata, and that is said",
                        down.returncode == 5 and "metadata" in down.stderr, down.stderr)
                again = c.run("kill", "n3"), c.run("start", "n3")
                r.check("a node starts without the host of the metadata",
                        all(done.returncode == 0 for done in again), again[1].stderr)
            started = c.run("start", name)
            r.check(f"start {name}: the same addresses", started.returncode == 0
                    and c.nodes[name] == before, started.stderr or started.stdout)
            r.check(f"{name} is back", poll(30, lambda: all(
                members(c, n).get(name) == "alive" for n in others)),
                [members(c, n) for n in others])
        r.check("they agree again", poll(20, lambda: agree(c, everyone)))

        # A fourth; the tenant of n1 has it wait for its slots' hand-over, or get them at once.
        r.check("a fourth node joins", c.run("start", "n4").returncode == 0)
        r.check("it is in the ring", poll(20, lambda: any(
            n["name"] == "n4" for n in (c.json("n2", "ring", "show") or {"nodes": []})["nodes"])))

        # Somebody with a certificate of another authority of the same name.
        other = pathlib.Path(home) / "other"
        other.mkdir()
        tool = str(pathlib.Path(a.bin) / "posthouse")
        subprocess.run([tool, "tls", "init", "--dir", str(other / "ca"), "--name", "local"],
                       check=True, capture_output=True)
        subprocess.run([tool, "tls", "issue", "--dir", str(other / "ca"), "--node", "n9", "--out",
                        str(other / "certs")], check=True, capture_output=True)
        state = json.loads((pathlib.Path(home) / "cluster.json").read_text())
        seed = f"127.0.0.1:{state['nodes']['n1']['ports']['cluster']}"
        with open(other / "log", "wb") as log:
            stranger = subprocess.Popen(
                [str(pathlib.Path(a.bin) / "posthoused"), "--data", str(other / "data"), "--grpc",
                 "127.0.0.1:0", "--http", "127.0.0.1:0", "--registry", "off", "--cluster",
                 "127.0.0.1:0", "--cert-dir", str(other / "certs"), "--seeds", seed],
                stdout=subprocess.PIPE, stderr=log, preexec_fn=_die_with_parent)
        # The one that calls looks at the other's certificate first.
        said = poll(20, lambda: b"other_authority" in (other / "log").read_bytes()
                    and b"refused_by_peer" in (pathlib.Path(home) / "n1/log").read_bytes())
        r.check("a node of another authority gets nowhere, and both logs say why", said)
        r.check("it says itself that it is not in", poll(
            20, lambda: b"not in the cluster yet" in (other / "log").read_bytes()))
        stranger.send_signal(signal.SIGTERM)
        r.check("and ends when told", stranger.wait(20) is not None)

        pids = c.pids()
        r.check("four nodes run", len(pids) == 4, pids)
        r.check("down", c.run("down").returncode == 0)
        r.check("nothing is left", c.process.wait(60) == 0
                and not any(lives(p) for p in pids.values()), pids)
    finally:
        if c.process.poll() is None:
            c.process.terminate()
            c.process.wait(60)
        if a.keep:
            print(f"     kept: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    return r.finish()


if __name__ == "__main__":
    sys.exit(main())
