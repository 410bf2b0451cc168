#!/usr/bin/env python3
"""Runs the tests of this folder against the release build: `--counts ci` for `make test`, `--counts proof` for `make
proof`. Every test is a process of its own with a time limit and a node of its own on loopback. First come those that
measure time or bind fixed ports, one after another; then the others, with `--counts ci` two at a time (--lanes).
Exit status 0: all passed (what needs root or is not on this machine is SKIPped, loudly).
  --only NAME[,NAME]  --list  --record FILE (each result becomes a row of that page's table as soon as it is there;
other rows stay)."""

import argparse
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

from record import record

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SKIPPED = 77

# name, script and options, time limit in seconds (ci, proof), what it shows.
TESTS = [
    ("health", ["health.py"], (60, 60), "gRPC health and reflection, /livez, /readyz, /metrics"),
    ("ops", ["ops_files.py"], (180, 180), "configurations, units, alerts, metrics page; check, top, usage"),
    # It binds the ports of the documents; one of them lies where the kernel takes ports for connections.
    ("readme", ["readme_commands.py"], (300, 300), "every command of the README"),
    ("skytale", ["skytale.py"], (300, 300), "skytale-sdk 0.3.0 in both modes, three times, over kill -9"),
    ("token-api", ["token_api.py"], (300, 1200), "schemathesis over /openapi.yaml, pyjwt, forged tokens"),
    ("authz", ["authz_matrix.py"], (180, 300), "every endpoint and message type by whom it may be used"),
    ("grpc-interop", ["grpc_interop.py"], (240, 600), "standard gRPC interop cases from grpcio"),
    ("killloop", ["killloop.py"], (300, 3600), "kill -9 in the middle of bursts"),
    ("powercut", ["powercut.py"], (240, 3600), "simulated power cut: nothing synced is lost"),
    ("bitflips", ["bitflips.py"], (300, 7200), "flipped bits are never served"),
    ("fsyncgate", ["fsyncgate.py"], (120, 120), "a failed sync ends the node, is never retried"),
    ("slow-subscriber", ["slow_subscriber.py"], (180, 300), "a stalled subscriber gets everything"),
    ("join-million", ["join_million.py"], (180, 1200), "first live message within 5 s of a subscribe"),
    ("markers", ["markers.py"], (180, 180), "no secret and no plaintext anywhere"),
    ("badclients", ["badclients.py"], (240, 400), "hostile and broken clients"),
    ("fulldisk", ["fulldisk.py"], (120, 120), "full disk: refuse, read on, recover"),
    ("drain", ["drain.py"], (60, 60), "SIGTERM drains and exits 0"),
    ("takeover", ["takeover.py"], (120, 180), "node after node on the same sockets: nothing refused or lost"),
    ("slim", ["slim.py"], (240, 400), "slim-bindings 1.4.1 and 3.3.8, all scenarios, beside a Skytale pair"),
    ("slim-auth", ["slim_auth.py"], (180, 300), "SLIM with JWT and TLS; a second tenant gets nothing"),
    ("slim-tail", ["slim_tail.py"], (120, 120), "channel tail, ls and show of SLIM groups of both families"),
    ("slim-absent", ["slim_absent.py"], (120, 120), "a SLIM member away for 5 s gets what it missed"),
    ("slim-slow", ["slim_slow.py"], (600, 600), "a stalled SLIM subscriber slows nobody"),
    ("slim-attack", ["slim_attack.py"], (120, 400), "hostile SLIM streams: nothing lost, doubled or leaked"),
    ("slim-windows", ["slim_windows.py"], (180, 900), "hostile SLIM streams that share a connection; windows, grants"),
    ("slim-drain", ["slim_drain.py", "--only", "drain"], (180, 400), "SLIM apps outlive a drain every 4 s"),
    ("slim-kill", ["slim_drain.py", "--only", "kill"], (180, 400), "SLIM apps outlive kill -9 when a node is in line"),
    ("registry", ["registry.py"], (180, 600), "agentanycast 0.7.3's stubs: registry, federation, faults"),
    ("cluster", ["test_cluster.py"], (300, 300), "three nodes: one map, kill and start of each, joins, refusals"),
    ("cluster-moves", ["cluster_moves.py"], (420, 1500), "slots move under load, nodes are killed meanwhile"),
    ("cluster-token", ["cluster_token.py"], (180, 180), "tenants, keys, JWTs, invites and their ends on three nodes"),
    ("federation", ["federation.py"], (400, 1500), "two federated clusters: kills, partitions, clocks, a cluster gone"),
    ("cluster-agents", ["cluster_agents.py"], (400, 900), "Skytale and SLIM agents whose ends and owner are on three nodes"),
    ("cluster-rolling", ["cluster_rolling.py"], (300, 600), "three nodes restarted in turn under agents and ChannelService load"),
    ("slim-versions", ["slim_versions.py"], (600, 600), "slim-bindings 1.0.1 to 3.3.1"),
]

# Tests that do not pass on every run yet (docs/proofs.md): they run only when --only names them.
WAITING: set[str] = set()

# Only with --counts proof, or when --only names them.
PROOF = {"slim-versions"}

# They measure rates or delays, or bind the ports of the documents, or are about the milliseconds in which an app has no
# connection (what 3.3.8 publishes then is lost in the app): nothing runs beside them.
ALONE = {"readme", "slow-subscriber", "join-million", "badclients", "drain", "takeover", "slim", "slim-slow", "slim-drain",
         "slim-kill"}

# Several nodes under load: one of these at a time.
HEAVY = {"killloop", "slim-windows", "cluster-moves", "cluster-agents", "cluster-rolling", "cluster-token"}


def run(name: str, words: list[str], limit: float, a: argparse.Namespace, show) -> tuple[str, float, str]:
    """(result, seconds, last line)."""
    script = HERE / words[0]
    if not script.exists():
        return "MISSING", 0, f"{words[0]} is not there"
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-u", str(script), *words[1:], "--bin", a.bin, "--counts", a.counts],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True, cwd=ROOT)
    # The test is the leader of its own process group: at its time limit it and what it started end.
    late = threading.Event()

    def stop() -> None:
        late.set()
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(limit, stop)
    timer.start()
    lines: list[str] = []
    for line in process.stdout:
        line = line.rstrip()
        lines.append(line)
        if a.verbose or not line.startswith("PASS"):
            show("  " + line)
    status = process.wait()
    timer.cancel()
    seconds = time.monotonic() - began
    last = next((line for line in reversed(lines) if line.startswith(("PASS", "FAIL", "SKIP"))), "")
    if late.is_set():
        return "FAIL", seconds, f"not done after {limit:.0f} s"
    if status == SKIPPED:
        return "SKIP", seconds, last
    if status == 0 and any(line.startswith("FAIL") for line in lines):
        return "FAIL", seconds, "exit status 0 in spite of a FAIL line"
    return ("PASS" if status == 0 else "FAIL"), seconds, last or f"exit status {status}"


class Runs:
    """The tests of one call, in lanes, and what came of them."""

    def __init__(self, a: argparse.Namespace):
        self.a = a
        self.results: dict[str, tuple] = {}
        self.lock = threading.Lock()

    def one(self, test: tuple, at_once: bool) -> None:
        name, words, limits, shows = test
        said = [f"{name}: {shows}"]

        def show(line: str) -> None:
            if at_once:
                print(line, flush=True)
            else:
                said.append(line)

        if at_once:
            print(said[0], flush=True)
        result, seconds, detail = run(name, words, limits[self.a.counts == "proof"], self.a, show)
        show(f"  {result} in {seconds:.0f} s")
        with self.lock:
            if not at_once:
                print("\n".join(said), flush=True)
            self.results[name] = (name, result, seconds, detail)
            if self.a.record:
                record(self.a.record, self.a.counts, name, shows, result, seconds, summary(detail))

    def all(self, tests: list[tuple], lanes: int) -> None:
        alone = [test for test in tests if lanes == 1 or test[0] in ALONE]
        for test in alone:
            self.one(test, True)
        waiting = [test for test in tests if test not in alone]

        heavy = threading.Lock()

        def lane() -> None:
            while True:
                with self.lock:
                    # The heavy ones first: else both lanes would wait for one at the end.
                    mine = next((t for t in waiting if t[0] in HEAVY), None)
                    if mine is None or not heavy.acquire(blocking=False):
                        mine = next((t for t in waiting if t[0] not in HEAVY), None)
                    if mine is not None:
                        waiting.remove(mine)
                    elif not waiting:
                        return
                if mine is None:
                    time.sleep(0.2)
                    continue
                self.one(mine, False)
                if mine[0] in HEAVY:
                    heavy.release()

        threads = [threading.Thread(target=lane) for _ in range(min(lanes, len(waiting)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def summary(line: str) -> str:
    line = re.sub(r"^(PASS|FAIL|SKIP) [^:]*: ", "", line)
    return line


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", default=str(ROOT / ".build/release"))
    parser.add_argument("--counts", choices=["ci", "proof"], default="ci")
    parser.add_argument("--only", default="")
    parser.add_argument("--record", default="")
    parser.add_argument("--verbose", action="store_true", help="PASS lines too")
    parser.add_argument("--lanes", type=int, default=0, help="tests at a time; 0: 2 for ci, 1 for proof")
    parser.add_argument("--list", action="store_true")
    a = parser.parse_args()
    a.bin = str(pathlib.Path(a.bin).resolve())
    if a.list:
        for name, words, _, shows in TESTS:
            print(f"{name:16} {words[0]:22} {shows}")
        return 0
    for program in ("posthoused", "posthouse"):
        if not (pathlib.Path(a.bin) / program).exists():
            print(f"FAIL run: {a.bin}/{program} is not built (make build)")
            return 1
    wanted = [name for name in a.only.split(",") if name]
    unknown = set(wanted) - {name for name, *_ in TESTS}
    if unknown:
        print(f"no such test: {', '.join(sorted(unknown))}; --list shows them", file=sys.stderr)
        return 2
    tests = [test for test in TESTS if (test[0] in wanted if wanted else
             test[0] not in WAITING and (test[0] not in PROOF or a.counts == "proof"))]
    runs = Runs(a)
    runs.all(tests, a.lanes or (2 if a.counts == "ci" else 1))
    results = [runs.results[test[0]] for test in tests]
    print()
    for name, result, seconds, detail in results:
        print(f"{result:8}{name:18}{seconds:6.0f} s   {summary(detail)[:150]}")
    skipped = [name for name, result, _, _ in results if result == "SKIP"]
    if skipped:
        print(f"\n*** NOT RUN on this machine: {', '.join(skipped)} ***")
    failed = [name for name, result, _, _ in results if result in ("FAIL", "MISSING")]
    print(f"\n{len(results) - len(failed) - len(skipped)} passed, {len(skipped)} skipped, "
          f"{len(failed)} failed" + (f": {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
