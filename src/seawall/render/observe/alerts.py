"""An alert: an expression, how long it must hold, and a runbook that a person can follow at night."""

from __future__ import annotations

from dataclasses import dataclass

from seawall.render.inputs import Object, Wanted
from seawall.render.promql import parsed


@dataclass(frozen=True, kw_only=True)
class Alert:
    name: str
    expr: str
    wait: str
    """`for`."""
    severity: str
    summary: str
    why: str
    """The meaning for users."""
    do: str
    """The runbook: what to look at, and what to run."""

    def rule(self, wanted: Wanted) -> Object:
        return {
            "alert": self.name,
            "expr": parsed(self.expr),
            "for": self.wait,
            "labels": {"severity": self.severity, "fleet": wanted.name, "namespace": wanted.namespace},
            "annotations": {"summary": self.summary, "description": self.why, "runbook": self.do},
        }
