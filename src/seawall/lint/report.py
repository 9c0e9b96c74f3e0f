"""Findings as text, JSON and SARIF. Pure: strings out, nothing printed."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from seawall.domain.columns import folded, wrapped
from seawall.lint.finding import ORDER, RULES, Finding, Rule, Severity
from seawall.lint.run import Report, load_rules

_SARIF_LEVEL = {"error": "error", "warning": "warning", "note": "note"}
_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


_COLOURS = {"error": "31;1", "warning": "33", "note": "36"}


@dataclass(frozen=True)
class Show:
    """How findings are shown: how wide, in colour or not, from which severity on. Where nobody `folds` (a log, a
    pipe), place, object, rule and severity stay on one line, however long it is."""

    width: int = 110
    folds: bool = False
    colour: bool = False
    least: Severity = "note"


def wanted(report: Report, least: Severity) -> list[Finding]:
    """The findings of at least that severity, worst first; within one severity in the order of files and lines."""
    found = [f for f in report.findings if ORDER[f.severity] <= ORDER[least]]
    return sorted(found, key=lambda f: ORDER[f.severity])


def text(report: Report, show: Show | None = None) -> str:
    """One block per finding, errors first; the sum and the next command last."""
    show = show or Show()
    blocks = [_block(f, show) for f in wanted(report, show.least)]
    return "\n".join([*blocks, folded(summary(report, show.least), show.width if show.folds else None)])


def _block(f: Finding, show: Show) -> str:
    place = f"{f.line}:{f.column}" if f.rule.startswith("yaml/") else f"{f.line}"
    severity = f"\x1b[{_COLOURS[f.severity]}m{f.severity}\x1b[0m" if show.colour else f.severity
    parts = [f"{f.file}:{place}", f.object or "file", f"{f.rule}  {severity}", f.path]
    unseen = len(severity) - len(f.severity)
    heads = [parts[0]]
    for part in filter(None, parts[1:]):
        wide = len(heads[-1]) + 2 + len(part) - unseen * (part is parts[2])
        if wide <= show.width or not (show.folds or part is f.path):
            heads[-1] += f"  {part}"
            continue
        heads.append("  " + (_tail(part, show.width - 2) if part is f.path else part))
    lines = wrapped(f"{_sentence(f.message)} {f.cure}".strip(), show.width, "  ", "  ")
    if f.edits:
        lines.append("  fixable: seawall lint --fix")
    return "\n".join([*heads, *lines])


def _tail(path: str, width: int) -> str:
    """The path, or as many of its last keys as there is room for."""
    while len(path) > width and "." in path.lstrip("…."):
        path = "…." + path.lstrip("….").partition(".")[2]
    return path


def _sentence(message: str) -> str:
    """With a capital first letter, unless it begins with a name from the manifest."""
    return message[:1].upper() + message[1:] if re.match(r"[a-z]+[ ,]", message) else message


def summary(report: Report, least: Severity = "note") -> str:
    """The last lines: one with how many of what and where, and what to do next."""
    objects = counted(report.objects, "object")
    workloads = counted(report.workloads, "vLLM workload") if report.workloads else "no vLLM workload"
    out: list[str] = []
    if report.fixed:
        out.append(f"{counted(report.fixed, 'finding')} fixed in {', '.join(report.written) or 'the text'}.")
    if not report.findings:
        out.append(f"no findings in {objects}, {workloads}.")
    else:
        counts = [(report.count(s), s) for s in ORDER]
        line = ", ".join(counted(n, s) for n, s in counts if n) + f" in {objects}, {workloads}."
        fixable = sum(bool(f.edits) for f in report.findings)
        if fixable:
            line += f" {fixable} {'is' if fixable == 1 else 'are'} fixable (--fix)."
        hidden = sum(n for n, s in counts if ORDER[s] > ORDER[least])
        if hidden:
            line += f" {hidden} below {least} not shown."
        out.append(line)
        worst = min(report.findings, key=lambda f: ORDER[f.severity])
        out.append(f"Next: seawall lint --explain {worst.rule}")
    if report.templates:
        out.append(
            f"{counted(report.templates, 'chart template')} passed over: render the chart first, "
            "`helm template CHART | seawall lint -`."
        )
    return "\n".join(out)


def as_json(report: Report, least: Severity = "note") -> str:
    """The findings of at least that severity as one JSON object; the counts are of all."""
    findings = [
        {
            "rule": f.rule, "severity": f.severity, "file": f.file, "line": f.line, "column": f.column,
            "object": f.object, "path": f.path, "message": f.message, "cure": f.cure, "fixable": bool(f.edits),
        }
        for f in wanted(report, least)
    ]  # fmt: skip
    counts = {s: report.count(s) for s in ("error", "warning", "note")}
    body = {
        "findings": findings,
        "counts": counts,
        "objects": report.objects,
        "workloads": report.workloads,
        "fixed": report.fixed,
    }
    return json.dumps(body, indent=2)


def as_sarif(report: Report, version: str, least: Severity = "note") -> str:
    """SARIF 2.1.0, as code-scanning services read it."""
    load_rules()
    findings = wanted(report, least)
    used = sorted({f.rule for f in findings})
    index = {name: i for i, name in enumerate(used)}
    run = {
        "tool": {
            "driver": {
                "name": "seawall lint",
                "semanticVersion": version,
                "rules": [_sarif_rule(RULES[name]) for name in used],
            }
        },
        "columnKind": "unicodeCodePoints",
        "results": [_sarif_result(f, index[f.rule]) for f in findings],
    }
    return json.dumps({"$schema": _SARIF_SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _sarif_rule(rule: Rule) -> dict[str, Any]:
    return {
        "id": rule.id,
        "name": "".join(p.capitalize() for p in rule.id.replace("/", "-").split("-")),
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.story},
        "help": {"text": rule.cure},
        "defaultConfiguration": {"level": _SARIF_LEVEL[rule.severity]},
    }


def _sarif_result(f: Finding, index: int) -> dict[str, Any]:
    uri = PurePath(f.file).as_posix() if f.file != "<stdin>" else "stdin"
    region = {"startLine": max(1, f.line), "startColumn": max(1, f.column)}
    location: dict[str, Any] = {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}
    if f.object:
        location["logicalLocations"] = [
            {"fullyQualifiedName": f"{f.object}:{f.path}" if f.path else f.object}
        ]
    return {
        "ruleId": f.rule,
        "ruleIndex": index,
        "level": _SARIF_LEVEL[f.severity],
        "message": {"text": f"{f.message} {f.cure}".strip()},
        "locations": [location],
    }


def explain(rule: Rule, width: int = 100) -> str:
    """The story of one rule."""
    fixable = "yes, `seawall lint --fix`" if rule.fixable else "by hand"
    return "\n".join(
        [
            f"{rule.id}  {rule.severity}",
            *wrapped(rule.title, width, "  ", "  "),
            "",
            *wrapped(rule.story, width, "  ", "  "),
            "",
            *wrapped(f"Cure: {rule.cure}", width, "  ", "  "),
            f"  Fixed: {fixable}",
        ]
    )


def reference() -> str:
    """docs/reference/lint-rules.md, made from the rules."""
    load_rules()
    lines = [
        "# Rules of `seawall lint`",
        "",
        "Made from the rules themselves (`python -m seawall.lint.reference`); a test holds it to them. "
        "Severity is the usual one; a finding may be milder or graver where its message says why.",
        "",
    ]
    family = ""
    for rule in sorted(RULES.values(), key=lambda r: r.id):
        name = rule.id.split("/", 1)[0]
        if name != family:
            family = name
            lines += [f"## {family}", ""]
        fixable = ", fixable" if rule.fixable else ""
        lines += [f"### {rule.id}", "", f"*{rule.severity}{fixable}.* **{rule.title}.** {rule.story}", ""]
        lines += [f"Cure: {rule.cure}", ""]
    return "\n".join(lines).rstrip() + "\n"
