#!/usr/bin/env python3
"""Writes docs/reference/errors.md from Proto/errors.json. Run from anywhere; --print only prints."""

import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
HEAD = """# Errors

<!-- Made from Proto/errors.json by ops/dev/gen_error_docs.py. Do not edit. -->

Every fault a user can see has one row here. HTTP answers carry it as `{"error": TEXT, "code": CODE}`; gRPC
calls end with the status and `CODE: TEXT` as message; `posthouse errors lookup CODE` prints the row.

| code | gRPC | HTTP | retry? | what happened | what to do |
|---|---|---|---|---|---|
"""


def cell(text: str) -> str:
    return text.replace("|", "\\|")


def page() -> str:
    rows = json.loads((ROOT / "Proto/errors.json").read_text())
    return HEAD + "".join(
        f"| `{row['code']}` | {row['grpc']} | {row['http']} | {'yes' if row['retriable'] else 'no'} "
        f"| {cell(row['what'])} | {cell(row['do'])} |\n"
        for row in rows)


if __name__ == "__main__":
    if "--print" in sys.argv[1:]:
        sys.stdout.write(page())
    else:
        (ROOT / "docs/reference/errors.md").write_text(page())
