#!/usr/bin/env python3
"""Checks the documents: every link resolves (file and heading), every room has its card, every row of
the error catalogue is described, every decision is listed, and the generated pages are fresh."""

import json
import pathlib
import re
import subprocess
import sys

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
CARD_LINES = 40
CARDS = ["Base", "Proto", "Transport", "Registry", "Federation", "Node", "Admin", "Tests"]


def anchors(text: str) -> set[str]:
    """The ids a Markdown page gives its headings."""
    result = set()
    for heading in re.findall(r"^#+ +(.+)$", text, re.M):
        plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        result.add(re.sub(r"\s", "-", re.sub(r"[^\w\- ]", "", plain)).strip("-"))
    return result


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def check_links(pages: list[pathlib.Path]) -> list[str]:
    found = []
    for page in pages:
        for match in LINK.finditer(without_code(page.read_text())):
            target = match.group(1) or match.group(2)
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            file = (page.parent / path).resolve() if path else page.resolve()
            if not file.exists():
                found.append(f"{page}: {target}: no such file")
            elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text()):
                found.append(f"{page}: {target}: no such heading")
    return found


def check_cards() -> list[str]:
    found = []
    for room in CARDS:
        card = pathlib.Path(room, "README.md")
        if not card.exists():
            found.append(f"{card}: missing")
        elif len(card.read_text().splitlines()) > CARD_LINES:
            found.append(f"{card}: more than {CARD_LINES} lines")
    return found


def check_errors() -> list[str]:
    errors = pathlib.Path("docs/reference/errors.md").read_text()
    found = [
        f"docs/reference/errors.md: {row['code']} is missing"
        for row in json.loads(pathlib.Path("Proto/errors.json").read_text())
        if f"`{row['code']}`" not in errors
    ]
    for name in ("errors", "settings"):
        script, page = f"ops/dev/gen_{name[:-1]}_docs.py", f"docs/reference/{name}.md"
        fresh = subprocess.run([sys.executable, script, "--print"], check=True, capture_output=True,
                               text=True).stdout
        if fresh != pathlib.Path(page).read_text():
            found.append(f"{page}: not fresh, run {script}")
    return found


def check_decisions() -> list[str]:
    folder = pathlib.Path("docs/decisions")
    index = (folder / "README.md").read_text()
    return [
        f"{page}: not listed in docs/decisions/README.md"
        for page in sorted(folder.glob("[0-9]*.md")) if page.name not in index
    ]


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "*.md"],
        check=True, capture_output=True).stdout.decode()
    pages = [pathlib.Path(name) for name in listed.split("\0") if name and pathlib.Path(name).exists()]
    found = check_links(pages) + check_cards() + check_errors() + check_decisions()
    for line in found:
        print(line)
    print(f"{len(pages)} pages, {len(found)} problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
