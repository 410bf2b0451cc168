#pragma once
// toml++ behind a C header: text in, a flat list of keys with their lines or one error out.
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
/// Parses `length` bytes. Returns 0 and a malloc'ed list, 1 and "line:column: why", -1 without memory.
/// An item of the list, all integers little-endian: u8 type, u32 line, u32 path length, path,
/// u32 value length, value. Types: s string, i integer, f float, b boolean, d date or time, o what we
/// take nowhere (a table inside an array), [ array: its value is the count of elements, which follow
/// it as items of the same path. Parts of a path are joined by '.'; a part that is no bare key
/// stands in quotes.
int ctoml_parse(const char *text, size_t length, uint8_t **out, size_t *out_length);
#ifdef __cplusplus
}
#endif
