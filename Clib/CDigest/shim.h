// xxhash: XXH64 names slots and channels (SLIM's component hash), XXH3-128 chains archive records.
// ISA-L: CRC32C with run-time dispatch to SSE4.2/PCLMUL.
#include <stdint.h>
#include <stddef.h>
#include <xxhash.h>
#if defined(__x86_64__)
// Chooses AVX2 or AVX-512 where the processor has it; the plain functions stop at SSE2.
#include <xxh_x86dispatch.h>
#endif
#include <isa-l/crc.h>
