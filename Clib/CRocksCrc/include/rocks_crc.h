// RocksDB checks each record of its log with CRC-32C. Debian builds it for processors without the instruction for that,
// so it works with tables: a quarter of what a written message costs. The library calls the function by its symbol, so
// the one of this program stands in for it: ISA-L's, which chooses by processor (the linker exports what a library it
// links refers to). The checksum is the same; where the symbol is not called, nothing changes.
#pragma once
#include <stddef.h>
#include <stdint.h>

/// What stands in: the CRC-32C of what `crc` is that of, with `count` more bytes behind it.
uint32_t rocks_crc_extend(uint32_t crc, const char *bytes, size_t count);

/// Whether a call through the dynamic linker arrives here.
int rocks_crc_stands_in(void);
