"""What every test of this folder stands on: a posthoused of its own (loopback, free ports, its own data
directory, ended by process id), the posthouse command, HTTP, and gRPC stubs made from Proto/schema at
run time."""

import argparse
import atexit
import base64
import contextlib
import ctypes
import datetime
import importlib
import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

# grpcio reports every fork of a test as news.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

# Programs are started by fork and exec while gRPC's threads run: its fork handlers would only disturb.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Becomes the program with the listening sockets at 3, 4, ... (sd_listen_fds(3)).
PASS_LISTENERS = """
import os, sys
names, handles = sys.argv[1], [int(h) for h in sys.argv[2].split(",")]
spare = [os.dup2(h, 100 + i) for i, h in enumerate(handles)]
for i, handle in enumerate(spare):
    os.dup2(handle, 3 + i, inheritable=True)
    os.close(handle)
os.closerange(3 + len(handles), 200)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(handles)), LISTEN_FDNAMES=names)
os.execv(sys.argv[3], sys.argv[3:])
"""
READY = re.compile(r"^READY grpc=(\S+) http=(\S+) admin=(\S+)")


# --- reporting -----------------------------------------------------------------------------------


class Report:
    """Prints PASS and FAIL lines; `finish` gives the exit status."""

    def __init__(self, name: str):
        self.name = name
        self.failures = 0
        self.checks = 0
        self.began = time.monotonic()
        self.numbers: list[str] = []

    def check(self, what: str, condition, detail="") -> bool:
        self.checks += 1
        if not condition:
            self.failures += 1
        text = " ".join(str(detail).split())
        detail = f"  ({text})" if text else ""
        print(f"{'PASS' if condition else 'FAIL'} {self.name}: {what}{detail}", flush=True)
        return bool(condition)

    def number(self, text: str) -> None:
        """A figure worth keeping beside the result."""
        self.numbers.append(text)
        print(f"     {self.name}: {text}", flush=True)

    def skip(self, why: str) -> int:
        print(f"SKIP {self.name}: {why}", flush=True)
        return 77

    def finish(self) -> int:
        passed = self.failures == 0 and self.checks > 0
        seconds = time.monotonic() - self.began
        print(f"{'PASS' if passed else 'FAIL'} {self.name}: {self.checks - self.failures} of "
              f"{self.checks} checks in {seconds:.0f} s"
              + (f"; {'; '.join(self.numbers)}" if self.numbers else ""), flush=True)
        return 0 if passed else 1


def arguments(description: str, **extra) -> argparse.Namespace:
    """Every test takes --bin and --counts; `extra` adds options with their defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--bin", default=str(ROOT / ".build/release"),
                        help="folder with posthoused and posthouse")
    parser.add_argument("--counts", choices=["ci", "proof"], default="ci")
    parser.add_argument("--keep", action="store_true", help="keep data directories and logs")
    for name, default in extra.items():
        parser.add_argument("--" + name.replace("_", "-"), default=default,
                            type=type(default) if default is not None else str)
    return parser.parse_args()


def poll(seconds: float, condition, interval: float = 0.05):
    """The first true value of `condition`, or its last value at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > deadline:
            return value
        time.sleep(interval)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no node outlives its test


# --- the node ------------------------------------------------------------------------------------


class Node:
    """One posthoused. Use as a context manager; `start` and `kill9` may follow one another."""

    def __init__(self, folder_of_programs: str, *, data: str | None = None, auth: str = "required",
                 config: str = "", keep: bool = False, extra: list[str] | None = None,
                 environment: dict[str, str] | None = None, core_dumps: bool = False,
                 open_files: int = 0, listeners: dict | None = None, together: bool = False):
        self.programs = pathlib.Path(folder_of_programs).resolve()
        self.own_data = data is None
        self.home = tempfile.mkdtemp(prefix="posthouse-test-")
        self.data = data or os.path.join(self.home, "data")
        self.auth = auth
        self.keep = keep
        self.extra = extra or []
        self.environment = environment or {}
        self.core_dumps = core_dumps
        self.open_files = open_files
        self.together = together            # connections that come together share a loop, as by default
        self.listeners = listeners or {}    # name to listening socket, passed on as systemd would
        self.config = ""
        if config:
            self.config = os.path.join(self.home, "node.toml")
            pathlib.Path(self.config).write_text(config)
        self.log_path = os.path.join(self.home, "node.log")
        self.process: subprocess.Popen | None = None
        self.grpc = self.http = self.admin = self.grpc_tls = self.registry = ""
        self.runs = 0

    def __enter__(self) -> "Node":
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_) -> None:
        self.close()

    def command(self) -> list[str]:
        line = [str(self.programs / "posthoused"), "--data", self.data, "--grpc", "127.0.0.1:0",
                "--http", "127.0.0.1:0", "--auth", self.auth, "--admin-socket",
                os.path.join(self.home, "admin.sock")]
        # The few connections of a test meet on different loops: what crosses them is tried, too.
        line += [] if self.together else ["--set", "loop_block=1"]
        if "--registry" not in self.extra:
            line += ["--registry", "off"]
        return line + (["--config", self.config] if self.config else []) + self.extra

    def start(self, seconds: float = 60) -> "Node":
        """Starts the process and waits for its READY line."""
        self.begin()
        return self.finish_start(seconds)

    def begin(self) -> None:
        """Starts the process."""
        import resource

        def prepare() -> None:
            _die_with_parent()
            if self.core_dumps:
                hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
                resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
            if self.open_files:
                hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
                resource.setrlimit(resource.RLIMIT_NOFILE, (min(self.open_files, hard), hard))

        self.runs += 1
        command = self.command()
        handles = [one.fileno() for one in self.listeners.values()]
        if handles:
            command = [sys.executable, "-c", PASS_LISTENERS, ":".join(self.listeners),
                       ",".join(map(str, handles)), *command]
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, cwd=self.home, pass_fds=handles,
                env={**os.environ, **self.environment}, preexec_fn=prepare)

    def finish_start(self, seconds: float = 60) -> "Node":
        """Waits for the READY line."""
        first = self._first_line(seconds)
        match = READY.match(first)
        if not match:
            raise RuntimeError(f"no READY line but {first!r}; log ends: {self.log()[-2000:]}")
        self.grpc, self.http, self.admin = match.groups()
        tls = re.search(r"grpc-tls=(\S+)", first)
        self.grpc_tls = tls.group(1) if tls else ""
        registry = re.search(r" registry=(\S+)", first)
        self.registry = registry.group(1) if registry else ""
        return self

    def _first_line(self, seconds: float) -> str:
        lines: list[bytes] = []
        reader = threading.Thread(
            target=lambda: lines.append(self.process.stdout.readline()), daemon=True)
        reader.start()
        reader.join(seconds)
        return lines[0].decode().strip() if lines else ""

    @property
    def pid(self) -> int:
        return self.process.pid

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        try:
            return pathlib.Path(self.log_path).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def resident_bytes(self) -> int:
        status = pathlib.Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) << 10

    def kill9(self) -> None:
        if self.running():
            os.kill(self.pid, signal.SIGKILL)
        if self.process:
            self.process.wait(30)
            self.process.stdout.close()
            self.process = None

    def terminate(self, seconds: float = 15) -> int | None:
        """SIGTERM; the exit status, or None when the process did not end in time."""
        os.kill(self.pid, signal.SIGTERM)
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self.process.stdout.close()
        self.process = None
        return status

    def close(self) -> None:
        self.kill9()
        if self.keep:
            print(f"     kept: {self.home} (data {self.data})", flush=True)
        else:
            shutil.rmtree(self.home, ignore_errors=True)

    # --- operators' side

    def posthouse(self, *words: str, check: bool = True, offline: bool = False,
                  seconds: float = 300) -> subprocess.CompletedProcess:
        """Runs the posthouse command against this node (or, `offline`, its data directory)."""
        where = ["--data", self.data] if offline else ["--admin-socket", self.admin]
        done = subprocess.run(
            [str(self.programs / "posthouse"), *words, *where], capture_output=True, text=True,
            timeout=seconds, preexec_fn=_die_with_parent)
        if check and done.returncode != 0:
            raise RuntimeError(f"posthouse {' '.join(words)}: exit {done.returncode}: "
                               f"{done.stdout[-800:]}{done.stderr[-800:]}")
        return done

    def create_tenant(self, org: str) -> str:
        """The API key of a new tenant."""
        answer = json.loads(self.posthouse("tenant", "create", org, "-o", "json").stdout)
        assert answer["tenant"], answer
        return answer["api_key"]

    def metrics(self) -> str:
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=10) as answer:
            return answer.read().decode()

    def get(self, path: str, key: str | None = None):
        return self.call("GET", path, key=key)

    def call(self, method: str, path: str, body=None, key: str | None = None):
        """(status, JSON or text) of one HTTP call; never raises for a status."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.http}{path}", data=data, method=method)
        if body is not None:
            request.add_header("Content-Type", "application/json")
        if key:
            request.add_header("Authorization", "Bearer " + key)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode(errors="replace")
        with contextlib.suppress(ValueError):
            return status, json.loads(text)
        return status, text

    def token(self, key: str) -> str:
        """A JWT for gRPC streams."""
        status, answer = self.call("POST", "/v1/tokens", key=key)
        if status // 100 != 2:
            raise RuntimeError(f"POST /v1/tokens: {status} {answer}")
        return answer["token"]

    def usage_messages(self, key: str) -> int:
        """Messages metered for the key's tenant, yesterday (a test may run over midnight) and today."""
        yesterday = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
        status, answer = self.call("GET", f"/v1/usage?from={yesterday:%Y-%m-%d}", key=key)
        if status != 200:
            raise RuntimeError(f"GET /v1/usage: {status} {answer}")
        return sum(day["messages"] for day in answer["days"])


# --- gRPC ----------------------------------------------------------------------------------------


class Stubs:
    """Modules generated from Proto/schema into a temporary folder."""

    _folder: str | None = None
    _lock = threading.RLock()

    @classmethod
    def load(cls):
        if cls._folder is None:
            from grpc_tools import protoc
            folder = tempfile.mkdtemp(prefix="posthouse-stubs-")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)
            schema = ROOT / "Proto/schema"
            files = ["dataplane/proto/v1/data_plane.proto", "posthouse/v1/channel.proto",
                     "posthouse/v1/admin.proto"]
            status = protoc.main(["protoc", f"-I{schema}", f"--python_out={folder}",
                                  f"--grpc_python_out={folder}", *files])
            if status != 0:
                raise RuntimeError("protoc failed")
            sys.path.insert(0, folder)
            cls._folder = folder

    @classmethod
    def dataplane(cls):
        return cls._modules("dataplane.proto.v1.data_plane")

    @classmethod
    def channel(cls):
        return cls._modules("posthouse.v1.channel")

    @classmethod
    def _modules(cls, name: str):
        with cls._lock:  # tests open streams from several threads at once
            cls.load()
            return importlib.import_module(name + "_pb2"), importlib.import_module(name + "_pb2_grpc")


def bearer(token: str | None):
    return (("authorization", "Bearer " + token),) if token else ()


def dial(address: str):
    import grpc
    return grpc.insecure_channel(address, options=[
        ("grpc.max_receive_message_length", 8 << 20), ("grpc.max_send_message_length", 8 << 20),
        ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)])


def mls_application(payload: bytes, epoch: int = 1) -> bytes:
    """A PrivateMessage header as the relay can read it (RFC 9420 section 6.3), then `payload`."""
    return (b"\x00\x01\x00\x02\x20" + bytes(32) + struct.pack(">Q", epoch) + b"\x01\x00"
            + payload)


class SkytaleStream:
    """A data-plane stream in the manner of the Skytale SDK: destination by str_name, nothing else. Sends
    without waiting for the server; a reader thread gathers what arrives."""

    def __init__(self, address: str, token: str | None = None, keep_payloads: bool = True):
        import queue
        self.messages, services = Stubs.dataplane()
        self.channel = dial(address)
        self.outbox: queue.Queue = queue.Queue(maxsize=4096)
        self.received: list[bytes] = []
        self.sequences: list[int] = []
        self.arrivals: list[float] = []
        self.keep_payloads = keep_payloads
        self.error = None
        self.gate = threading.Event()
        self.gate.set()
        self.call = services.DataPlaneServiceStub(self.channel).OpenChannel(
            iter(self.outbox.get, None), metadata=bearer(token))
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        import grpc
        try:
            for message in self.call:
                self.gate.wait()
                blob = message.publish.msg.app_payload.blob
                if len(blob) < 8:
                    continue
                self.sequences.append(int.from_bytes(blob[-8:], "big"))
                self.arrivals.append(time.monotonic())
                if self.keep_payloads:
                    self.received.append(blob[:-8])
        except grpc.RpcError as error:
            self.error = error

    def stall(self) -> None:
        """Stop taking messages from the stream: flow control stops the server."""
        self.gate.clear()

    def go_on(self) -> None:
        self.gate.set()

    def name(self, channel: str):
        org, namespace, service = channel.split("/", 2)
        message = self.messages.Message()
        return message, org, namespace, service

    def subscribe(self, channel: str) -> None:
        message, org, namespace, service = self.name(channel)
        text = message.subscribe.header.destination.str_name
        text.str_component_0, text.str_component_1, text.str_component_2 = org, namespace, service
        self.outbox.put(message)

    def publish(self, channel: str, blob: bytes) -> None:
        message, org, namespace, service = self.name(channel)
        text = message.publish.header.destination.str_name
        text.str_component_0, text.str_component_1, text.str_component_2 = org, namespace, service
        message.publish.session.session_type = 2
        message.publish.session.session_message_type = 1
        message.publish.msg.app_payload.blob = blob
        self.outbox.put(message)

    def close(self) -> None:
        self.gate.set()
        self.call.cancel()
        self.channel.close()
        self.reader.join(5)


class Publisher:
    """ChannelService.Publish with a reader thread: `acked` maps producer sequence to sequence."""

    def __init__(self, address: str, token: str | None, window: int = 256):
        import queue
        self.pb, services = Stubs.channel()
        self.channel = dial(address)
        self.outbox: queue.Queue = queue.Queue()
        self.acked: dict[int, int] = {}
        self.duplicates = 0
        self.refused: list[tuple[int, str]] = []
        self.error = None
        self.room = threading.Semaphore(window)
        self.ended = threading.Event()
        self.call = services.ChannelServiceStub(self.channel).Publish(
            iter(self.outbox.get, None), metadata=bearer(token))
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        import grpc
        try:
            for answer in self.call:
                if answer.HasField("refusal"):
                    self.refused.append((answer.producer_sequence, answer.refusal.code))
                else:
                    self.acked[answer.producer_sequence] = answer.sequence
                    self.duplicates += answer.duplicate
                self.room.release()
        except grpc.RpcError as error:
            self.error = error
        self.ended.set()

    def publish(self, channel: str, payload: bytes, *, producer: int = 0, number: int = 0,
                synced: bool = False, timeout: float = 30) -> bool:
        """False when the stream has ended or no answer makes room in time."""
        deadline = time.monotonic() + timeout
        while not self.room.acquire(timeout=0.2):
            if self.ended.is_set() or time.monotonic() > deadline:
                return False
        if self.ended.is_set():
            return False
        self.outbox.put(self.pb.PublishRequest(
            channel=channel, payload=payload, producer_id=producer, producer_sequence=number,
            durability=self.pb.DURABILITY_SYNCED if synced else self.pb.DURABILITY_WRITTEN))
        return True

    def finish(self, seconds: float = 60) -> None:
        """Half-closes and waits for the last answers."""
        self.outbox.put(None)
        self.ended.wait(seconds)
        self.close()

    def close(self) -> None:
        self.outbox.put(None)
        self.call.cancel()
        self.channel.close()
        self.reader.join(5)


def read_channel(address: str, token: str | None, channel: str, *, start: int = 0, limit: int = 0,
                 timeout: float = 300):
    """What ChannelService.Read gives without follow."""
    pb, services = Stubs.channel()
    connection = dial(address)
    try:
        yield from services.ChannelServiceStub(connection).Read(
            pb.ReadRequest(channel=channel, from_sequence=start, limit=limit),
            metadata=bearer(token), timeout=timeout)
    finally:
        connection.close()


def base64_text(data: bytes) -> str:
    return base64.b64encode(data).decode()
