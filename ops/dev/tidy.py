#!/usr/bin/env python3
"""Checks every file of the repository for what a reviewer should not have to say: trailing spaces, tabs,
over-long lines and files, a missing last newline, leftover markers, secrets that look real."""

import re
import subprocess
import sys

FILE_LINES = 620  # "about 500": a file past this wants to be two
LINE_COLUMNS = 130
GENERATED = re.compile(
    r"^(Proto/Messages/|Base/Base/FaultCode\.swift|Node/Relay/Api/OpenApiText\.swift"
    r"|LICENSE$|docs/reference/errors\.md)")
TEXT = re.compile(
    r"(\.(swift|c|cpp|h|modulemap|proto|json|ya?ml|py|sh|md|toml|service|txt|supp)$"
    r"|^(Makefile|LICENSE|\.ci/run|\.gitignore|ops/dev/[a-z]+)$)")
CODE = re.compile(r"\.(swift|c|cpp|h|py)$")
# Written in pieces so that this file does not find itself.
MARKERS = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK"]) + r")\b")
CONFLICT = re.compile(r"^(<{7}|>{7}|={7})( |$)")
SECRET = re.compile(r"sk_live_[a-z2-7]{40,}|-----BEGIN [A-Z ]*PRIVATE KEY-----")


def problems(path: str, text: str) -> list[str]:
    found = []
    lines = text.split("\n")
    generated = GENERATED.match(path)
    prose = path.endswith(".md")
    for number, line in enumerate(lines, 1):
        where = f"{path}:{number}:"
        if line != line.rstrip():
            found.append(f"{where} trailing space")
        if "\t" in line and not path.endswith(("Makefile", ".modulemap")):
            found.append(f"{where} tab")
        if CODE.search(path) and not generated and len(line) > LINE_COLUMNS:
            found.append(f"{where} {len(line)} columns")
        if not prose and MARKERS.search(line):
            found.append(f"{where} leftover marker")
        if CONFLICT.match(line):
            found.append(f"{where} merge conflict")
        if SECRET.search(line) and not path.startswith("Tests/"):
            found.append(f"{where} looks like a secret")
    if text and not text.endswith("\n"):
        found.append(f"{path}: no newline at the end")
    if text.endswith("\n\n"):
        found.append(f"{path}: blank lines at the end")
    # The interop driver is a table of cases.
    if path.endswith("interop/grpc_interop.py"):
        return found
    if CODE.search(path) and not generated and len(lines) > FILE_LINES:
        found.append(f"{path}: {len(lines)} lines, more than {FILE_LINES}")
    return found


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        check=True, capture_output=True).stdout
    count = 0
    found = []
    for path in sorted(name for name in listed.decode().split("\0") if name):
        if not TEXT.search(path):
            continue
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except FileNotFoundError:
            continue
        except UnicodeDecodeError:
            found.append(f"{path}: not UTF-8")
            continue
        count += 1
        found += problems(path, text)
    for line in found:
        print(line)
    print(f"{count} files, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
