// The archive's storage engine, through its C API.
#include <rocksdb/c.h>
