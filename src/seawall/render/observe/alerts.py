"""What an alert is: an expression, how long it must hold, and a runbook a person can follow at night."""

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
    """What it means for users."""
    do: str
    """What to look at and what to run."""

    def rule(self, wanted: Wanted) -> Object:
        return {
            "alert": self.name,
            "expr": parsed(self.expr),
            "for": self.wait,
            "labels": {"severity": self.severity, "fleet": wanted.name, "namespace": wanted.namespace},
            "annotations": {"summary": self.summary, "description": self.why, "runbook": self.do},
        }
