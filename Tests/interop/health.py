#!/usr/bin/env python3
"""gRPC health and reflection through grpcio's own packages; liveness, readiness and metrics over HTTP."""

import sys
import threading
import time

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from node import Node, Report, arguments, dial

SERVICES = ["dataplane.proto.v1.DataPlaneService", "grpc.health.v1.Health", "posthouse.v1.ChannelService"]


def wrong_port(report: Report, node: Node) -> None:
    """gRPC to the port of the HTTP API is answered at once, also a stream that stays open."""
    with dial(node.http) as channel:
        began = time.monotonic()
        call = channel.stream_stream("/dataplane.proto.v1.DataPlaneService/OpenChannel")
        said = threading.Event()
        try:
            for _ in call(iter(said.wait, None), timeout=20):
                pass
            report.check("gRPC on the HTTP port is refused", False)
        except grpc.RpcError as error:
            report.check("gRPC on the HTTP port is UNIMPLEMENTED at once",
                         error.code() == grpc.StatusCode.UNIMPLEMENTED and time.monotonic() - began < 5, error.code())
            report.check("and says where gRPC is", node.grpc in error.details(), error.details())
        said.set()


def main() -> int:
    a = arguments(__doc__)
    report = Report("health and reflection")
    with Node(a.bin, keep=a.keep) as node:
        channel = dial(node.grpc)
        health = health_pb2_grpc.HealthStub(channel)
        for service in ["", *SERVICES[:1]]:
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            report.check(f"Check({service!r}) is SERVING", answer.status == 1, answer.status)
        try:
            health.Check(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=10)
            report.check("an unknown service is NOT_FOUND", False)
        except grpc.RpcError as error:
            report.check("an unknown service is NOT_FOUND", error.code() == grpc.StatusCode.NOT_FOUND,
                         error.code())
        first = next(iter(health.Watch(health_pb2.HealthCheckRequest(service=""), timeout=10)))
        report.check("Watch answers at once", first.status == 1)

        database = ProtoReflectionDescriptorDatabase(channel)
        names = sorted(database.get_services())
        report.check("reflection lists the services", set(SERVICES) <= set(names), ", ".join(names))
        pool = DescriptorPool(database)
        method = pool.FindServiceByName(SERVICES[0]).FindMethodByName("OpenChannel")
        report.check("reflection describes OpenChannel",
                     method.input_type.full_name == "dataplane.proto.v1.Message", method.full_name)
        channel.close()

        wrong_port(report, node)
        for path in ("/livez", "/readyz"):
            status, text = node.get(path)
            report.check(f"GET {path} is 200", status == 200, f"{status} {str(text)[:80]}")
        metrics = node.metrics()
        bad = [line for line in metrics.splitlines()
               if line and not line.startswith("#") and len(line.rsplit(" ", 1)) != 2]
        report.check("/metrics is Prometheus text", "# TYPE posthouse_" in metrics and not bad, bad[:2])
        status, text = node.get("/openapi.yaml")
        report.check("/openapi.yaml is served", status == 200 and "openapi:" in str(text), status)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
