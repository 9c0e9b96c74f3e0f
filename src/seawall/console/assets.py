"""The console's files: the page, its modules and style, and, where they were fetched, the libraries that it draws with.

The libraries come out of published packages, pinned by hash (scripts/console_libs.sh), and lie in `static/lib`. They
are part of what is built, never of the repository; without them the page shows plain tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

STATIC = Path(__file__).parent / "static"
ROOT = "/console"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
LIBRARIES = {"preact": "lib/preact.mjs", "uplot": "lib/uPlot.esm.js"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from anywhere else, nothing inline."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


@dataclass(frozen=True)
class Asset:
    """A file as it is sent."""

    kind: str
    body: bytes


def asset(path: str) -> Asset | None:
    """The file at a path below ROOT; None: there is none. Nothing outside of STATIC is ever read."""
    name = path.removeprefix(ROOT).lstrip("/") or "index.html"
    if name not in known():
        return None
    file = STATIC / name
    try:
        return Asset(TYPES[file.suffix], file.read_bytes())
    except OSError:
        return None


def known() -> frozenset[str]:
    """Names of all files that are there, relative to STATIC."""
    files = (f for f in STATIC.rglob("*") if f.suffix in TYPES and f.is_file())
    return frozenset(f.relative_to(STATIC).as_posix() for f in files)


def libraries() -> list[str]:
    """The libraries that were fetched."""
    return [name for name, file in LIBRARIES.items() if (STATIC / file).is_file()]
