#!/usr/bin/env python3
"""A SLIM node as it is published: the one inside the slim-bindings package of the Python that runs this. Serves
on 127.0.0.1 until SIGTERM; port 0 picks a free one.   slim_node.py PORT [--cores N] [--cert PEM --key PEM]"""

import argparse
import asyncio
import signal
import socket

import slim_bindings as slim


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("port", type=int)
    parser.add_argument("--cores", type=int, default=0)
    parser.add_argument("--cert", default="")
    parser.add_argument("--key", default="")
    a = parser.parse_args()
    port = a.port or free_port()
    loop = asyncio.get_running_loop()
    try:
        slim.uniffi_set_event_loop(loop)
    except AttributeError:
        pass  # newer packages find it themselves
    runtime, tracing = slim.new_runtime_config(), slim.new_tracing_config()
    tracing.log_level = "error"
    if a.cores:
        runtime.n_cores = a.cores
    slim.initialize_with_configs(
        runtime_config=runtime, tracing_config=tracing, service_config=[slim.new_service_config()])
    address = f"127.0.0.1:{port}"
    config = slim.new_insecure_server_config(address)
    if a.cert:
        config = slim.new_secure_server_config(address, slim.TlsSource.FILE(cert=a.cert, key=a.key))
    await slim.get_global_service().run_server_async(config)
    print(f"READY grpc=127.0.0.1:{port} version={slim.get_version()}", flush=True)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    await ended.wait()


asyncio.run(main())
