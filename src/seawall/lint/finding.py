"""What a linter says: rules, findings and edits, as plain data. No rule's logic and no printing here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from seawall.lint.node import YamlNode, show_path
from seawall.lint.objects import Obj
from seawall.lint.world import Manifests

Severity = Literal["error", "warning", "note"]
ORDER: dict[str, int] = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True)
class Edit:
    """Replace the characters `start` to `end` of a file with `text`."""

    file: str
    start: int
    end: int
    text: str


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing wrong at one place. `message` is what happens in production, `cure` what to do."""

    rule: str
    severity: Severity
    file: str
    line: int
    column: int
    object: str
    """`Deployment/vllm`."""
    path: str
    message: str
    cure: str
    edits: tuple[Edit, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rule: its name, how bad it is, and the story that `--explain` tells."""

    id: str
    severity: Severity
    title: str
    story: str
    """What happens in production, and why; sources where they matter."""
    cure: str
    fixable: bool
    check: Callable[[Manifests], Iterator[Finding]]


RULES: dict[str, Rule] = {}

Check = Callable[[Manifests, "Say"], Iterator[Finding]]


@dataclass(frozen=True)
class Say:
    """Makes the findings of one rule: `say(obj, node, "what happens", "cure")`."""

    rule: str
    severity: Severity
    cure: str

    def __call__(
        self,
        obj: Obj,
        node: YamlNode,
        message: str,
        cure: str | None = None,
        *,
        severity: Severity | None = None,
        edits: tuple[Edit, ...] = (),
    ) -> Finding:
        return Finding(
            rule=self.rule,
            severity=severity or self.severity,
            file=node.file or obj.node.file,
            line=node.line,
            column=node.where.column,
            object=obj.shown,
            path=show_path(node.path),
            message=message,
            cure=self.cure if cure is None else cure,
            edits=edits,
        )


def rule(
    id: str, severity: Severity, title: str, *, story: str, cure: str, fixable: bool = False
) -> Callable[[Check], Check]:
    """Registers a rule. Its function gets the world and a `say`, and yields findings."""

    def register(check: Check) -> Check:
        if id in RULES:
            raise ValueError(f"two rules are named {id}")
        say = Say(id, severity, cure)
        RULES[id] = Rule(
            id=id,
            severity=severity,
            title=title,
            story=" ".join(story.split()),
            cure=cure,
            fixable=fixable,
            check=lambda world: check(world, say),
        )
        return check

    return register
