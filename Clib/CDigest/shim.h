// xxhash: XXH64 names slots and channels (SLIM's component hash), XXH3-128 chains archive records.
// ISA-L: CRC32C with run-time dispatch to SSE4.2/PCLMUL.
#include <stdint.h>
#include <stddef.h>
#include <xxhash.h>
#include <isa-l/crc.h>
