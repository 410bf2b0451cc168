// No exceptions: an error is a value, and nothing may unwind through C or Swift frames.
#define TOML_EXCEPTIONS 0
#include "ctoml.h"
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>
#include <toml++/toml.h>

namespace {

void put32(std::string &out, size_t n) {
  for (int i = 0; i < 4; i++) out.push_back(static_cast<char>((n >> (8 * i)) & 0xff));
}

void item(std::string &out, char type, size_t line, const std::string &path, const std::string &value) {
  out.push_back(type);
  put32(out, line);
  put32(out, path.size());
  out += path;
  put32(out, value.size());
  out += value;
}

std::string join(const std::string &path, std::string_view key) {
  bool bare = !key.empty();
  for (char c : key) {
    bare = bare && ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '_' || c == '-');
  }
  std::string part = bare ? std::string(key) : "\"" + std::string(key) + "\"";
  return path.empty() ? part : path + "." + part;
}

template <typename T> std::string shown(const T &value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

void walk(std::string &out, const std::string &path, const toml::node &node, bool in_array) {
  size_t line = node.source().begin.line;
  if (auto t = node.as_table()) {
    if (in_array) return item(out, 'o', line, path, "");
    for (auto &&[key, child] : *t) walk(out, join(path, key.str()), child, false);
  } else if (auto a = node.as_array()) {
    if (in_array) return item(out, 'o', line, path, "");
    item(out, '[', line, path, std::to_string(a->size()));
    for (auto &&child : *a) walk(out, path, child, true);
  } else if (auto s = node.as_string()) {
    item(out, 's', line, path, s->get());
  } else if (auto i = node.as_integer()) {
    item(out, 'i', line, path, std::to_string(i->get()));
  } else if (auto f = node.as_floating_point()) {
    item(out, 'f', line, path, shown(f->get()));
  } else if (auto b = node.as_boolean()) {
    item(out, 'b', line, path, b->get() ? "true" : "false");
  } else {
    item(out, 'd', line, path, "");
  }
}

} // namespace

extern "C" int ctoml_parse(const char *text, size_t length, uint8_t **out, size_t *out_length) {
  toml::parse_result result = toml::parse(std::string_view(text, length));
  std::string flat;
  if (result) {
    walk(flat, "", result.table(), false);
  } else {
    auto at = result.error().source().begin;
    flat = std::to_string(at.line) + ":" + std::to_string(at.column) + ": " +
           std::string(result.error().description());
  }
  auto *copy = static_cast<uint8_t *>(std::malloc(flat.size() + 1));
  if (!copy) return -1;
  std::memcpy(copy, flat.data(), flat.size());
  *out = copy;
  *out_length = flat.size();
  return result ? 0 : 1;
}
