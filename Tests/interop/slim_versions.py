#!/usr/bin/env python3
"""More published slim-bindings versions through one node: each talks to itself, and neighbours of one family to
each other, p2p-mls and grp-mls, two of the versions at a time.   --node real: the packages' own nodes"""

import concurrent.futures
import contextlib
import sys
import types

from node import Node, Report, arguments
from slim_pair import NotInstalled, RealNode, Setup, converse, slim_python

VERSIONS = "1.0.1,1.1.1,1.3.0,2.0.0,2.2.0,3.3.1"
MIXED = [("1.0.1", "1.4.1"), ("1.4.1", "1.0.1"), ("2.0.0", "3.3.8"), ("3.3.8", "2.2.0")]
AT_ONCE = 2


def talk(url: str, pair: tuple[str, str]) -> list:
    setup = Setup(url, pair)
    return [(scenario, converse(setup, scenario)) for scenario in ("p2p-mls", "grp-mls")]


def main() -> int:
    a = arguments(__doc__, node="own", versions=VERSIONS, mixed="yes")
    report = Report("slim versions")
    pairs = [(version, version) for version in a.versions.split(",")] + (MIXED if a.mixed == "yes" else [])
    try:
        for pair in pairs:
            slim_python(pair[0])
            slim_python(pair[1])
    except NotInstalled as error:
        return report.skip(str(error))
    with contextlib.ExitStack() as stack, concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        if a.node == "own":
            one = stack.enter_context(Node(a.bin, auth="open", keep=a.keep, together=True))
            nodes = dict.fromkeys(pairs, one)
        elif a.node == "real":
            nodes = {pair: stack.enter_context(RealNode(max(pair))) for pair in pairs}
        else:
            nodes = dict.fromkeys(pairs, types.SimpleNamespace(grpc=a.node.removeprefix("http://")))
        talks = {pair: pool.submit(talk, f"http://{nodes[pair].grpc}", pair) for pair in pairs}
        for pair, one in talks.items():
            name = pair[0] if pair[0] == pair[1] else "+".join(pair)
            for scenario, outcome in one.result():
                report.check(f"{name} {scenario}", outcome.passed,
                             f"{outcome.seconds:.1f} s, {outcome.detail}")
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
