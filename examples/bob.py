#!/usr/bin/env python3
"""Bob joins the channel alice opened, with the invite she printed, and answers what she says.

    bob.py --grpc 127.0.0.1:5000 --http 127.0.0.1:8080 --api-key sk_live_... --channel acme/team/demo \
        --invite skt_inv_... --count 1"""

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
parser.add_argument("--invite", required=True)
parser.add_argument("--count", type=int, default=1, help="messages to answer before bob goes")
a = parser.parse_args()

# See alice.py for why the key is attached this way.
manager = SkytaleChannelManager(identity=b"bob", endpoint=f"http://{a.grpc}",
                                data_dir=f"/tmp/skytale-bob-{time.time_ns()}")
manager._api = SkytaleAPI(f"http://{a.http}", a.api_key)

manager.join_with_token(a.channel, a.invite, timeout=60)
print("bob is in", flush=True)
manager.send(a.channel, "bob is in")
read = 0
deadline = time.monotonic() + 60
while read < a.count and time.monotonic() < deadline:
    for text in manager.receive(a.channel, timeout=0.5):
        read += 1
        print(f"bob reads:   {text}", flush=True)
        manager.send(a.channel, f"bob heard {len(text)} characters")
time.sleep(1)  # the last answer is on its way
manager.close()
sys.stdout.flush()
os._exit(0 if read >= a.count else 1)
