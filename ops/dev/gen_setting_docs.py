#!/usr/bin/env python3
"""Writes docs/reference/settings.md from the schema in Base/Settings/SettingSchema.swift. Run from
anywhere; --print only prints."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEAD = """# Settings

<!-- Made from Base/Settings/SettingSchema.swift by ops/dev/gen_setting_docs.py. Do not edit. -->

A TOML file (`--config FILE`), over it the environment, over it flags. Every key can also be given as
`--set NAME=VALUE`. Durations: `250ms`, `90s`, `10m`, `30d`. Sizes: `64KiB`, `1GiB`, or bytes. Lists: `["a", "b"]` in the
file, `a,b` elsewhere. Booleans: `true` and `false` in the file, also `1`, `yes`, `on` and `0`, `no`, `off` elsewhere. An address
that is `off` is not listened on. A dotted name stands in a table: `disk.min_free` is `min_free` under `[disk]`.

An unknown setting in the file or a flag is an error; an unknown `POSTHOUSE_` variable is only a warning, since schedulers set
such on their own. `posthoused --check` says whether a node could run on its settings, and `posthouse config show --origin`
what it uses and where it came from.

| setting | values | default | environment | flag | what it does |
|---|---|---|---|---|---|
"""

# Kinds as people write their values (SettingKind in Base/Settings/SettingKey.swift).
VALUES = {".string": "text", ".boolean": "`true`, `false`", ".duration": "duration", ".window": "duration, `all`, `off`",
          ".bytes": "size", ".address": "`HOST:PORT`, `off`", ".list": "list"}


def calls(source: str):
    """The arguments of each `SettingKey(...)`, as written. Strings hold interpolations, which hold strings."""
    for match in re.finditer(r"SettingKey\((?=\s*\")", source):
        found, start, at = [], match.end(), match.end()
        nesting = ["("]
        while nesting:
            character = source[at]
            if nesting[-1] == '"':
                if source.startswith("\\(", at):
                    nesting.append("(")
                    at += 1
                elif character == '"':
                    nesting.pop()
            elif character == '"':
                nesting.append('"')
            elif character in "([":
                nesting.append(character)
            elif character in ")]":
                nesting.pop()
            elif character == "," and len(nesting) == 1:
                found.append(source[start:at].strip())
                start = at + 1
            at += 1
        found.append(source[start:at - 1].strip())
        yield found


def limits() -> dict[str, int]:
    source = (ROOT / "Base/Base/Limits.swift").read_text()
    found = {}
    for name, expression in re.findall(r"static let (\w+)(?:: \w+)? = ([0-9_ *<]+)", source):
        found[name] = eval(expression.replace("_", ""), {"__builtins__": {}})  # digits, * and << only
    return found


def size(count: int) -> str:
    for unit, step in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count and count % (1 << step) == 0:
            return f"{count >> step}{unit}"
    return str(count)


def default_of(text: str, bounds: dict[str, int]) -> str:
    by_hand = {"data": "`/var/lib/posthouse` or `~/.local/share/posthouse`", "nodeName": "the host's name"}
    if text in by_hand:
        return by_hand[text]
    if match := re.search(r"Limits\.(\w+)", text):
        value = bounds[match.group(1)]
        if "sizeText" in text:
            return f"`{size(value)}`"
        if match := re.search(r"/ ([0-9_]+)\)(\w+)", text):
            return f"`{value // int(match.group(1).replace('_', ''))}{match.group(2)}`"
        return f"`{value}{text.rstrip(chr(34)).rsplit(')', 1)[1]}`"
    plain = text.strip('"')
    return f"`{plain}`" if plain else "empty"


def values_of(kind: str, bounds: dict[str, int]) -> str:
    if kind in VALUES:
        return VALUES[kind]
    if kind.startswith(".choice"):
        return ", ".join(f"`{name}`" for name in re.findall(r'"([^"]+)"', kind))
    low, high = re.fullmatch(r"\.integer\((.+)\.\.\.(.+)\)", kind).groups()
    if high == "Int64.max":
        return f"from {low}"
    if match := re.search(r"Limits\.(\w+)", high):
        return f"{low} to {bounds[match.group(1)]}"
    return f"{low} to {int(high.replace('_', ''))}"


def page() -> str:
    source = (ROOT / "Base/Settings/SettingSchema.swift").read_text()
    bounds = limits()
    rows = []
    for name, kind, standard, text, *rest in calls(source):
        name, text = name.strip('"'), text.strip('"').replace("|", "\\|")
        flag = next((part.split('"')[1] for part in rest if part.startswith("flag:")), "")
        rows.append(f"| `{name}` | {values_of(kind, bounds)} | {default_of(standard, bounds)} "
                    f"| `POSTHOUSE_{name.replace('.', '_').upper()}` | {f'`{flag}`' if flag else ''} "
                    f"| {text} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    if "--print" in sys.argv[1:]:
        sys.stdout.write(page())
    else:
        (ROOT / "docs/reference/settings.md").write_text(page())
