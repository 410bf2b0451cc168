#pragma once
// toml++ behind a C header: text in, JSON text or an error with line and column out.
#include <stddef.h>
#ifdef __cplusplus
extern "C" {
#endif
/// Returns malloc'ed UTF-8: the document as JSON when *failed is 0, "line:column: why" when it is 1.
char *ctoml_parse(const char *text, size_t length, int *failed);
#ifdef __cplusplus
}
#endif
