"""Runs the rules over what was read, and writes their patches. The linter's front door; no printing here."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from seawall.domain.labels import LINT_IGNORE
from seawall.engines.vllm.versions import Version
from seawall.lint.finding import ORDER, RULES, Edit, Finding
from seawall.lint.patch import apply
from seawall.lint.source import Sources, add_text, read
from seawall.lint.world import Manifests, Models, unknown_model

FAMILIES = (
    "around",
    "asked",
    "files",
    "api",
    "autoscale",
    "command",
    "devices",
    "disruption",
    "engine",
    "fit",
    "hub",
    "names",
    "network",
    "parts",
    "pods",
    "probes",
    "promql",
    "quota",
    "references",
    "refused",
    "resources",
    "rollout",
    "room",
    "routes",
    "scale",
    "scheduling",
    "schema",
    "security",
    "shutdown",
    "storage",
    "together",
    "values",
    "variables",
    "weights",
    "words",
)
"""Annotation: rule ids, parted by commas, that an object's author has decided against."""


@dataclass
class Report:
    """What one run found."""

    findings: list[Finding]
    objects: int
    workloads: int
    files: int
    templates: int = 0
    unreadable: bool = False
    fixed: int = 0
    written: list[str] = field(default_factory=list)

    def count(self, severity: str) -> int:
        return sum(f.severity == severity for f in self.findings)

    @property
    def failed(self) -> bool:
        return self.count("error") > 0


def load_rules() -> None:
    """Fills `RULES`."""
    for family in FAMILIES:
        importlib.import_module(f"seawall.lint.rules.{family}")


@dataclass(frozen=True)
class FleetProblem:
    """One thing wrong with one of our own Fleets, as whoever reads specs says it."""

    fleet: str
    path: str
    line: int
    message: str


FleetCheck = Callable[[str, str], Iterable[FleetProblem]]


@dataclass(frozen=True)
class Options:
    """What the checks are made for."""

    target: Version = (1, 34)
    """Kubernetes version."""
    engine: Version | None = None
    """vLLM version of images whose tag names none."""
    models: Models = unknown_model
    """(name, quantization flag) -> the model's shape, for the planner's sums."""
    fleets: FleetCheck = lambda text, name: ()
    """(text, its name) -> what is wrong with the Fleets in it."""


DEFAULTS = Options()


def check(sources: Sources, options: Options = DEFAULTS) -> Report:
    """All findings, in the order of files and lines."""
    load_rules()
    world = Manifests(
        sources.objects,
        options.target,
        options.engine,
        list(sources.texts),
        sources.texts,
        models=options.models,
    )
    found = _of_files(sources) + _of_fleets(sources, options.fleets)
    ignored = _ignored(sources)
    for rule in RULES.values():
        found += [f for f in rule.check(world) if (f.file, f.object, f.rule) not in ignored]
    unique: dict[tuple[object, ...], Finding] = {}
    for f in found:
        unique.setdefault((f.file, f.line, f.rule, f.object, f.path), f)
    order = {name: i for i, name in enumerate(sources.texts)}
    ordered = sorted(unique.values(), key=lambda f: (order.get(f.file, 0), f.line, ORDER[f.severity], f.rule))
    return Report(
        findings=ordered,
        objects=len(sources.objects),
        workloads=len(world.workloads),
        files=len(sources.texts),
        templates=sources.templates,
        unreadable=bool(sources.broken),
    )


def lint(paths: Iterable[str], options: Options = DEFAULTS) -> Report:
    """Reads the paths and checks what they hold."""
    return check(read(paths), options)


def lint_text(text: str, name: str = "manifest.yaml", options: Options = DEFAULTS) -> Report:
    """Checks one text, for tests and callers that have no file."""
    sources = Sources()
    add_text(sources, name, text)
    return check(sources, options)


def fix(sources: Sources, options: Options = DEFAULTS) -> tuple[Report, dict[str, str]]:
    """Applies every patch until none is left (at most ten rounds).

    Returns what is left to do by hand, and the changed texts. A round that makes a text unreadable or brings no
    fewer findings is not taken.
    """
    report = check(sources, options)
    fixed = 0
    texts = dict(sources.texts)
    for _ in range(10):
        groups: list[tuple[Edit, ...]] = list(dict.fromkeys(f.edits for f in report.findings if f.edits))
        if not groups:
            break
        better = _round(sources, texts, groups, report, options)
        if better is None:
            for group in groups:
                better = better or _round(sources, texts, [group], report, options)
        if better is None:
            break
        texts, report, done = better
        fixed += done
    changed_only = {name: text for name, text in texts.items() if text != sources.texts[name]}
    return replace(report, fixed=fixed, written=sorted(changed_only)), changed_only


def _round(
    sources: Sources, texts: dict[str, str], groups: list[tuple[Edit, ...]], report: Report, options: Options
) -> tuple[dict[str, str], Report, int] | None:
    """The texts with these patches and what they leave; None when they break a text or better nothing."""
    changed, done = apply(texts, groups)
    after = Sources(templates=sources.templates)
    for name, text in changed.items():
        add_text(after, name, text)
    later = check(after, options)
    if len(after.broken) > len(sources.broken) or len(later.findings) >= len(report.findings):
        return None
    return changed, later, done


def write(texts: dict[str, str]) -> None:
    """Writes changed texts back, whole or not at all."""
    for name, text in texts.items():
        path = Path(name)
        mode = path.stat().st_mode
        beside = path.with_name(path.name + ".seawall-fix")
        beside.write_text(text, "utf-8", newline="")
        beside.chmod(mode)
        beside.replace(path)


def _of_files(sources: Sources) -> list[Finding]:
    found = [
        Finding(
            rule="yaml/malformed",
            severity="error",
            file=b.file,
            line=b.line,
            column=b.column,
            object="",
            path="",
            message=f"{b.message}: not read from here on."
            if b.too_large
            else f"not YAML: {b.message}; kubectl applies nothing from here on.",
            cure="Lint it in parts." if b.too_large else "Correct the YAML there.",
        )
        for b in sources.broken
    ]
    for obj, key, node in sources.duplicates:
        found.append(
            Finding(
                rule="yaml/duplicate-key",
                severity="error",
                file=node.file,
                line=node.line,
                column=node.span.column,
                object=obj.shown,
                path="",
                message=f"the key {key} stands here twice: the last one wins, silently.",
                cure="Keep one.",
            )
        )
    return found


def _of_fleets(sources: Sources, judge: FleetCheck) -> list[Finding]:
    ours = dict.fromkeys(
        o.node.file for o in sources.objects if o.kind == "Fleet" and o.api.startswith("seawall.dev/")
    )
    return [
        Finding(
            rule="fleet/invalid",
            severity="error",
            file=name,
            line=p.line,
            column=1,
            object=f"Fleet/{p.fleet}",
            path=p.path,
            message=f"{p.path}: {p.message}.",
            cure="See `seawall schema`, or `seawall plan` on this file.",
        )
        for name in ours
        for p in judge(sources.texts[name], name)
    ]


def _ignored(sources: Sources) -> set[tuple[str, str, str]]:
    out: set[tuple[str, str, str]] = set()
    for obj in sources.objects:
        for name in obj.node.at("metadata", "annotations", LINT_IGNORE).text().split(","):
            if name.strip():
                out.add((obj.node.file, obj.shown, name.strip()))
    return out
