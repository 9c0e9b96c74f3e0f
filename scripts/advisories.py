"""Known advisories out of a copy that lies here: PyPA's advisory database, or OSV's records of PyPI, as files.

Where pip-audit cannot reach its database this is what `make audit` has. A copy ages: its newest record's day is told.
Forbidden here: the network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

LARGEST = 4 << 20
"""Bytes of a record; nobody writes larger ones."""


@dataclass(frozen=True)
class Found:
    """One advisory that a locked version has."""

    name: str
    version: str
    id: str
    fixed: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.version}: {self.id}, mended in {', '.join(self.fixed) or 'no version'}"


def in_copy(folder: Path, locked: Mapping[str, set[str]]) -> tuple[list[Found], str]:
    """What a copy says of these packages (name -> versions), and the day of its newest record; empty: it has none."""
    found, newest = [], ""
    for path, record in _records(folder):
        if not isinstance(record, dict) or "id" not in record:
            print(f"advisories: {path} is no record")
            continue
        newest = max(newest, str(record.get("modified", "")))
        if record.get("withdrawn"):
            continue
        for affected in record.get("affected") or ():
            package = affected.get("package", {})
            name = canonicalize_name(str(package.get("name", "")))
            if package.get("ecosystem") != "PyPI":
                continue
            for version in sorted(locked.get(name, ())):
                if hits(affected, version):
                    found.append(Found(name, version, str(record["id"]), tuple(sorted(_fixed(affected)))))
    return found, newest[:10]


def _records(folder: Path) -> Iterator[tuple[Path, Any]]:
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".yaml", ".json") or not path.is_file() or path.stat().st_size > LARGEST:
            continue
        text = path.read_text("utf-8")
        try:
            record = json.loads(text) if path.suffix == ".json" else yaml.load(text, yaml.CSafeLoader)
        except (ValueError, yaml.YAMLError):
            record = None
        yield path, record


def hits(affected: Mapping[str, Any], version: str) -> bool:
    """Whether a record's part is about a version: listed, or within a range of versions (OSV's schema, `events`)."""
    if version in (affected.get("versions") or ()):
        return True
    try:
        here = Version(version)
    except InvalidVersion:
        return False
    return any(
        _within(r.get("events") or (), here)
        for r in affected.get("ranges") or ()
        if r.get("type") in ("ECOSYSTEM", "SEMVER")
    )


def _within(events: Any, here: Version) -> bool:
    """Events in the order of their versions: the last one at or before a version decides."""
    inside = False
    for event in sorted(events, key=lambda e: _at(next(iter(e.values())))):
        kind, at = next(iter(event.items()))
        if kind == "introduced" and here >= _at(at):
            inside = True
        elif (kind == "fixed" and here >= _at(at)) or (kind == "last_affected" and here > _at(at)):
            inside = False
    return inside


def _at(version: str) -> Version:
    return Version("0.dev0") if re.fullmatch(r"0", str(version)) else Version(str(version))


def _fixed(affected: Mapping[str, Any]) -> set[str]:
    events = [e for r in affected.get("ranges") or () for e in r.get("events") or ()]
    return {str(e["fixed"]) for e in events if "fixed" in e and re.match(r"\d+(\.\d+)*\b", str(e["fixed"]))}
