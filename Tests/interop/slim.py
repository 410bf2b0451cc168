#!/usr/bin/env python3
"""Unmodified slim-bindings applications of both wire families (1.4.1 and 3.3.8) in all four scenarios: alone,
and at the same time on one port beside a Skytale pair. Round trips of p2p-mls are measured (with --counts
proof p50 must be at most 4 ms) and groups stay idle so long that only relayed liveness keeps them (proof,
or --idle S).

--node real     the SLIM nodes inside the packages instead of posthoused, each with its own family
--node URL      a node that runs already (http://127.0.0.1:PORT)"""

import concurrent.futures
import contextlib
import sys
import types

from node import Node, Report, arguments
from skytale_pair import converse as skytale_converse
from slim_pair import SCENARIOS, NotInstalled, Outcome, RealNode, Setup, converse, slim_python

P50_LIMIT_MS = 4.0


@contextlib.contextmanager
def node_for(a, version: str):
    """A node that serves `version`, and whether it is ours."""
    if a.node == "real":
        with RealNode(version) as node:
            yield node
    elif a.node == "own":
        with Node(a.bin, auth="open", keep=a.keep, together=True) as node:
            yield node
    else:
        yield types.SimpleNamespace(grpc=a.node.removeprefix("http://"))


def setup(a, node, version: str, **changes) -> Setup:
    fields = {"count": 5, "gap": a.gap, "bearer": a.bearer} | changes
    return Setup(f"http://{node.grpc}", (version, version), **fields)


def check(report: Report, what: str, outcome: Outcome) -> None:
    report.check(what, outcome.passed, f"{outcome.seconds:.1f} s, {outcome.detail}"
                 + (", second try after the apps' own flake" if outcome.repeated else ""))


def alone(report: Report, a, versions: list[str]) -> None:
    for version in versions:
        with node_for(a, version) as node:
            for scenario in a.only.split(","):
                check(report, f"{version} {scenario} alone", converse(setup(a, node, version), scenario))
            measure(report, a, node, version)


def measure(report: Report, a, node, version: str) -> None:
    count = a.n or (100 if a.counts == "proof" else 30)
    outcome = converse(setup(a, node, version, count=count), "p2p-mls")
    check(report, f"{version} p2p-mls with {count} messages", outcome)
    p50, p99 = outcome.percentile(50), outcome.percentile(99)
    report.number(f"{version} RTT p50 {p50:.2f} ms p99 {p99:.2f} ms")
    if a.counts == "proof":
        report.check(f"{version} RTT p50 is at most {P50_LIMIT_MS:.0f} ms", 0 < p50 <= P50_LIMIT_MS)


def together(report: Report, a, versions: list[str]) -> None:
    """Everything at once on one port. The real nodes serve one family each and no Skytale."""
    with contextlib.ExitStack() as stack:
        if a.node == "real":
            nodes = {version: stack.enter_context(node_for(a, version)) for version in versions}
        else:
            nodes = dict.fromkeys(versions, stack.enter_context(node_for(a, versions[0])))
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            talks = {(version, scenario): pool.submit(converse, setup(a, node, version), scenario)
                     for version, node in nodes.items() for scenario in a.only.split(",")}
            pair = pool.submit(skytale, report, nodes[versions[0]]) if a.node == "own" else None
            for (version, scenario), talk in talks.items():
                check(report, f"{version} {scenario} beside all others", talk.result())
            if pair:
                pair.result()


def skytale(report: Report, node) -> None:
    def check_step(what, condition, detail=""):
        return report.check(f"Skytale beside them: {what}", condition, detail)

    skytale_converse(check_step, mode="keyless", grpc=node.grpc, http=node.http,
                     key=node.create_tenant("acme"), channel="acme/team/general")


def idle(report: Report, a, versions: list[str], seconds: float) -> None:
    with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(8) as pool:
        talks = {}
        for version in versions:
            node = stack.enter_context(node_for(a, version))
            for scenario in ("p2p-mls", "grp-mls"):
                one = setup(a, node, version, idle=seconds)
                talks[version, scenario] = pool.submit(converse, one, scenario)
        for (version, scenario), talk in talks.items():
            check(report, f"{version} {scenario} after {seconds:.0f} s of silence", talk.result())


def main() -> int:
    a = arguments(__doc__, n=0, idle=0.0, gap=0.0, bearer="", versions="1.4.1,3.3.8",
                  only=",".join(SCENARIOS), node="own")
    report = Report("slim")
    versions = a.versions.split(",")
    try:
        for version in versions:
            slim_python(version)
    except NotInstalled as error:
        return report.skip(str(error))
    alone(report, a, versions)
    together(report, a, versions)
    seconds = a.idle or (45 if a.counts == "proof" else 0)
    if seconds:
        idle(report, a, versions, seconds)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
