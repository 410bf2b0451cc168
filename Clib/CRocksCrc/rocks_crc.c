#define _GNU_SOURCE
#include "include/rocks_crc.h"

#include <dlfcn.h>

#if defined(__x86_64__)
#include <isa-l/crc.h>

uint32_t rocks_crc_extend(uint32_t crc, const char *bytes, size_t count) {
  uint32_t state = ~crc;
  // ISA-L counts in int, and reads only, though its parameter is not const.
  while (count > 0) {
    size_t part = count < (1u << 30) ? count : (1u << 30);
    state = crc32_iscsi((unsigned char *)bytes, (int)part, state);
    bytes += part;
    count -= part;
  }
  return ~state;
}

/// `rocksdb::crc32c::Extend(unsigned int, char const*, unsigned long)`.
uint32_t _ZN7rocksdb6crc32c6ExtendEjPKcm(uint32_t crc, const char *bytes, size_t count) {
  return rocks_crc_extend(crc, bytes, count);
}

int rocks_crc_stands_in(void) {
  return dlsym(RTLD_DEFAULT, "_ZN7rocksdb6crc32c6ExtendEjPKcm") == (void *)_ZN7rocksdb6crc32c6ExtendEjPKcm;
}
#else
// Other builds of the library know the instructions of their processors.
int rocks_crc_stands_in(void) { return 0; }
#endif
