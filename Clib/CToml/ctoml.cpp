#define TOML_EXCEPTIONS 0
#include "ctoml.h"
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <toml++/toml.h>

static char *copy(const std::string &s) {
  char *p = static_cast<char *>(std::malloc(s.size() + 1));
  if (p) std::memcpy(p, s.c_str(), s.size() + 1);
  return p;
}

extern "C" char *ctoml_parse(const char *text, size_t length, int *failed) {
  toml::parse_result r = toml::parse(std::string_view(text, length));
  std::ostringstream out;
  if (!r) {
    *failed = 1;
    out << r.error().source().begin.line << ":" << r.error().source().begin.column << ": "
        << r.error().description();
    return copy(out.str());
  }
  *failed = 0;
  out << toml::json_formatter(r.table());
  return copy(out.str());
}
