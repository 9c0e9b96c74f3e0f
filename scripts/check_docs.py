"""Checks of the documentation: links lead somewhere, records and pages are listed, every room is on the map.

Run by `make check`. Commands on the pages are executed by tests/docs, not here.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")
STATUS = re.compile(r"in force|superseded by \d+|withdrawn")


def links(root: Path, pages: list[str]) -> Iterator[str]:
    """Links inside the repository that lead nowhere."""
    for name in pages:
        page = root / name
        for n, line in enumerate(page.read_text("utf-8").splitlines(), 1):
            for target in LINK.findall(line):
                if "://" not in target and not (page.parent / target).exists():
                    yield f"{name}:{n}: the link {target} leads nowhere"


def records(root: Path, pages: list[str]) -> Iterator[str]:
    """Decision records that the index does not list with a status, and numbers that two records have."""
    index = root / "docs/decisions/README.md"
    rows = index.read_text("utf-8").splitlines() if index.exists() else []
    taken: dict[str, str] = {}
    for name in pages:
        found = re.fullmatch(r"docs/decisions/((\d+)-[^/]+\.md)", name)
        if found is None:
            continue
        file, number = found[1], found[2]
        if number in taken:
            yield f"{name}: {taken[number]} has this number, too; take the next free one"
        taken[number] = file
        row = next((r for r in rows if f"({file})" in r), None)
        if row is None:
            yield f"docs/decisions/README.md: does not list {file}; add a line with its status"
        elif not STATUS.search(row):
            yield f"docs/decisions/README.md: says no status of {file}: in force, superseded by N, or withdrawn"


def listed(root: Path, pages: list[str]) -> Iterator[str]:
    """Pages for users that the list of all pages leaves out."""
    index = root / "docs/README.md"
    text = index.read_text("utf-8") if index.exists() else ""
    for name in pages:
        if (
            re.fullmatch(r"docs/(how-to/|reference/|explanation/)?[^/]+\.md", name)
            and name != "docs/README.md"
        ):
            if f"({name.removeprefix('docs/')})" not in text:
                yield f"docs/README.md: does not list {name}; add a link"


def rooms(root: Path, pages: list[str]) -> Iterator[str]:
    """Folders of the source that the map does not name."""
    page = root / "docs/architecture.md"
    text = page.read_text("utf-8") if page.exists() else ""
    for file in sorted((root / "src/seawall").rglob("__init__.py")):
        room = file.parent.name
        if room != "seawall" and not re.search(rf"\b{room}/", text):
            yield f"docs/architecture.md: does not say what {file.parent.relative_to(root)}/ is for"


CHECKS: tuple[Callable[[Path, list[str]], Iterator[str]], ...] = (links, records, listed, rooms)


def problems(root: Path, pages: list[str]) -> list[str]:
    """What is wrong with these pages, one line each."""
    return [line for check in CHECKS for line in check(root, pages)]


def main() -> int:
    root = Path(__file__).resolve().parent.parent
    asked = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    out = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=True).stdout
    pages = sorted({name for name in out.split() if (root / name).exists()})
    bad = problems(root, pages)
    print(
        "\n".join(bad)
        if bad
        else f"docs: {len(pages)} pages, every link leads somewhere, everything is listed"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
