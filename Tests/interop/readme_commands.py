#!/usr/bin/env python3
"""Extracts the commands of README.md and docs/start.md and runs them in the order of the page.

A ```bash block is run when the line before it is an HTML comment that says so:

    <!-- run -->             run it; every line must succeed
    <!-- run: server -->     start it; it must print READY; it runs while the page's other blocks do
    <!-- skip: WHY -->       shown only; every other bash block is a mistake

Commands use the default addresses and `.build/release` on PATH is given; HOME and the data directory are
temporary."""

import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

from node import ROOT, Report, _die_with_parent, arguments, poll

PAGES = ["README.md", "docs/start.md"]
BLOCK = re.compile(r"(?:^<!-- (run|run: server|skip: [^\n]+?) -->\n)?^```bash\n(.*?)^```$", re.M | re.S)


def blocks(page: str) -> list[tuple[str, str, int]]:
    """(mark, text, line) of every bash block."""
    source = (ROOT / page).read_text()
    return [(match.group(1) or "", match.group(2), source[:match.start(2)].count("\n") + 1)
            for match in BLOCK.finditer(source)]


def run_page(page: str, programs: str, report: Report) -> None:
    home = tempfile.mkdtemp(prefix="posthouse-readme-")
    environment = {**os.environ, "HOME": home, "PATH": f"{programs}:{os.environ['PATH']}",
                   "POSTHOUSE_DATA": os.path.join(home, "data"), "NO_COLOR": "1"}
    servers: list[subprocess.Popen] = []
    try:
        for mark, text, line in blocks(page):
            where = f"{page}:{line}"
            first = text.strip().splitlines()[0][:70]
            if mark.startswith("skip"):
                continue
            if not mark:
                report.check(f"{where}: marked as run or skip", False, first)
            elif mark == "run: server":
                log_path = os.path.join(home, f"server-{len(servers)}.log")
                with open(log_path, "wb") as log:
                    servers.append(subprocess.Popen(
                        ["bash", "-ec", "exec " + text.strip()], cwd=ROOT, env=environment, stdout=log,
                        stderr=subprocess.STDOUT, preexec_fn=_die_with_parent))
                ready = poll(30, lambda: "READY " in pathlib.Path(log_path).read_text())
                report.check(f"{where}: {first}", ready, pathlib.Path(log_path).read_text()[-300:])
            else:
                done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], cwd=ROOT, env=environment,
                                      capture_output=True, text=True, timeout=120)
                report.check(f"{where}: {first}", done.returncode == 0,
                             "" if done.returncode == 0 else (done.stdout + done.stderr)[-500:])
    finally:
        for server in servers:
            server.terminate()
            try:
                server.wait(15)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
        shutil.rmtree(home, ignore_errors=True)


def main() -> int:
    a = arguments(__doc__)
    report = Report("commands of the documents")
    for page in PAGES:
        run_page(page, str(pathlib.Path(a.bin).resolve()), report)
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
