"""A SLIM stream over a bare socket: as fast as bytes go, able to stop reading, to send anything, and to end in any
way. Messages are made by hand (slim_wire), HTTP/2 frames too (badclients)."""

import os
import socket
import struct
import threading
import time

from badclients import DATA, END_HEADERS, END_STREAM, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, dial_raw, frame
from badclients import request_head
from node import poll
from slim_wire import BASE_POINT, EVERYBODY, MSG, Name, SlimStream, data, link_key, number, parse, path, x25519

WINDOW_UPDATE = 8
INITIAL_WINDOW = 65535
CANCEL = struct.pack(">I", 8)
GROUP = 2                       # session_type of a group


def group(text: str, family: str) -> Name:
    """Everybody under a name."""
    return Name.of(text, EVERYBODY[family])


def framed(*messages: bytes) -> bytes:
    """With the five bytes that gRPC puts before each."""
    return b"".join(b"\0" + struct.pack(">I", len(message)) + message for message in messages)


class RawStream:
    """One HTTP/2 connection with one stream. `reads`: gives the node's windows back; else the node soon cannot send."""

    def __init__(self, address: str, head: bytes = b"", token: str = "", reads: bool = True):
        self.socket = dial_raw(address)
        self.socket.settimeout(None)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reads = reads
        self.windows = [INITIAL_WINDOW, INITIAL_WINDOW]     # the connection's and the stream's
        self.initial = INITIAL_WINDOW
        self.changed = threading.Condition()
        self.writing = threading.Lock()
        self.ended = threading.Event()
        self.input = bytearray()
        self.messages: list[bytes] = []
        self.bytes_got = 0
        authorization = b"Bearer " + token.encode() if token else b""
        more = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 30)) if reads else b""
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0) + more
                            + frame(HEADERS, END_HEADERS, 1, head or request_head(authorization)))
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _read(self) -> None:
        try:
            with self.socket.makefile("rb", 1 << 18) as source:
                while len(head := source.read(9)) == 9:
                    size = int.from_bytes(head[:3], "big")
                    self._receive(head[3], head[4], int.from_bytes(head[5:], "big"), source.read(size))
        except (OSError, ValueError):
            pass
        self._end()

    def _end(self) -> None:
        self.ended.set()
        with self.changed:
            self.changed.notify_all()

    def _receive(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == DATA:
            self.bytes_got += len(payload)
            if self.reads and payload:
                self.input += payload
                self._unframe()
                size = struct.pack(">I", len(payload))
                self._write(frame(WINDOW_UPDATE, 0, 1, size) + frame(WINDOW_UPDATE, 0, 0, size))
        elif kind == SETTINGS and not flags & 1:
            with self.changed:
                for key, value in struct.iter_unpack(">HI", payload):
                    if key == 4:
                        self.windows[1] += value - self.initial
                        self.initial = value
                self.changed.notify_all()
            self._write(frame(SETTINGS, 1, 0))
        elif kind == WINDOW_UPDATE:
            with self.changed:
                self.windows[stream != 0] += struct.unpack(">I", payload)[0]
                self.changed.notify_all()
        elif kind == PING and not flags & 1:
            self._write(frame(PING, 1, 0, payload))
        elif kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM):
            self._end()

    def _unframe(self) -> None:
        at = 0
        while len(self.input) - at >= 5:
            size = struct.unpack_from(">I", self.input, at + 1)[0]
            if len(self.input) - at < 5 + size:
                break
            self.messages.append(bytes(self.input[at + 5:at + 5 + size]))
            at += 5 + size
        del self.input[:at]

    def _write(self, block: bytes) -> None:
        with self.writing:
            self.socket.sendall(block)

    def send(self, block: bytes, seconds: float = 10) -> bool:
        """False when the stream has ended, or the node takes nothing for so long."""
        at = 0
        while at < len(block):
            with self.changed:
                self.changed.wait_for(lambda: min(self.windows) > 0 or self.ended.is_set(), seconds)
                room = min(*self.windows, 16384, len(block) - at)
                if room <= 0 or self.ended.is_set():
                    return False
                self.windows = [window - room for window in self.windows]
            try:
                self._write(frame(DATA, 0, 1, block[at:at + room]))
            except OSError:
                return False
            at += room
        return True

    # Ends of all kinds.

    def half_close(self) -> None:
        self._write(frame(DATA, END_STREAM, 1))

    def cancel(self) -> None:
        self._write(frame(RST_STREAM, 0, 1, CANCEL))

    def break_off(self) -> None:
        """Something that is no message, which ends the stream from the other side."""
        self.send(framed(b"\xff\xff\xff"))

    def close(self) -> None:
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()

    def reset(self) -> None:
        """A connection that is gone at once."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()


class RawSlim(RawStream):
    """The same as an app of one of the families."""

    def __init__(self, address: str, family: str, **how):
        super().__init__(address, **how)
        self.family = family
        self.key: bytes | None = None
        self.link_id = b""
        self.own = Name.of("nobody/tests/raw", int.from_bytes(os.urandom(4), "big") << 8)
        self.last_id = 0
        if family == "B":
            self.open_link()

    header = SlimStream.header

    def open_link(self) -> None:
        private = os.urandom(32)
        self.link_id = os.urandom(16).hex().encode()
        self.send(framed(data(5, data(1, data(1, self.link_id) + data(2, b"3.4.6")
                                      + data(4, x25519(private, BASE_POINT)) + number(5, 2)))))
        theirs = poll(5, lambda: self.messages and path(self.messages[0], 5, 1, 4), 0.01)
        if not theirs:
            raise RuntimeError("the Link is not answered")
        self.key = link_key(x25519(private, theirs), self.link_id)

    def subscription(self, name: Name, id: int = 0, remove: bool = False) -> bytes:
        body = data(1, self.header(name, fanout=1)) + (number(2, id) if id else b"")
        return data(2 if remove else 1, body)

    def publication(self, name: Name, type: int = MSG, session: int = GROUP, id: int = 1, **header):
        """What makes messages with one header."""
        before = data(1, self.header(name, **header)) + data(
            2, number(1, session) + number(2, type) + number(3, 7) + number(4, id))
        return lambda payload: data(3, before + data(3, data(1, data(1, b"msg") + data(2, payload))))

    def subscribe(self, name: Name, seconds: float = 5) -> bool:
        self.last_id += 1
        id_ = self.last_id
        self.send(framed(self.subscription(name, id_)))
        poll(seconds, lambda: id_ in self.acks() or self.ended.is_set(), 0.01)
        return self.acks().get(id_, False)

    def acks(self) -> dict[int, bool]:
        found = [parse(message)[6][0] for message in list(self.messages) if 6 in parse(message)]
        return {parse(ack).get(1, [0])[0]: bool(parse(ack).get(2, [0])[0]) for ack in found}

    def payloads(self) -> list[bytes]:
        return [path(message, 3, 3, 1, 2) or b"" for message in list(self.messages) if 3 in parse(message)]

    def waits_for(self, count: int, seconds: float = 10) -> list[bytes]:
        """Payloads, when there are so many or the time is over."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and len(self.messages) < count:
            time.sleep(0.02)
        poll(max(0, end - time.monotonic()), lambda: len(self.payloads()) >= count, 0.05)
        return self.payloads()
