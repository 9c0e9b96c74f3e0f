"""Looks at what we depend on: known advisories, and licences. `make audit`; CI runs it.

Advisories come from PyPI by pip-audit (requirements/audit.txt, in an environment of its own). Where its database cannot
be reached (a mirror has packages, and often nothing else) a copy is asked that lies here: SEAWALL_ADVISORIES names its
folder (PyPA's advisory-database, or OSV's records of PyPI, unpacked). Without one that is said in so many words:
nothing is known then, and nothing is claimed. Licences are read from the packages that are installed here, by their own
metadata.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import tool_env
from advisories import Found, in_copy
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "image.txt"
"""What runs at users': the dependencies with all extras."""
WORDS = re.compile(r"[A-Za-z0-9.+-]+")
ALLOWED = {
    *(
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "CC0-1.0",
        "HPND",
        "ISC",
        "MIT",
        "MIT-0",
        "MPL-2.0",
    ),
    *("PSF-2.0", "Python-2.0", "Unlicense", "Zlib"),
}
"""Licences that may be beside ours (Apache-2.0) in an image."""
SPELT = {
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "ISC License (ISCL)": "ISC",
    "3-Clause BSD License": "BSD-3-Clause",
}
READ_BY_US = {"promql-parser": "MIT"}
"""Packages whose metadata name no licence, and what the file in them says."""

REPLACEABLE = {"psycopg": "LGPL-3.0-only", "psycopg-binary": "LGPL-3.0-only"}
"""Packages whose licence asks that whoever gets them can put another version in their place: they are used unchanged, as
packages of their own, for an extra (`postgres`) that nothing else needs."""


def main() -> None:
    names = locked()
    wrong = [*licences(names), *advisories()]
    for line in wrong:
        print(line)
    sys.exit(1 if wrong else 0)


def locked() -> list[str]:
    lines = LOCK.read_text("utf-8").splitlines()
    return sorted({line.split("==")[0].split("[")[0] for line in lines if "==" in line and line[0].isalnum()})


def licences(names: list[str]) -> list[str]:
    wrong, seen = [], 0
    for name in names:
        try:
            said = licence(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform
        seen += 1
        words = set(WORDS.findall(said)) - {"AND", "OR", "WITH"}
        if (not words or not words <= ALLOWED) and REPLACEABLE.get(name) != said:
            wrong.append(
                f"{name}: its licence is {said or 'not told'}; look at it, then add it to scripts/audit.py"
            )
    print(f"licences: {seen} packages of {LOCK.name} looked at, {len(wrong)} strange")
    return wrong


def licence(name: str) -> str:
    """As an SPDX expression, where the package tells one in any of the three forms that there are."""
    data = importlib.metadata.metadata(name)
    if expression := data.get("License-Expression"):
        return str(expression)
    classes = [c.split("::")[-1].strip() for c in data.get_all("Classifier") or () if c.startswith("License")]
    if classes:
        return " AND ".join(SPELT.get(c, c) for c in classes)
    first = (str(data.get("License") or "").strip().splitlines() or [""])[0]
    return SPELT.get(first, first) or READ_BY_US.get(name, "")


def advisories() -> list[str]:
    """One line for each known advisory."""
    tool = tool_env.locked(ROOT / ".cache" / "audit", "audit.txt") / "pip-audit"
    argv = [tool, "-r", LOCK, "--require-hashes", "--disable-pip", "--progress-spinner", "off", "-f", "json"]
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        print(f"advisories: pip-audit looked nothing up: {last[:200]}")
        found = [{"name": name, "skip_reason": last} for name in locked()]
    unknown = {canonicalize_name(d["name"]) for d in found if "skip_reason" in d}
    print(f"advisories: {len(found) - len(unknown)} packages looked up by pip-audit")
    lines = [
        str(Found(d["name"], d["version"], v["id"], tuple(v["fix_versions"])))
        for d in found
        for v in d.get("vulns", ())
    ]
    return lines + (by_copy(unknown, os.environ.get("SEAWALL_ADVISORIES", "")) if unknown else [])


def by_copy(names: set[str], folder: str) -> list[str]:
    """The same out of a copy, for what pip-audit knows nothing of."""
    if not folder:
        print(
            f"advisories: NOT LOOKED UP for {len(names)} packages: the database is out of reach, "
            "and SEAWALL_ADVISORIES names no copy"
        )
        return []
    found, newest = in_copy(Path(folder), {n: v for n, v in versions().items() if n in names})
    if not newest:
        return [f"SEAWALL_ADVISORIES={folder}: holds no record of an advisory"]
    print(f"advisories: {len(names)} packages looked up in a copy whose newest record is of {newest}")
    return [str(f) for f in found]


def versions() -> dict[str, set[str]]:
    """The locked versions of each package: of some there are several, for other Pythons."""
    out: dict[str, set[str]] = {}
    for line in LOCK.read_text("utf-8").splitlines():
        if pinned := re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^ ;]+)", line):
            out.setdefault(canonicalize_name(pinned[1]), set()).add(pinned[2])
    return out


if __name__ == "__main__":
    main()
