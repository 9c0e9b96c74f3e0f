"""Findings as text, JSON and SARIF. Pure: strings out, nothing printed."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import PurePath
from typing import Any

from seawall.lint.finding import ORDER, RULES, Finding, Rule
from seawall.lint.run import Report, load_rules

_SARIF_LEVEL = {"error": "error", "warning": "warning", "note": "note"}
_SARIF_SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def counted(n: int, noun: str) -> str:
    return f"{n} {noun}{'' if n == 1 else 's'}"


def text(report: Report, *, width: int = 110, notes: bool = True) -> str:
    """One block per finding, worst first within a line; the sum and the next command last."""
    shown = [f for f in report.findings if notes or f.severity != "note"]
    blocks = [_block(f, width) for f in shown]
    return "\n".join([*blocks, summary(report, notes=notes)])


def _block(f: Finding, width: int) -> str:
    place = f"{f.line}:{f.column}" if f.rule.startswith("yaml/") else f"{f.line}"
    head = f"{f.file}:{place}  {f.object or 'file'}  {f.rule}  {f.severity}  {f.path}".rstrip()
    body = f"{_sentence(f.message)} {f.cure}".strip()
    lines = textwrap.wrap(
        body, width - 2, initial_indent="  ", subsequent_indent="  ", break_long_words=False
    )
    if f.edits:
        lines.append("  fixable: seawall lint --fix")
    return "\n".join([head, *lines])


def _sentence(message: str) -> str:
    """With a capital first letter, unless it begins with a name from the manifest."""
    return message[:1].upper() + message[1:] if re.match(r"[a-z]+[ ,]", message) else message


def summary(report: Report, *, notes: bool = True) -> str:
    """The last lines: how many of what, and what to do next."""
    counts = [(report.count(s), s) for s in ("error", "warning", "note")]
    objects = counted(report.objects, "object")
    out: list[str] = []
    if report.fixed:
        out.append(f"{counted(report.fixed, 'finding')} fixed in {', '.join(report.written) or 'the text'}.")
    if not report.findings:
        workloads = counted(report.workloads, "vLLM workload") if report.workloads else "no vLLM workload"
        out.append(f"no findings in {objects}, {workloads}.")
    else:
        fixable = sum(bool(f.edits) for f in report.findings)
        said = ", ".join(counted(n, s) for n, s in counts if n)
        line = f"{said} in {objects}."
        if fixable:
            line += f" {fixable} {'is' if fixable == 1 else 'are'} fixable."
        out.append(line)
        if not notes and counts[2][0]:
            out.append(f"{counted(counts[2][0], 'note')} not shown (--notes).")
        worst = min(report.findings, key=lambda f: ORDER[f.severity])
        out.append(f"Next: seawall lint --explain {worst.rule}")
    if report.templates:
        out.append(
            f"{counted(report.templates, 'chart template')} passed over: render the chart first, "
            "`helm template CHART | seawall lint -`."
        )
    return "\n".join(out)


def as_json(report: Report) -> str:
    """The findings as one JSON object."""
    findings = [
        {
            "rule": f.rule, "severity": f.severity, "file": f.file, "line": f.line, "column": f.column,
            "object": f.object, "path": f.path, "message": f.message, "cure": f.cure, "fixable": bool(f.edits),
        }
        for f in report.findings
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


def as_sarif(report: Report, version: str) -> str:
    """SARIF 2.1.0, as code-scanning services read it."""
    load_rules()
    used = sorted({f.rule for f in report.findings})
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
        "results": [_sarif_result(f, index[f.rule]) for f in report.findings],
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
            f"  {rule.title}",
            "",
            *textwrap.wrap(rule.story, width, initial_indent="  ", subsequent_indent="  "),
            "",
            *textwrap.wrap(f"Cure: {rule.cure}", width, initial_indent="  ", subsequent_indent="  "),
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
