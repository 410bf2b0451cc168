"""A work-around, in memory only, for a defect of the published Linux wheels of skytale-sdk.

The native modules of 0.2.0 to 0.5.2 link reqwest without any TLS provider, so that a client given an API
key panics ("No provider set") before it sends a byte, even to an http:// address. `install()` puts a dummy
rustls CryptoProvider (one suite, one key-exchange group, every method a constant) into the process's
default slot; plain http:// token exchange and the JWT on the stream then work as designed. The package's
files stay as they are; TLS still cannot work. x86-64 Linux; call it before the first client is made.
"""

import ctypes
import mmap
import os
import struct

SYMBOL_TABLE = 2
SLOT = b"PROCESS_DEFAULT_PROVIDER"
PAGE_BYTES = 16384
# Where things stand in the page.
RETURN_3, RETURN_0, OBJECT, METHODS, SUITES, GROUPS, PROVIDER = 0, 16, 4096, 6144, 8192, 8448, 8704

_kept: list[mmap.mmap] = []


def _address_of(path: str, wanted: bytes) -> int:
    """The value of an ELF symbol whose name holds `wanted`."""
    with open(path, "rb") as file:
        image = file.read()
    table, = struct.unpack_from("<Q", image, 0x28)
    entry_bytes, entries = struct.unpack_from("<HH", image, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", image, table + i * entry_bytes)
                for i in range(entries)]
    for section in sections:
        if section[1] != SYMBOL_TABLE:
            continue
        names = sections[section[6]][4]
        for at in range(section[4], section[4] + section[5], 24):
            name, _, _, _, value, _ = struct.unpack_from("<IBBHQQ", image, at)
            if wanted in image[names + name:image.index(b"\0", names + name)]:
                return value
    raise RuntimeError(f"{wanted.decode()} is not in {path}")


def install() -> str:
    import skytale_sdk._native as native
    path = native.__file__
    with open("/proc/self/maps") as maps:
        base = min(int(line.split("-")[0], 16) for line in maps
                   if line.rstrip().endswith(os.path.basename(path)))
    # OnceLock<Arc<CryptoProvider>>: the pointer, then the state (3: empty, 0: set).
    slot = base + _address_of(path, SLOT)
    state = ctypes.c_uint32.from_address(slot + 8)
    if state.value == 0:
        return "already set"
    page = mmap.mmap(-1, PAGE_BYTES, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))

    def word(at: int, value: int) -> None:
        page[at:at + 8] = struct.pack("<Q", value)

    page[RETURN_3:RETURN_3 + 6] = b"\xb8\x03\0\0\0\xc3"  # mov eax, 3; ret (X25519 as a group's name)
    page[RETURN_0:RETURN_0 + 3] = b"\x31\xc0\xc3"        # xor eax, eax; ret
    word(METHODS, start + RETURN_0)
    word(METHODS + 8, 0)
    word(METHODS + 16, 1)
    for i in range(3, 32):
        word(METHODS + 8 * i, start + RETURN_3)
    for i in range(0, 1024, 16):
        word(OBJECT + i, start + OBJECT)
        word(OBJECT + i + 8, start + METHODS)
    word(SUITES, 1)                                      # a TLS 1.3 suite
    word(SUITES + 8, start + OBJECT)
    word(GROUPS, start + OBJECT)
    word(GROUPS + 8, start + METHODS)
    fields = [1 << 40, 1 << 40,                          # reference counts: never freed
              1, start + SUITES, 1, 1, start + GROUPS, 1,
              8, 0, 8, 0,                                # no signature algorithms
              start + OBJECT, start + METHODS, start + OBJECT, start + METHODS]
    for i, value in enumerate(fields):
        word(PROVIDER + 8 * i, value)
    _kept.append(page)
    ctypes.c_uint64.from_address(slot).value = start + PROVIDER
    state.value = 0
    return "installed"
