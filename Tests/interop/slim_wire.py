"""A SLIM client by hand, for what no published application would send: protobuf fields, encoded names
(XXH64), the link of family B (X25519, HKDF, header MAC), and one stream over grpcio. Both families."""

import dataclasses
import hashlib
import hmac
import os
import queue
import struct
import threading
import time

from node import bearer, dial, poll

PATH = "/dataplane.proto.v1.DataPlaneService/OpenChannel"
MASK = (1 << 64) - 1
EVERYBODY = {"A": MASK, "B": (1 << 128) - 1}
MSG, DISCOVERY_REQUEST = 1, 5

# Header fields whose numbers differ between the families.
FIELDS = {"A": {"fanout": 3, "identity": 4, "receive_from": 5, "forward_to": 6, "incoming": 7},
          "B": {"identity": 3, "fanout": 4, "version": 5, "ttl": 6, "receive_from": 7, "forward_to": 8,
                "incoming": 9, "error": 10, "mac": 11}}


# --- protobuf ------------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def data(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def parse(message: bytes) -> dict[int, list]:
    """field number -> its values in order; damage raises."""
    found: dict[int, list] = {}
    at = 0

    def take_varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = take_varint()
        if key & 7 == 0:
            value: int | bytes = take_varint()
        elif key & 7 == 2:
            count = take_varint()
            value = message[at:at + count]
            if len(value) != count:
                raise ValueError("truncated")
            at += count
        else:
            raise ValueError(f"wire type {key & 7}")
        found.setdefault(key >> 3, []).append(value)
    return found


def path(message: bytes, *fields: int):
    """What is found by going down `fields`, or None."""
    value = message
    for field in fields:
        found = parse(value).get(field)
        if not found:
            return None
        value = found[0]
    return value


# --- names ---------------------------------------------------------------------------------------

_P1, _P2, _P3 = 11400714785074694791, 14029467366897019727, 1609587929392839161
_P4, _P5 = 9650029242287828579, 2870177450012600261


def _rotate(value: int, count: int) -> int:
    return (value << count | value >> 64 - count) & MASK


def _round(sum_: int, lane: int) -> int:
    return _rotate((sum_ + lane * _P2) & MASK, 31) * _P1 & MASK


def xxh64(text: bytes) -> int:
    """XXH64 with seed 0 (xxHash specification 0.1.1)."""
    at = 0
    if len(text) >= 32:
        sums = [(_P1 + _P2) & MASK, _P2, 0, -_P1 & MASK]
        while at + 32 <= len(text):
            for i, lane in enumerate(struct.unpack_from("<4Q", text, at)):
                sums[i] = _round(sums[i], lane)
            at += 32
        hashed = sum(_rotate(s, c) for s, c in zip(sums, (1, 7, 12, 18))) & MASK
        for s in sums:
            hashed = ((hashed ^ _round(0, s)) * _P1 + _P4) & MASK
    else:
        hashed = _P5
    hashed = (hashed + len(text)) & MASK
    while at + 8 <= len(text):
        hashed ^= _round(0, struct.unpack_from("<Q", text, at)[0])
        hashed = (_rotate(hashed, 27) * _P1 + _P4) & MASK
        at += 8
    if at + 4 <= len(text):
        hashed ^= struct.unpack_from("<I", text, at)[0] * _P1 & MASK
        hashed = (_rotate(hashed, 23) * _P2 + _P3) & MASK
        at += 4
    for byte in text[at:]:
        hashed = _rotate(hashed ^ byte * _P5 & MASK, 11) * _P1 & MASK
    for shift, prime in ((33, _P2), (29, _P3), (32, 1)):
        hashed = (hashed ^ hashed >> shift) * prime & MASK
    return hashed


def component(text: str) -> int:
    return xxh64(text.encode() + b"\xff")


@dataclasses.dataclass(frozen=True)
class Name:
    """What goes on the wire: numbers, and texts that say, or pretend, the same."""

    parts: tuple[int, int, int] | None
    id: int | None = None                       # None: left out
    texts: tuple[str, str, str] | None = None

    @staticmethod
    def of(text: str, id: int | None = None) -> "Name":
        words = tuple(text.split("/"))
        return Name(tuple(component(word) for word in words), id, words)

    def encode(self, family: str) -> bytes:
        out = b""
        if self.parts is not None:
            encoded = b"".join(number(i, part) for i, part in enumerate(self.parts, 1))
            if self.id is not None and family == "A":
                encoded += number(4, self.id)
            elif self.id is not None:
                encoded += data(4, number(1, self.id >> 64) + number(2, self.id & MASK))
            out += data(1, encoded)
        if self.texts is not None:
            out += data(2, b"".join(data(i, text.encode()) for i, text in enumerate(self.texts, 1)))
        return out


# --- the link of family B ------------------------------------------------------------------------

_FIELD = (1 << 255) - 19


def x25519(private: bytes, public: bytes) -> bytes:
    """RFC 7748 section 5; for tests only, its time depends on the key."""
    k = int.from_bytes(private, "little") & ~7 & (1 << 255) - 1 | 1 << 254
    u = int.from_bytes(public, "little") & (1 << 255) - 1
    x2, z2, x3, z3 = 1, 0, u, 1
    for bit in range(254, -1, -1):
        if k >> bit & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
        a, b, c, d = x2 + z2, x2 - z2, x3 + z3, x3 - z3
        aa, bb, da, cb = a * a, b * b, d * a, c * b
        e = aa - bb
        x3, z3 = (da + cb) ** 2 % _FIELD, u * (da - cb) ** 2 % _FIELD
        x2, z2 = aa * bb % _FIELD, e * (aa + 121665 * e) % _FIELD
        if k >> bit & 1:
            x2, z2, x3, z3 = x3, z3, x2, z2
    return (x2 * pow(z2, _FIELD - 2, _FIELD) % _FIELD).to_bytes(32, "little")


BASE_POINT = (9).to_bytes(32, "little")


def link_key(shared: bytes, link_id: bytes) -> bytes:
    """HKDF-SHA256, one block."""
    extracted = hmac.digest(link_id, shared, hashlib.sha256)
    return hmac.digest(extracted, b"SLIM-DP-inter-node-hmac-v1\x01", hashlib.sha256)


def header_mac(key: bytes, link_id: bytes, header: bytes) -> bytes:
    fields = parse(header)

    def counted(value: bytes) -> bytes:
        return struct.pack("<I", len(value)) + value

    def optional(field: int) -> bytes:
        return b"\1" + struct.pack("<Q", fields[field][0]) if field in fields else b"\0"

    def name(field: int) -> bytes:
        if field not in fields:
            return b"\0"
        inner = parse(fields[field][0])
        out = b"\1"
        if 1 in inner:
            encoded = parse(inner[1][0])
            out += b"\1" + b"".join(struct.pack("<Q", encoded.get(i, [0])[0]) for i in (1, 2, 3))
            if 4 in encoded:
                id_ = parse(encoded[4][0])
                out += b"\1" + b"".join(struct.pack("<Q", id_.get(i, [0])[0]) for i in (1, 2))
            else:
                out += b"\0"
        else:
            out += b"\0"
        if 2 in inner:
            texts = parse(inner[2][0])
            out += b"\1" + b"".join(counted(texts.get(i, [b""])[0]) for i in (1, 2, 3))
        else:
            out += b"\0"
        return out

    def small(field: int) -> bytes:
        return struct.pack("<I", fields.get(field, [0])[0])

    error = b"\1" + bytes([fields[10][0]]) if 10 in fields else b"\0"
    text = (b"SLIM-DP-HDR-v1\0" + counted(link_id) + name(1) + name(2) + counted(fields.get(3, [b""])[0])
            + small(4) + optional(7) + optional(8) + error + small(6))
    return hmac.digest(key, text, hashlib.sha256)


# --- a stream ------------------------------------------------------------------------------------


class SlimStream:
    """One stream of one application; a reader thread sorts what arrives into `acks` (id to (success, error))
    and `publishes` (whole messages)."""

    def __init__(self, address: str, family: str, token: str | None = None, link: bool = True):
        self.family = family
        self.key: bytes | None = None
        self.link_id = b""
        self.acks: dict[int, tuple[bool, str]] = {}
        self.publishes: list[bytes] = []
        self.links: list[bytes] = []
        self.error = None
        self.ended = threading.Event()
        self.last_id = int.from_bytes(os.urandom(4), "big") << 16
        self.own = Name.of("nobody/tests/raw", self.last_id)
        self.outbox: queue.Queue = queue.Queue()
        self.channel = dial(address)
        self.call = self.channel.stream_stream(PATH)(iter(self.outbox.get, None), metadata=bearer(token))
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        if family == "B" and link:
            self.open_link()

    def __enter__(self) -> "SlimStream":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def _read(self) -> None:
        import grpc
        try:
            for message in self.call:
                fields = parse(message)
                if 6 in fields:
                    ack = parse(fields[6][0])
                    self.acks[ack.get(1, [0])[0]] = (bool(ack.get(2, [0])[0]),
                                                     ack.get(3, [b""])[0].decode(errors="replace"))
                elif 5 in fields:
                    self.links.append(fields[5][0])
                elif 3 in fields:
                    self.publishes.append(message)
        except grpc.RpcError as error:
            self.error = error
        self.ended.set()

    def send(self, message: bytes) -> None:
        self.outbox.put(message)

    def open_link(self, seconds: float = 5) -> bool:
        private = os.urandom(32)
        self.link_id = os.urandom(16).hex().encode()
        self.send(data(5, data(1, data(1, self.link_id) + data(2, b"3.4.6")
                                + data(4, x25519(private, BASE_POINT)) + number(5, 2))))
        if not poll(seconds, lambda: self.links or self.ended.is_set()) or not self.links:
            return False
        theirs = path(self.links[0], 1, 4)
        if theirs:
            self.key = link_key(x25519(private, theirs), self.link_id)
        return True

    def header(self, destination: Name, source: Name | None = None, fanout: int = 256, ttl: int = 8,
               mac: bytes | None = None, **more: int) -> bytes:
        """`more`: receive_from, forward_to, incoming; `mac` in the place of the right one."""
        number_of = FIELDS[self.family]
        out = data(1, (source or self.own).encode(self.family)) + data(2, destination.encode(self.family))
        out += data(number_of["identity"], b"raw") + number(number_of["fanout"], fanout)
        if self.family == "B":
            out += data(number_of["version"], b"3.4.6") + number(number_of["ttl"], ttl)
        out += b"".join(number(number_of[what], value) for what, value in more.items())
        if self.key:
            out += data(number_of["mac"], mac or header_mac(self.key, self.link_id, out))
        return out

    def subscribe(self, destination: Name, *, remove: bool = False, acknowledge: bool = True, **header):
        """The id under which the answer comes."""
        self.last_id += 1
        body = data(1, self.header(destination, fanout=1, **header))
        if acknowledge:
            body += number(2, self.last_id)
        self.send(data(2 if remove else 1, body))
        return self.last_id

    def subscribed(self, destination: Name, seconds: float = 5, **header) -> bool:
        """Whether the node took it; silence and an ended stream are no."""
        id_ = self.subscribe(destination, **header)
        poll(seconds, lambda: id_ in self.acks or self.ended.is_set())
        return self.acks.get(id_, (False, ""))[0]

    def publish(self, destination: Name, payload: bytes, *, type: int = MSG, **header) -> None:
        session = number(1, 2) + number(2, type) + number(3, 7) + number(4, 1)
        content = data(1, data(1, b"msg") + data(2, payload))
        self.send(data(3, data(1, self.header(destination, **header)) + data(2, session)
                       + data(3, content)))

    def payloads(self) -> list[bytes]:
        return [path(message, 3, 3, 1, 2) or b"" for message in list(self.publishes)]

    def gets(self, payload: bytes, seconds: float = 5) -> bool:
        return bool(poll(seconds, lambda: payload in self.payloads()))

    def close(self) -> None:
        self.outbox.put(None)
        self.call.cancel()
        self.channel.close()
        self.reader.join(5)


def settle(*streams: SlimStream, seconds: float = 0.5) -> None:
    """Lets what could still come come: for proving that nothing does."""
    time.sleep(seconds)
    assert all(stream.error is None or stream.ended.is_set() for stream in streams)
