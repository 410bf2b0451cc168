#!/usr/bin/env python3
"""The files operators begin with: every configuration of ops/config is one that posthoused takes, the sockets of the unit
are those of the configuration, the page of metrics is what nodes say, and alerts ask for metrics that exist. `posthouse
check`, `top` and `usage` against a node and a cluster.

--write  makes docs/reference/metrics.md anew from what the nodes say"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import tomllib
import urllib.request

from node import ROOT, Node, Report, arguments, poll
from test_cluster import Cluster

PAGE = ROOT / "docs/reference/metrics.md"
HEAD = """# Metrics

<!-- Made from what nodes say by Tests/interop/ops_files.py --write. Do not edit. -->

`GET /metrics` of the HTTP API, in Prometheus' text format: of a node alone, with a registry, and in a cluster. Who may ask:
[operating](../operating.md#who-is-an-operator). Alerts: [rules.yml](../../ops/prometheus/rules.yml).

| metric | type | labels | what it says |
|---|---|---|---|
"""


def described(text: str) -> dict[str, tuple[str, set[str], str]]:
    """name: (type, labels, help) of a page of metrics."""
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M))
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.M))
    labels: dict[str, set[str]] = {}
    for name, inside in re.findall(r"^([a-z_]+)\{([^}]*)\}", text, re.M):
        labels.setdefault(name, set()).update(re.findall(r"(\w+)=\"", inside))
    return {name: (kind, labels.get(name, set()), helps.get(name, "")) for name, kind in kinds.items()}


def page(metrics: dict[str, tuple[str, set[str], str]]) -> str:
    return HEAD + "".join(
        f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in sorted(labels))} | {text} |\n"
        for name, (kind, labels, text) in sorted(metrics.items()))


def configurations(report: Report, programs: str) -> None:
    files = sorted((ROOT / "ops/config").rglob("*.toml"))
    report.check("there are configurations", len(files) >= 12, len(files))
    for file in files:
        done = subprocess.run([f"{programs}/posthouse", "config", "show", "--config", str(file), "-o", "json"],
                              capture_output=True, text=True, env={"HOME": "/"}, timeout=30)
        report.check(f"{file.relative_to(ROOT)} is one that posthoused takes", done.returncode == 0,
                     done.stderr if done.returncode else "")
    clusters = [("three-nodes", ""), ("two-regions", ""), ("federated", "alpha"), ("federated", "beta")]
    for folder, side in clusters:
        nodes = [tomllib.loads(file.read_text()) for file in files
                 if file.parent.name == folder and file.name.startswith(side)]
        places = [node["cluster"]["listen"] for node in nodes]
        founders = [node["node_name"] for node in nodes if not node["cluster"]["seeds"]]
        report.check(f"{folder} {side}: every node has an address of its own, one founds, seeds are nodes",
                     len(set(places)) == len(nodes) > 1 and len(founders) == 1
                     and all(set(node["cluster"]["seeds"]) <= set(places) for node in nodes))
    single = tomllib.loads((ROOT / "ops/config/single.toml").read_text())
    unit = (ROOT / "ops/systemd/posthoused.socket").read_text()
    report.check("the socket unit listens where the configuration says",
                 set(re.findall(r"^ListenStream=(\S+)$", unit, re.M))
                 == {single[name] for name in ("grpc", "http", "grpc_tls", "http_tls")} | {single["registry"]["listen"]})
    with tempfile.TemporaryDirectory() as home:
        bad = pathlib.Path(home, "bad.toml")
        bad.write_text('grpc = "127.0.0.1:0"\n[tls]\ncert = "nofile"\nkey = "nofile"\n')
        for more, wanted in ([], 0), (["--grpc-tls", "127.0.0.1:0"], 2):
            done = subprocess.run([f"{programs}/posthoused", "--check", "--config", str(bad), "--data", home, *more],
                                  capture_output=True, text=True, timeout=30)
            report.check(f"posthoused --check ends with {wanted}", done.returncode == wanted
                         and (wanted == 0 or "nofile: No such file" in done.stderr), done.stdout + done.stderr)


def one_node(report: Report, programs: str) -> dict:
    with Node(programs, extra=["--registry", "127.0.0.1:0"]) as node:
        node.create_tenant("acme")
        found = json.loads(node.posthouse("check", "-o", "json").stdout)
        report.check("check: a node of its own is well", all(row["result"] != "bad" for row in found)
                     and {"node", "disk", "auth", "tenants"} == {row["check"] for row in found}, found)
        lines = [json.loads(line) for line in
                 node.posthouse("top", "-n", "2", "--interval", "200ms", "-o", "jsonl").stdout.splitlines()]
        report.check("top: as many lines as asked for", len(lines) == 2 and lines[0]["ready"], lines)
        used = json.loads(node.posthouse("usage", "-o", "json").stdout)
        report.check("usage: every tenant", [row["tenant"] for row in used] == ["acme"], used)
        return described(node.metrics())


def a_cluster(report: Report, a) -> dict:
    with tempfile.TemporaryDirectory(prefix="posthouse-ops-") as home:
        cluster = Cluster(a, 2, home)
        try:
            report.check("a cluster of two", cluster.ready.wait(90))
            done = cluster.posthouse("n1", "check", "-o", "json")
            found = {row["check"]: row for row in json.loads(done.stdout)}
            report.check("check: members, metadata, slots and versions are well", done.returncode == 0 and all(
                found[name]["result"] == "ok" for name in ("members", "metadata", "slots", "versions")), found)
            with urllib.request.urlopen(f"http://{cluster.nodes['n1']['http']}/metrics", timeout=30) as answer:
                metrics = described(answer.read().decode())
            cluster.run("kill", "n2")
            def missed():
                rows = json.loads(cluster.posthouse("n1", "check", "-o", "json").stdout)
                return next(row for row in rows if row["check"] == "members")["result"] == "bad"
            report.check("check: a node that is gone is missed", poll(60, missed, 1))
            return metrics
        finally:
            cluster.run("down")
            cluster.process.wait(60)


def main() -> int:
    sys.argv, write = [word for word in sys.argv if word != "--write"], "--write" in sys.argv
    a = arguments(__doc__)
    report = Report("operators' files")
    configurations(report, a.bin)
    metrics = one_node(report, a.bin) | a_cluster(report, a)
    made = page(metrics)
    if write:
        PAGE.write_text(made)
    report.check("docs/reference/metrics.md is what nodes say", PAGE.exists() and PAGE.read_text() == made,
                 "Tests/interop/ops_files.py --write" if not PAGE.exists() or PAGE.read_text() != made else "")
    rules = (ROOT / "ops/prometheus/rules.yml").read_text()
    asked = set(re.findall(r"\bposthouse_[a-z_]+", "\n".join(re.findall(r"^ *expr: (.*)$", rules, re.M))))
    report.check("every metric of the alerts exists", asked and asked <= set(metrics), asked - set(metrics))
    labels = re.findall(r"(posthouse_[a-z_]+)\{(\w+)", rules)
    report.check("with its labels", all(label in metrics[name][1] for name, label in labels if name in metrics), labels)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
