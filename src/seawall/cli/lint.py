"""`seawall lint`: what is wrong with anybody's vLLM manifests, and the fix."""

from __future__ import annotations

import functools
import json
import os
import sys
from typing import TYPE_CHECKING

import click

from seawall.cli import complete, output
from seawall.domain.model import ModelConfig
from seawall.engines.vllm.versions import Version
from seawall.errors import CheckFailed, InputError

if TYPE_CHECKING:
    from seawall.lint.finding import Severity
    from seawall.lint.report import Show
    from seawall.lint.run import FleetProblem
    from seawall.lint.source import Sources


def _version(ctx: click.Context, param: click.Parameter, value: str | None) -> Version | None:
    from seawall.engines.vllm.versions import parse_version

    if value is None:
        return None
    found = parse_version(value)
    if found is None:
        raise click.BadParameter(f"{value!r:.40}: write a version such as 1.34 or 0.32.0")
    return found


@click.command()
@click.argument("paths", nargs=-1)
@click.option(
    "-o",
    "--output",
    "--format",
    "form",
    type=click.Choice(["text", "json", "yaml", "sarif"]),
    default="text",
    show_default=True,
    help="For programs: json, yaml or sarif.",
)
@click.option("--json", "as_json", is_flag=True, help="The same as -o json.")
@click.option(
    "--fix", "do_fix", is_flag=True, help="Write the mechanical patches into the files (stdin: to stdout)."
)
@click.option(
    "--explain",
    metavar="RULE",
    shell_complete=complete.rules,
    help="Tell the story of one rule; `all` lists them.",
)
@click.option(
    "--min-severity",
    type=click.Choice(["error", "warning", "note"]),
    default="note",
    show_default=True,
    help="Show findings of this severity and worse; the summary counts all.",
)
@click.option(
    "--target-version", default="1.34", show_default=True, callback=_version, help="Kubernetes version."
)
@click.option("--vllm-version", callback=_version, help="vLLM version of images whose tag names none.")
def command(
    paths: tuple[str, ...],
    form: str,
    as_json: bool,
    do_fix: bool,
    explain: str | None,
    min_severity: Severity,
    target_version: Version,
    vllm_version: Version | None,
) -> None:
    """Find what will go wrong with vLLM manifests, before it does.

    Reads any Kubernetes YAML: files, folders, `-` for stdin, rendered charts. Looks at vLLM workloads however they
    are written, and at the objects around them. Exit code 1 when there are errors.

    \b
    $ seawall lint deploy/
    $ helm template my-release ./chart | seawall lint -
    $ seawall lint --fix vllm.yaml
    $ seawall lint --explain scale/averaged-twice
    """
    from seawall import __version__
    from seawall.lint import report as out
    from seawall.lint.run import Options, check, fix, write
    from seawall.lint.source import read

    form = "json" if as_json else form
    if explain:
        _explain(explain, form)
        return
    if not paths:
        raise InputError(
            "nothing to lint.", "Name YAML files or folders, or - for stdin: seawall lint deploy/"
        )
    sources = read(paths)
    if not sources.texts and not sources.broken:
        raise InputError(f"no YAML in {', '.join(paths)}.", "Name files that end in .yaml or .yml.")
    _something(paths, sources)
    options = Options(target_version, vllm_version, _model, _fleet_problems)
    if do_fix:
        report, changed = fix(sources, options)
        piped = changed.pop("<stdin>", sources.texts.get("<stdin>"))
        write(changed)
        if piped is not None:
            click.echo(piped, nl=False)
            click.echo(out.summary(report), err=True)
            _leave(report.failed, report.unreadable)
            return
    else:
        report = check(sources, options)
    if form == "json":
        click.echo(out.as_json(report, min_severity))
    elif form == "yaml":
        output.write(json.loads(out.as_json(report, min_severity)), form)
    elif form == "sarif":
        click.echo(out.as_sarif(report, __version__, min_severity))
    else:
        click.echo(out.text(report, _shown(min_severity)))
    _leave(report.failed, report.unreadable)


def _something(paths: tuple[str, ...], sources: Sources) -> None:
    """InputError when there is nothing to judge: silence must not read as approval. A `helm template` that failed
    leaves an empty pipe, a wrong path a folder of values files."""
    piped = "-" in paths and not any(o.node.file == "<stdin>" for o in sources.objects)
    if sources.broken or (sources.objects and not piped):
        return
    if piped:
        paths = ("-",)
        texts = [sources.texts.get("<stdin>", "")]
    else:
        texts = list(sources.texts.values())
    what = "standard input" if paths == ("-",) else ", ".join(paths)
    if not any(text.strip() for text in texts):
        raise InputError(
            f"{what} is empty: there is nothing to lint.",
            "Look at the command before the pipe (set -o pipefail), or name files that hold objects.",
        )
    raise InputError(
        f"{what} holds no Kubernetes object: nothing with apiVersion and kind.",
        "Render charts first: helm template my-release ./chart | seawall lint -",
    )


def _fleet_problems(text: str, name: str) -> list[FleetProblem]:
    """Our own spec is judged by who reads it for every other verb."""
    from seawall.config.load import parse_document
    from seawall.config.yaml import documents
    from seawall.lint.run import FleetProblem

    found = []
    try:
        docs = documents(text, name)
    except InputError:
        return []  # the linter's reader has said so, with its place
    for doc in docs:
        data = doc.data if isinstance(doc.data, dict) else {}
        if data.get("kind") != "Fleet" or not str(data.get("apiVersion", "")).startswith("seawall.dev/"):
            continue
        meta = data.get("metadata")
        called = str(meta.get("name", "")) if isinstance(meta, dict) else ""
        found += [FleetProblem(called, p.path, p.line or doc.line, p.message) for p in parse_document(doc)[1]]
    return found


def _shown(least: Severity) -> Show:
    """The output's form: on a terminal as wide as it is (at most 110 columns) and in colour; else plain, 110 wide."""
    from seawall.cli import terminal
    from seawall.lint.report import Show

    width = terminal.width()
    if width is None:
        return Show(least=least)
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    return Show(min(110, max(40, width)), folds=True, colour=not plain, least=least)


def _leave(failed: bool, unreadable: bool) -> None:
    if unreadable:
        sys.exit(InputError.exit_code)
    if failed:
        sys.exit(CheckFailed.exit_code)


@functools.cache
def _model(name: str, quantization: str | None) -> ModelConfig | None:
    """The planner's catalogue: no file, no network. Each model is worked out once, whoever serves it."""
    from seawall.domain.catalog.models import find_config
    from seawall.shapes.config import parse, quantization_override

    found = find_config(name)
    if found is None:
        return None
    model = parse(found[1], found[0])
    return quantization_override(model, quantization) if quantization else model


def _explain(name: str, form: str) -> None:
    import difflib

    from seawall.cli import terminal
    from seawall.domain.columns import ALWAYS, Column, lay_out
    from seawall.lint.finding import RULES
    from seawall.lint.report import explain
    from seawall.lint.run import load_rules

    load_rules()
    if form != "text" and (name == "all" or name in RULES):
        told = [
            {k: getattr(r, k) for k in ("id", "severity", "title", "story", "cure", "fixable")}
            for r in sorted(RULES.values(), key=lambda r: r.id)
            if name in ("all", r.id)
        ]
        output.write({"rules": told}, "yaml" if form == "yaml" else "json")
        return
    if name == "all":
        rows = [(r.id, r.severity, r.title) for r in sorted(RULES.values(), key=lambda r: r.id)]
        columns = (Column("RULE", ALWAYS), Column("SEVERITY", ALWAYS), Column("WHAT IT FINDS", ALWAYS))
        click.echo("\n".join(lay_out(columns, rows, terminal.width()).lines()))
        return
    if name not in RULES:
        near = difflib.get_close_matches(name, RULES, 1, 0.5)
        hint = f"Did you mean {near[0]}?" if near else "`seawall lint --explain all` lists them."
        raise InputError(f"there is no rule {name!r:.80}.", hint)
    click.echo(explain(RULES[name], min(100, terminal.width() or 100)))
