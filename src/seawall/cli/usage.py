"""What a person is told who has typed a command wrongly: what is wrong, by its value; what to type; where more stands.

click knows that an argument is missing, not which command would have worked; and its own words ("Invalid value for
'SPEC'") speak of the parser. Here each of its errors becomes a message and a cure, as our own errors have them.
Forbidden here: printing, and knowing what any verb does: examples come from the verb's own help.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

MEANING = {
    "FLEET.yaml": "a file that holds a Fleet; `seawall init MODEL --write fleet.yaml` writes one",
    "FLEET.yaml...": "files that hold Fleets; `seawall init MODEL --write fleet.yaml` writes one",
    "FLEET.yaml...|cluster-prereqs": "files that hold Fleets; `seawall init MODEL --write fleet.yaml` writes one",
    "URL|FLEET.yaml": "the address of a running server, or a Fleet's file to serve and measure here",
    "FLEET": "the name of a fleet; `seawall status` lists them",
    "[FLEET] REPLICAS": "how many replicas there shall be: a number, or auto",
    "LINES.jsonl": "a file of requests, one JSON object a line",
    "ID": "the id that `list` shows",
    "TENANT": "the name of who will use the key",
    "NAME": "a name of your choice",
    "MODEL": "a name from `seawall models list`",
    "SOURCE": "where the weights are: hf://, pypi://, s3://, gs://, oci:// or file://",
    "{bash|zsh|fish}": "the shell that shall complete: bash, zsh or fish",
}
"""What stands in an argument's place, as the help calls it."""

FLAGS = {
    "-v": ("--version",), "-V": ("--version",),
    "--max-model-len": ("--context",), "--max-context": ("--context", "--max-model-len"), "--ctx": ("--context",),
    "--ctx-size": ("--context",), "--context-length": ("--context", "--max-model-len"),
    "--context": ("--max-model-len",), "--num-ctx": ("--context",),
    "--tensor-parallel-size": ("--tensor-parallel", "--gpus"), "--tp": ("--tensor-parallel", "--gpus"),
    "--tp-size": ("--tensor-parallel", "--gpus"), "--tensor-parallel": ("--gpus",),
    "--gpu-count": ("--gpus",), "--num-gpus": ("--gpus",), "--n-gpus": ("--gpus",), "--gpus-per-replica": ("--gpus",),
    "--gpu-type": ("--gpu",), "--accelerator": ("--gpu",), "--pipeline-parallel-size": ("--pipeline-parallel",),
    "--pp": ("--pipeline-parallel",), "--dp": ("--data-parallel",), "--data-parallel-size": ("--data-parallel",),
    "--num-replicas": ("--replicas",), "--scale": ("--replicas",), "--instances": ("--replicas",),
    "--workers": ("--replicas", "--jobs"), "--min": ("--replicas",), "--min-replicas": ("--replicas",),
    "--max-replicas": ("--max",), "--key": ("--api-key",), "--token": ("--api-key",), "--apikey": ("--api-key",),
    "--keys-file": ("--keys", "--file"), "--keys": ("--file",), "--bind": ("--listen", "--host"),
    "--address": ("--listen", "--host"), "--ip": ("--host",), "--host": ("--listen",), "--port": ("--listen",),
    "--base-url": ("--url",), "--endpoint": ("--url",), "--server": ("--url",), "--gateway": ("--url",),
    "--address-url": ("--url",), "--format": ("--output", "--form"), "--yaml": ("--output",),
    "--output": ("--out", "--write", "--to", "--html", "--results"), "--out": ("--output", "--write", "--to"),
    "--output-dir": ("--output", "--to"), "--dir": ("--to", "--state-dir"), "--path": ("--to",),
    "--dest": ("--to",), "--download-dir": ("--to",), "--ns": ("--namespace",), "--all": ("--all-namespaces",),
    "--kube-context": ("--context",), "--cluster": ("--context",), "--kube-config": ("--kubeconfig",),
    "--config": ("--kubeconfig",), "--tail": ("--lines",), "--lines": ("--events",), "--follow": ("--watch",),
    "--watch": ("--follow", "--wait"), "--detach": ("--no-wait",), "--async": ("--no-wait",),
    "--force": ("--yes", "--now", "--force-conflicts"), "--assume-yes": ("--yes",), "--confirm": ("--yes",),
    "-y": ("--yes",), "-f": ("--follow", "--file", "--write"), "--rps": ("--rate",), "--qps": ("--rate",),
    "--request-rate": ("--rate",), "--num-prompts": ("--requests",), "--n": ("--requests",),
    "--users": ("--concurrency",), "--max-concurrency": ("--concurrency",), "--time": ("--duration",),
    "--input-len": ("--prompt-tokens", "--prompt"), "--output-len": ("--output-tokens", "--output"),
    "--random-input-len": ("--prompt-tokens",), "--random-output-len": ("--output-tokens",),
    "--report": ("--html",), "--kubernetes-version": ("--target-version",), "--k8s-version": ("--target-version",),
    "--severity": ("--min-severity",), "--rule": ("--explain",), "--rules": ("--explain",),
    "--expiry": ("--expires",), "--ttl": ("--expires",), "--rpm": ("--requests-per-minute",),
    "--tpm": ("--tokens-per-minute",), "--quiet": ("--plain",), "--no-color": ("--plain",),
    "--registry-dir": ("--registry",), "--license": ("--licence",), "--sha": ("--revision",),
    "--branch": ("--revision",), "--tag": ("--revision",), "--prom": ("--prometheus",), "--window": ("--since",),
    "--last": ("--since",), "--older-than": ("--unused",), "--dry": ("--dry-run",), "--check": ("--dry-run",),
}  # fmt: skip
"""Flags of other tools, and of our other verbs -> what means the same; the first that the verb has is told."""

_BARE = re.compile(r"^(\$ )?(seawall|helm|kubectl)\b")


def explained(error: click.UsageError, argv: Sequence[str], root: click.Group) -> tuple[str, str]:
    """(message, cure) of a command line that cannot be used. `argv`: what was typed after `seawall`."""
    ctx = error.ctx or _context(argv, root)
    name = ctx.command_path
    message, hint = _said(error, ctx)
    lines = [hint] if hint else []
    if not hint.startswith("Did you mean"):
        word = getattr(error, "option_name", "") or _flag_of(error)
        lines += [f"For example: {found}" for found in [example(ctx.command, name, word)] if found]
    return message, "\n".join([*lines, f"More: {name} --help"])


def _said(error: click.UsageError, ctx: click.Context) -> tuple[str, str]:
    """What is wrong, and what was meant or may stand there instead."""
    name = f"`{ctx.command_path}`"
    if isinstance(error, click.NoSuchOption):
        return f"{name} has no option {error.option_name!r:.60}.", _meant(error.option_name, ctx.command)
    if isinstance(error, click.MissingParameter) and error.param is not None:
        called, meaning = _called(error.param, ctx), _meaning(error.param, ctx)
        return f"{name} needs {called}{f': {meaning}' if meaning else ''}.", ""
    if isinstance(error, click.BadOptionUsage):
        param = _option(ctx.command, error.option_name)
        if "does not take" in error.message:
            return f"{error.option_name} takes no value.", f"Write {error.option_name} alone."
        may = _may(param.type) if param is not None else ""
        about = f" {param.help}" if param is not None and param.help else ""
        return f"{error.option_name} needs a value{f': {may}' if may else ''}.{about}", ""
    if isinstance(error, click.BadParameter) and error.param is not None:
        return _bad_value(error, error.param, ctx)
    if found := re.match(r"Got unexpected extra arguments? \((.*)\)$", error.format_message(), re.DOTALL):
        takes = " ".join(_called(p, ctx) for p in ctx.command.params if isinstance(p, click.Argument))
        return f"{name} takes {takes or 'no argument'}; {found[1]!r:.80} is too much.", ""
    return error.format_message(), ""


def _bad_value(error: click.BadParameter, param: click.Parameter, ctx: click.Context) -> tuple[str, str]:
    called, kind = _called(param, ctx), param.type
    found = re.match(r"(?P<value>'.*?'|\S+) is not (a valid|one of|in the range)", error.message, re.DOTALL)
    if isinstance(kind, click.Path):
        path = re.search(r"'(.*)'", error.message, re.DOTALL)
        if path and "does not exist" in error.message:
            from seawall.config.yaml import near_file

            meaning = _meaning(param, ctx)
            what = (
                f"What {called} reads: {meaning}." if isinstance(param, click.Option) else f"Name {meaning}."
            )
            return f"{path[1]:.200}: no such file.", near_file(Path(path[1])) or what * bool(meaning)
        if path and "is a directory" in error.message:
            return f"{called} {path[1]:.200}: is a folder.", "Name a file in it."
        return f"{called}: {error.message.rstrip('.')}.", ""
    if found is None:
        return f"{called}: {error.message.rstrip('.')}.", ""
    value = found["value"].strip("'")
    if isinstance(kind, click.Choice):
        choices = [str(c) for c in kind.choices]
        near = difflib.get_close_matches(value.lower(), choices, 1, 0.6)
        hint = f"Did you mean {near[0]}?" if near else ""
        where = "" if isinstance(param, click.Argument) else f"{called}: "
        return f"{where}{value!r:.60} is none of {', '.join(choices)}.", hint
    return f"{called}: {value!r:.60} is not {_may(kind)}.", ""


def _may(kind: click.ParamType[Any]) -> str:
    """What may stand in an option's place."""
    if isinstance(kind, (click.IntRange, click.FloatRange)):
        word = "a whole number" if isinstance(kind, click.IntRange) else "a number"
        low, high = kind.min, kind.max
        if low is not None and high is not None:
            return f"{word} from {low} to {high}"
        if low is not None:
            return f"{word}, {'more than' if kind.min_open else 'at least'} {low}"
        return word if high is None else f"{word}, {'less than' if kind.max_open else 'at most'} {high}"
    if isinstance(kind, click.Choice):
        return f"one of {', '.join(str(c) for c in kind.choices)}"
    if isinstance(kind, click.Path):
        return "a path"
    return {"integer": "a whole number", "float": "a number", "boolean": "true or false"}.get(
        kind.name, "a text"
    )


def _called(param: click.Parameter, ctx: click.Context) -> str:
    return max(param.opts, key=len) if isinstance(param, click.Option) else param.make_metavar(ctx)


def _meaning(param: click.Parameter, ctx: click.Context) -> str:
    if isinstance(param, click.Option):
        return (param.help or "").rstrip(".")
    return MEANING.get(param.make_metavar(ctx), "")


def _flag_of(error: click.UsageError) -> str:
    param = getattr(error, "param", None)
    return max(param.opts, key=len) if isinstance(param, click.Option) else ""


def _option(command: click.Command, flag: str) -> click.Option | None:
    return next((p for p in command.params if isinstance(p, click.Option) and flag in p.opts), None)


def _meant(typed: str, command: click.Command) -> str:
    """What an option that is not there was meant to be: by its meaning, by its spelling, or as a field of a Fleet."""
    options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden]
    there = [flag for p in options for flag in (*p.opts, *p.secondary_opts)]
    word = typed.replace("_", "-").lower()
    if word in there:
        return f"Did you mean {word}?"
    if found := next((flag for flag in FLAGS.get(word, ()) if flag in there), ""):
        return f"Did you mean {found}{' yaml' if word == '--yaml' else ''}?"
    near = difflib.get_close_matches(word, [t for t in there if t.startswith("--")], 1, 0.75)
    if near and len(word) > len("--x"):
        return f"Did you mean {near[0]}?"
    places = [p.make_metavar(click.Context(command)) for p in command.params if isinstance(p, click.Argument)]
    if word == "--url" and (place := next((p for p in places if "URL" in p), "")):
        return f"The address stands without it: {place}."
    takes_fleet = any(
        isinstance(p, click.Argument) and (p.metavar or "").find("FLEET.yaml") >= 0 for p in command.params
    )
    return _as_field(word) if takes_fleet and word.startswith("--") else ""


def _as_field(flag: str) -> str:
    """Where a Fleet says what an option would; empty where it says nothing of the kind."""
    from seawall.config.hints import of_key

    said = of_key(("spec", flag.lstrip("-")))
    if said.startswith(("known here", "nothing")):
        return ""
    return f"A Fleet says that: {said.replace('did you mean', 'perhaps').rstrip('?')}."


def example(command: click.Command, path: str, word: str = "") -> str:
    """A line of the command's help that can be typed; one with `word` in it if there is any."""
    lines = [line for line in examples(command) if f"{path} " in f"{line} "]
    return next((line for line in lines if word and f"{word} " in f"{line} "), lines[0] if lines else "")


def examples(command: click.Command) -> list[str]:
    """The lines of a help text that are commands, without their prompt and what is said beside them."""
    lines = [line.strip() for line in (command.help or "").splitlines()]
    return [re.split(r" {3,}", line.removeprefix("$ "))[0] for line in lines if _BARE.match(line)]


def of_subcommand(group: click.Group, path: str, typed: str, words: dict[str, str]) -> tuple[str, str]:
    """(message, cure) of a word that is no command of a group; `words`: those of other tools -> ours."""
    names: Iterable[str] = group.commands
    ours = words.get(typed.lower(), "")
    found = [ours] if ours in group.commands else difflib.get_close_matches(typed, names, 1, 0.6)
    hint = f"Did you mean `{path} {found[0]}`?" if found else f"There are: {', '.join(names)}."
    return f"`{path}` has no command {typed!r:.60}.", f"{hint}\nMore: {path} --help"


def _context(argv: Sequence[str], root: click.Group) -> click.Context:
    """The command that the words lead to, for an error that does not say where it happened."""
    ctx = click.Context(root, info_name="seawall")
    for word in argv:
        if not isinstance(ctx.command, click.Group):
            break
        inner = ctx.command.get_command(ctx, word)
        if inner is not None:
            ctx = click.Context(inner, parent=ctx, info_name=word)
    return ctx
