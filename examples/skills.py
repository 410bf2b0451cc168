#!/usr/bin/env python3
"""An agent makes its skills known at one relay; another agent finds them, at any relay of the cluster.

    skills.py --registry 127.0.0.1:50052 register agent-7 translate summarize
    skills.py --registry 127.0.0.1:50054 discover translate

Uses the published agentanycast package: its client's own stubs of RegistryService, unmodified. A registration lives
for the seconds that the relay answers with, unless the agent sends heartbeats."""

import argparse
import importlib.util
import pathlib
import sys
import time

spec = importlib.util.find_spec("agentanycast")
if spec is None:
    sys.exit("skills.py: pip install agentanycast (ops/dev/setup does it for this repository's .venv)")
sys.path.insert(0, str(pathlib.Path(spec.origin).parent / "_generated"))

import grpc  # noqa: E402
from agentanycast.v1 import registry_service_pb2 as messages  # noqa: E402
from agentanycast.v1 import registry_service_pb2_grpc as service  # noqa: E402

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--registry", default="127.0.0.1:50052", metavar="HOST:PORT")
parser.add_argument("--wait", type=float, default=0, help="discover: seconds to wait until somebody is found")
what = parser.add_subparsers(dest="what", required=True)
register = what.add_parser("register")
register.add_argument("peer_id")
register.add_argument("skills", nargs="+")
discover = what.add_parser("discover")
discover.add_argument("skill")
a = parser.parse_args()

stub = service.RegistryServiceStub(grpc.insecure_channel(a.registry))
try:
    if a.what == "register":
        answer = stub.RegisterSkills(messages.RegisterSkillsRequest(
            peer_id=a.peer_id, agent_name=a.peer_id,
            skills=[messages.SkillInfo(skill_id=skill, description=f"can {skill}") for skill in a.skills]), timeout=10)
        seconds = answer.expires_at.seconds - time.time() if answer.HasField("expires_at") else 0
        print(f"{a.peer_id} registered {', '.join(a.skills)} at {a.registry}"
              + (f" for {seconds:.0f} s" if seconds > 0 else ""))
    else:
        deadline = time.monotonic() + a.wait
        while True:
            found = stub.DiscoverBySkill(
                messages.DiscoverBySkillRequest(skill_id=a.skill, limit=10), timeout=10).agents
            if found or time.monotonic() >= deadline:
                break
            time.sleep(0.1)
        for agent in found:
            print(f"{agent.peer_id} ({agent.agent_name}) can {a.skill}; asked at {a.registry}")
        if not found:
            sys.exit(f"nobody known at {a.registry} can {a.skill}")
except grpc.RpcError as error:
    sys.exit(f"{a.registry}: {error.code().name}: {error.details()}")
