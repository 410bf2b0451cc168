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
`--set NAME=VALUE`. Durations: `250ms`, `90s`, `10m`, `30d`. Sizes: `64KiB`, `1GiB`, or bytes. A dotted name
stands in a table: `disk.min_free` is `min_free` under `[disk]`. `posthouse config show --origin` shows what a
node uses and where it came from.

| setting | default | environment | flag | what it does |
|---|---|---|---|---|
"""


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


def page() -> str:
    source = (ROOT / "Base/Settings/SettingSchema.swift").read_text()
    bounds = limits()
    rows = []
    for name, _, standard, text, *rest in calls(source):
        name, text = name.strip('"'), text.strip('"').replace("|", "\\|")
        flag = next((part.split('"')[1] for part in rest if part.startswith("flag:")), "")
        rows.append(f"| `{name}` | {default_of(standard, bounds)} "
                    f"| `POSTHOUSE_{name.replace('.', '_').upper()}` | {f'`{flag}`' if flag else ''} "
                    f"| {text} |\n")
    return HEAD + "".join(rows)


if __name__ == "__main__":
    if "--print" in sys.argv[1:]:
        sys.stdout.write(page())
    else:
        (ROOT / "docs/reference/settings.md").write_text(page())
