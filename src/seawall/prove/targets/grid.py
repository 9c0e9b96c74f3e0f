"""What a run against targets gives: cells, what was proven, and what each client saw. Plain data.

Forbidden here: playing anything, and drawing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from seawall.prove.pressure import StreamRecord
from seawall.prove.verdict import ScenarioVerdict


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One target under one scenario."""

    target: str
    scenario: str
    title: str
    verdict: ScenarioVerdict | None = None
    not_applicable: str = ""
    """Why nothing was played, or what could not be started."""
    failed: bool = False
    """The target itself could not be had or started."""
    cut: int = 0
    """Streams that were cut though their engine was healthy."""
    wasted: int | None = None
    """Tokens that engines computed and that are in no answer which came whole; None: nobody can say."""

    @property
    def state(self) -> str:
        """kept, broken, not applicable or failed."""
        if self.verdict is None:
            return "failed" if self.failed else "not applicable"
        return "kept" if self.verdict.kept else "broken"

    def as_json(self) -> dict[str, Any]:
        rest = self.verdict.as_json() if self.verdict else {}
        own = {"target": self.target, "scenario": self.scenario, "title": self.title, "state": self.state}
        return {
            **rest,
            **own,
            "why": self.not_applicable,
            "cut_though_healthy": self.cut,
            "wasted_engine_tokens": self.wasted,
        }


@dataclass(frozen=True, kw_only=True)
class TargetFacts:
    """What was proven, so that anybody can do it again."""

    name: str
    title: str
    source: str
    version: str
    command: tuple[str, ...]
    files: Mapping[str, str]
    settings: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name, "title": self.title, "source": self.source, "version": self.version,
            "command": list(self.command), "files": dict(self.files), "settings": list(self.settings),
        }  # fmt: skip


@dataclass
class Grid:
    """All cells that have been played, and what each client saw in them."""

    cells: list[Cell] = field(default_factory=list)
    facts: dict[str, TargetFacts] = field(default_factory=dict)
    records: dict[tuple[str, str], list[StreamRecord]] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        """No cell is red."""
        return bool(self.cells) and not any(c.state in ("broken", "failed") for c in self.cells)
