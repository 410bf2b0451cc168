"""The other side of DifferentialTests: Python's protobuf runtime on the same schema.

  differential.py generate SCHEMA_DIR SEED COUNT   lines `type hex`: random messages, then damaged ones
  differential.py check SCHEMA_DIR                 lines `type hex answer` on standard input; `answer` is
                                                   our re-encoding in hex, or `!error`
"""
import os
import random
import re
import sys
import tempfile

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, unknown_fields
from google.protobuf.message import DecodeError
from grpc_tools import protoc


def load(schema):
    files = sorted(
        os.path.relpath(os.path.join(d, f), schema)
        for d, _, names in os.walk(schema) for f in names if f.endswith(".proto"))
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "set")
        if protoc.main(["protoc", "-I" + schema, "--descriptor_set_out=" + out, *files]):
            sys.exit("the schema does not compile")
        with open(out, "rb") as f:
            found = descriptor_pb2.FileDescriptorSet.FromString(f.read())
    pool = descriptor_pool.DescriptorPool()
    for f in found.file:
        pool.Add(f)
    classes = {}

    def add(d):
        if not d.GetOptions().map_entry:
            classes[d.full_name] = message_factory.GetMessageClass(d)
        for n in d.nested_types:
            add(n)

    for f in found.file:
        for d in pool.FindFileByName(f.name).message_types_by_name.values():
            add(d)
    return classes


TEXTS = ["", "a", "org", "naïve", "日本語", "😀" * 3, "x" * 200, "\0", "a/b/c"]


def scalar(r, f):
    t = f.type
    if t == f.TYPE_STRING:
        return r.choice(TEXTS)
    if t == f.TYPE_BYTES:
        return r.randbytes(r.choice([0, 1, 2, 127, 128, 300]))
    if t == f.TYPE_BOOL:
        return r.random() < 0.5
    if t == f.TYPE_ENUM:
        return r.choice([v.number for v in f.enum_type.values] + [77, -1, 2**31 - 1])
    if t in (f.TYPE_DOUBLE, f.TYPE_FLOAT):
        return r.choice([0.0, -0.0, 1.5, -2.0**60, float("inf")])
    unsigned = t in (f.TYPE_UINT32, f.TYPE_UINT64, f.TYPE_FIXED32, f.TYPE_FIXED64)
    bits = 64 if t in (
        f.TYPE_INT64, f.TYPE_UINT64, f.TYPE_SINT64, f.TYPE_FIXED64, f.TYPE_SFIXED64) else 32
    low, high = (0, 2**bits - 1) if unsigned else (-(2**(bits - 1)), 2**(bits - 1) - 1)
    return r.choice([0, 1, 127, 128, 16383, 16384, low, high, r.randint(low, high)])


def fill(r, m, depth=0):
    for f in m.DESCRIPTOR.fields:
        if r.random() < 0.35:
            continue
        if f.message_type is not None and f.message_type.GetOptions().map_entry:
            value = f.message_type.fields_by_name["value"]
            for _ in range(r.randint(0, 3)):
                key = scalar(r, f.message_type.fields_by_name["key"])
                if value.message_type is not None:
                    fill(r, getattr(m, f.name)[key], depth + 1)
                else:
                    getattr(m, f.name)[key] = scalar(r, value)
        elif f.is_repeated:
            for _ in range(r.randint(0, 3)):
                if f.message_type is not None:
                    fill(r, getattr(m, f.name).add(), depth + 1)
                else:
                    getattr(m, f.name).append(scalar(r, f))
        elif f.message_type is not None:
            getattr(m, f.name).SetInParent()
            fill(r, getattr(m, f.name), depth + 1)
        else:
            setattr(m, f.name, scalar(r, f))


def damaged(r, b, other):
    b = bytearray(b)
    kind = r.randrange(6)
    if kind == 0 and b:
        b[r.randrange(len(b))] ^= 1 << r.randrange(8)
    elif kind == 1 and b:
        del b[r.randrange(len(b)):]
    elif kind == 2:
        b += other  # a second message behind the first: merged
    elif kind == 3:
        # unknown fields of every wire type
        b += bytes([0xf8, 0x3f, 0x96, 0x01, 0xf9, 0x3f]) + r.randbytes(8)
        b += bytes([0xfa, 0x3f, 0x02, 0, 255, 0xfd, 0x3f]) + r.randbytes(4)
    elif kind == 4 and b:
        at = r.randrange(len(b))
        b[at:at] = r.randbytes(r.randint(1, 4))
    elif b:
        b[r.randrange(len(b))] = r.randrange(256)
    return bytes(b)


def generate(classes, seed, count):
    r = random.Random(seed)
    names = sorted(classes)
    for i in range(count):
        name = names[i % len(names)]
        both = []
        for _ in range(2):
            m = classes[name]()
            fill(r, m)
            both.append(m.SerializeToString(deterministic=True))
        print(name, both[0].hex() or "-")
        print(name, damaged(r, *both).hex() or "-")


def holds_group(data):
    """True when a field with wire type 3 or 4 can be met anywhere a reader may look."""
    return any(b & 7 in (3, 4) for b in data)


def holds_wide_varint(data):
    """True when ten bytes can be read as a varint of more than 64 bits."""
    return re.search(rb"[\x80-\xff]{9}[\x02-\x7f]", data) is not None


def has_unknown(m):
    if len(unknown_fields.UnknownFieldSet(m)):
        return True
    for f, v in m.ListFields():
        if f.message_type is None:
            continue
        if f.message_type.GetOptions().map_entry:
            if f.message_type.fields_by_name["value"].message_type is not None:
                if any(has_unknown(x) for x in v.values()):
                    return True
        elif any(has_unknown(x) for x in (v if f.is_repeated else [v])):
            return True
    return False


def loses_entry(m):
    """True when Python put a map entry aside because it holds an unknown field. Other runtimes, and
    ours, skip that field and keep the entry."""
    maps = {f.number for f in m.DESCRIPTOR.fields
            if f.message_type is not None and f.message_type.GetOptions().map_entry}
    return any(u.field_number in maps for u in unknown_fields.UnknownFieldSet(m))


def check(classes):
    seen = refused = unknown = 0
    for line in sys.stdin:
        name, data, answer = line.split()
        data = b"" if data == "-" else bytes.fromhex(data)
        cls = classes[name]
        try:
            m = cls.FromString(data)
        except DecodeError:
            m = None
        seen += 1
        if answer.startswith("!"):
            refused += 1
            # Python skips groups inside unknown fields and cuts varints to 64 bits; we refuse both.
            ours = answer == "!badTag" and holds_group(data)
            ours |= answer == "!malformed" and holds_wide_varint(data)
            if m is not None and not ours:
                sys.exit(f"{name} {data.hex()}: Python decodes it, we say {answer}")
            continue
        if m is None:
            sys.exit(f"{name} {data.hex()}: Python refuses it, we decode it as {answer}")
        unknown += has_unknown(m)
        # Only messages at the top of our schema hold maps.
        if loses_entry(m):
            continue
        m.DiscardUnknownFields()
        ours = cls.FromString(b"" if answer == "-" else bytes.fromhex(answer))
        if has_unknown(ours):
            sys.exit(f"{name} {data.hex()}: our encoding {answer} has unknown fields")
        if ours.SerializeToString(deterministic=True) != m.SerializeToString(deterministic=True):
            sys.exit(f"{name} {data.hex()}: decoded differently, ours {answer}")
    print(f"seen={seen} refused={refused} unknown={unknown}")


if __name__ == "__main__":
    known = load(sys.argv[2])
    if sys.argv[1] == "generate":
        generate(known, int(sys.argv[3]), int(sys.argv[4]))
    else:
        check(known)
