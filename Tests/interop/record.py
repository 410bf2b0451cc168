#!/usr/bin/env python3
"""The tables of docs/proofs.md: a row for each test, replaced when that test runs again and by nothing else. The
last column says which commit it was (`+`: with changes) and the day.

  record.py PAGE COUNTS NAME SHOWS RESULT SECONDS FIGURES"""

import datetime
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLUMNS = ["test", "what it shows", "result", "time", "figures", "run on"]
HEAD = f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
FIGURES = 400   # characters


def git(*words: str) -> str:
    return subprocess.run(["git", *words], capture_output=True, text=True, cwd=ROOT).stdout


def commit(page: pathlib.Path) -> str:
    head = git("rev-parse", "--short", "HEAD").strip() or "unknown"
    changed = [line[3:] for line in git("status", "--porcelain", "--untracked-files=no").splitlines()]
    return head + ("+" if any(ROOT / name != page for name in changed) else "")


def row(page: pathlib.Path, name: str, shows: str, result: str, seconds: float, figures: str) -> str:
    day = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d")
    cells = [name, shows, result, f"{seconds:.0f} s", " ".join(figures.split())[:FIGURES],
             f"{commit(page)}, {day}"]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def with_row(block: str, name: str, line: str, keep: bool) -> str:
    """The text between the markers with `line` in place of that test's row, or behind the last one. `keep`: a row
    that is there stays."""
    lines = block.splitlines()
    rows = [number for number, text in enumerate(lines) if text.startswith("|")]
    if not rows:
        return block + ("\n" if block.strip() else "") + HEAD + line + "\n"
    for number in rows[2:]:
        if lines[number].split("|")[1].strip() == name:
            lines[number] = lines[number] if keep else line
            break
    else:
        lines.insert(rows[-1] + 1, line)
    return "\n".join(lines) + "\n"


def record(path: str, counts: str, name: str, shows: str, result: str, seconds: float, figures: str) -> None:
    """A test that was skipped takes no result away."""
    page = pathlib.Path(path).resolve()
    begin, end = f"<!-- {counts}: begin -->\n", f"<!-- {counts}: end -->"
    old = page.read_text() if page.exists() else f"# Proofs\n\n{begin}{end}\n"
    if begin not in old or end not in old:
        raise SystemExit(f"{path} has no markers {begin.strip()} ... {end}")
    head, rest = old.split(begin, 1)
    block, tail = rest.split(end, 1)
    line = row(page, name, shows, result, seconds, figures)
    fresh = page.with_suffix(".new")
    fresh.write_text(head + begin + with_row(block, name, line, keep=result == "SKIP") + end + tail)
    os.replace(fresh, page)


if __name__ == "__main__":
    if len(sys.argv) != 8:
        sys.exit(__doc__)
    record(*sys.argv[1:6], float(sys.argv[6]), sys.argv[7])
