#!/usr/bin/env python3
"""Alice opens an encrypted channel with the published skytale-sdk, invites one agent, talks with it.

    alice.py --grpc 127.0.0.1:5000 --http 127.0.0.1:8080 --api-key sk_live_... --channel acme/team/demo

Prints the invite on a line of its own; give it to bob.py."""

import argparse
import os
import sys
import time

from skytale_sdk import SkytaleChannelManager
from skytale_sdk._api import SkytaleAPI

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--grpc", default="127.0.0.1:5000")
parser.add_argument("--http", default="127.0.0.1:8080")
parser.add_argument("--api-key", required=True)
parser.add_argument("--channel", default="acme/team/demo")
parser.add_argument("--say", nargs="*", default=["Hello from Alice!"])
a = parser.parse_args()

# The published Linux wheels of 0.3.0 panic when the native client is given an API key, so the key goes to
# the HTTP part only and the stream carries none: the node must run with --auth open. With a package
# without that defect: SkytaleChannelManager(identity=..., endpoint=..., api_key=..., api_url=...).
manager = SkytaleChannelManager(identity=b"alice", endpoint=f"http://{a.grpc}",
                                data_dir=f"/tmp/skytale-alice-{time.time_ns()}")
manager._api = SkytaleAPI(f"http://{a.http}", a.api_key)

manager.create(a.channel)
print("INVITE", manager.invite(a.channel), flush=True)

# Bob says hello when he is in; then everything alice sends is meant for two.
deadline = time.monotonic() + 60
arrived: list[str] = []
while not arrived and time.monotonic() < deadline:
    arrived += manager.receive(a.channel, timeout=0.5)
if not arrived:
    sys.exit("alice: nobody came within a minute")
print(f"alice reads: {arrived[0]}", flush=True)
for text in a.say:
    manager.send(a.channel, text)
    print(f"alice says:  {text}", flush=True)
answers: list[str] = []
while len(answers) < len(a.say) and time.monotonic() < deadline:
    answers += manager.receive(a.channel, timeout=0.5)
for text in answers:
    print(f"alice reads: {text}", flush=True)
manager.close()
sys.stdout.flush()
os._exit(0 if len(answers) >= len(a.say) else 1)  # the SDK's threads would keep the process
