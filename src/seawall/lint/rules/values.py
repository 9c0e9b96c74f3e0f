"""Rules about the values that vLLM's flags are given: booleans, JSON, names from a list, numbers."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator

from seawall.engines.vllm.values import CHOICES, FLOATS, INTEGERS, JSON, MEANT, OPEN_LISTS, PARSERS, SINCE
from seawall.engines.vllm.versions import LATEST, Version, find_flag
from seawall.lint import charts
from seawall.lint.command import Option
from seawall.lint.finding import Finding, Say, Severity, rule
from seawall.lint.objects import Container, Workload
from seawall.lint.patch import Edits, Patcher
from seawall.lint.rules.engine import is_sure, shown
from seawall.lint.world import Manifests

_NO_BOOLEANS_BEFORE: Version = (0, 9)
"""Until 0.8 some switches took a value (`--enable-chunked-prefill=false`)."""
_ALWAYS_SWITCHES = {"--enforce-eager", "--trust-remote-code", "--disable-log-requests", "--enable-lora"}
"""Switches that never took a value."""
_NO_PAIRS_SINCE, _SURELY_NO_PAIRS = (0, 10), (0, 11)
"""Until then --limit-mm-per-prompt also took image=4,video=1."""
_PAIRS = re.compile(r"[a-z]+=\d+(,[a-z]+=\d+)*")


@rule(
    "values/not-read",
    "warning",
    "A value that the chart does not read",
    story="""production-stack's chart writes flags for the fields that its templates name, and for no others. A
    setting of the engine beside `vllmConfig` instead of in it, or one in it under the flag's own name
    (cpu-offload-gb), is dropped without a word: tensor parallelism stays 1, the context stays the model's own.""",
    cure="Put it where the chart looks: under vllmConfig in its camelCase name, else into vllmConfig.extraArgs.",
)
def not_read(world: Manifests, say: Say) -> Iterator[Finding]:
    for obj in world.kinds(charts.VALUES):
        for key in charts.BESIDE:
            if node := obj.node["servingEngineSpec"][key]:
                text = f"the chart reads {key} beside servingEngineSpec, not in it: here it has no effect."
                yield say(obj, node, text, "Move it to the top of the file.")
        for model in charts.models(obj):
            for key, node in model.items():
                if key in charts.OF_CONFIG and key not in model["vllmConfig"]:
                    text = f"the chart reads {key} under vllmConfig only: here it has no effect."
                    yield say(obj, node, text, f"Move it into vllmConfig: {{{key}: ...}}.")
            for block in ("vllmConfig", "lmcacheConfig"):
                if node := model[block]["hf_token"]:
                    text = f"the chart reads hf_token beside {block}, not in it: the model is fetched without a token."
                    yield say(obj, node, text, "Move it out: hf_token under the entry of modelSpec.")
            for key, node in model["vllmConfig"].items():
                if re.search(r"[-_]", key) and find_flag("--" + key.replace("_", "-")):
                    text = f"the chart knows no vllmConfig.{key}: it has no effect."
                    yield say(obj, node, text, f'Write it into vllmConfig.extraArgs: ["--{key}", ...].')


def _options(world: Manifests) -> Iterator[tuple[Workload, Container, Option]]:
    for workload in world.workloads:
        for engine in workload.engines:
            if engine.command.entry not in ("wrapper", "run-batch"):
                for option in engine.command.options:
                    if not option.open and not re.search(r"\$|\{\{|<[\w -]+>", option.value or ""):
                        yield workload, engine, option


def _grade(engine: Container, since: Version = (0, 0)) -> tuple[Severity, str]:
    """(severity, what happens): certain for a pinned vLLM, hedged for an unknown one."""
    if is_sure(engine) and since <= engine.version:
        return "error", "vLLM exits with status 2 and the Pod crash-loops"
    if since >= _NO_BOOLEANS_BEFORE:
        return "warning", f"vLLM {since[0]}.{since[1]} and later refuse to start with it"
    return "warning", "vLLM refuses to start with it"


@rule(
    "values/switch-with-value",
    "error",
    "A switch that is given a value",
    story="""vLLM's switches take no value: they are written (`--enable-x`), or with `--no-` to turn
    them off. With `--enable-x=false` the parser ends with `ignored explicit argument 'false'`, with
    `--enable-x false` the word that follows is an `unrecognized argument`. (Until 0.8 a few took one.)
    In both cases the exit status is 2.""",
    cure="Write the switch alone, or its --no- form.",
    fixable=True,
)
def switch_with_value(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload, engine, option in _options(world):
        flag = find_flag(option.word)
        if flag is None or not flag.switch or option.value is None or engine.command.entry == "kwargs":
            continue
        since = (0, 4) if flag.name in _ALWAYS_SWITCHES else _NO_BOOLEANS_BEFORE
        known = flag.name in _ALWAYS_SWITCHES or flag.known_to(min(engine.version, LATEST))
        if engine.version < since or not known:
            continue
        text = option.value.strip().lower()
        if text not in ("true", "false", "0", "1", "yes", "no", ""):
            continue
        off = text in ("false", "0", "no")
        meant = f"--no-{flag.name[2:]}" if off else flag.name
        edits: Edits = ()
        if option.value_node is option.node:
            edits = patch.replace(option.node, meant)
        elif option.value_node in (engine.node["args"].elements or []):
            edits = (
                *patch.replace(option.node, meant),
                *patch.remove_items(engine.node["args"], [option.value_node]),
            )
        severity, effect = _grade(engine, since)
        cure = (
            f"Write {meant}."
            if not off or flag.name.startswith("--enable")
            else f"Remove {option.word}, or write {meant}."
        )
        if off and engine.version < _NO_BOOLEANS_BEFORE:  # which had no --no- forms
            cure, edits = f"Remove {option.word} and its value.", ()
        yield say(
            workload.obj,
            option.node,
            f"{option.word} is a switch and takes no value, here `{option.value}`: {effect}.",
            cure,
            severity=severity,
            edits=edits,
        )


@rule(
    "values/broken-json",
    "error",
    "A value that is not JSON",
    story="""Flags that take a whole configuration want JSON in one argument. Single quotes around it
    belong to a shell: in a YAML list nobody takes them off, and they become part of the value. Python's
    True and None, single-quoted keys and trailing commas are no JSON. vLLM's parser ends with `invalid
    loads value` or `Value ... cannot be converted`.""",
    cure="Write plain JSON: double quotes inside, and in YAML single quotes around the whole item only.",
)
def broken_json(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine, option in _options(world):
        text = (option.value or "").strip()
        if option.name not in JSON or "." in option.word or not text or engine.command.entry == "kwargs":
            continue
        if option.name == "--limit-mm-per-prompt" and _PAIRS.fullmatch(text):
            if engine.version >= _NO_PAIRS_SINCE:
                severity, effect = _grade(engine, _SURELY_NO_PAIRS)
                pairs = ", ".join(f'"{k}": {v}' for k, v in (pair.split("=") for pair in text.split(",")))
                yield say(
                    workload.obj,
                    option.node,
                    f"{option.word} takes JSON since vLLM 0.10, not {text}: {effect}.",
                    f"Write {option.word}={{{pairs}}}, in single quotes where a shell reads it.",
                    severity=severity,
                )
            continue
        if engine.command.script and option.node.span.end:
            continue
        why = _not_json(text)
        if why:
            severity, effect = _grade(engine)
            yield say(
                workload.obj,
                option.node,
                f"the value of {option.word} is not JSON ({why}): {effect}.",
                severity=severity,
            )


def _not_json(text: str) -> str:
    try:
        json.loads(text)
        return ""
    except ValueError as e:
        if text[:1] in ("'", '"') and text[-1:] == text[:1]:
            return "quotes that only a shell takes off are part of it"
        if re.search(r"[{,]\s*'", text):
            return "its keys stand in single quotes"
        return f"{str(e).split(':')[0].lower()} at character {getattr(e, 'pos', 0) + 1}"


@rule(
    "values/unknown-parser",
    "error",
    "A parser that vLLM does not have",
    story="""--tool-call-parser and --reasoning-parser name parsers from a list that grows with every
    release, and vLLM's names are not those of other engines. With a name that it does not have vLLM
    ends with `invalid tool call parser` or `Reasoning parser ... not found` after it has been started.
    A plugin (--tool-parser-plugin) may add names.""",
    cure="Use a name of this version's list (`vllm serve --help=tool-call-parser`, or vLLM's documentation).",
)
def unknown_parser(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine, option in _options(world):
        names = PARSERS.get(option.name)
        plugin = engine.command.option("--tool-parser-plugin") or engine.command.option(
            "--reasoning-parser-plugin"
        )
        if names is None or not option.value or plugin:
            continue
        name = option.value.strip()
        since = SINCE.get(name)
        if name in names and not (engine.pinned and since and engine.version < since):
            continue
        if name not in names and engine.version > LATEST and not _like(name, names):
            continue
        sure = is_sure(engine)
        if name in names and since:
            message = (
                f"the parser {name} came with vLLM {since[0]}.{since[1]} or later, this is {_version(engine)}"
            )
            cure = "Pin a newer image."
        else:
            near = (MEANT.get(name) if option.name == "--tool-call-parser" else None) or _like(name, names)
            message = f"no vLLM that we know has a parser named {name}"
            cure = f"Did you mean {near}?" if near else _A_NAME
        yield say(
            workload.obj,
            option.value_node,
            f"{message}: it refuses to start.",
            cure,
            severity=None if sure else "warning",
        )


_A_NAME = "Use a name of this version's list, as vLLM's documentation of tool calling and reasoning gives it."


def _like(name: str, names: frozenset[str]) -> str:
    near = difflib.get_close_matches(name.replace("-", "_"), names, 1, 0.7)
    return near[0] if near else ""


def _version(engine: Container) -> str:
    return f"{engine.version[0]}.{engine.version[1]}"


@rule(
    "values/tool-choice-without-parser",
    "error",
    "Automatic tool choice without a parser",
    story="""--enable-auto-tool-choice needs --tool-call-parser: without it every version ends with
    `--enable-auto-tool-choice requires --tool-call-parser`.""",
    cure="Add --tool-call-parser with the parser of the model's family.",
)
def tool_choice(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for engine in workload.engines:
            c = engine.command
            option, parser = c.option("--enable-auto-tool-choice"), c.option("--tool-call-parser")
            whole = engine.plain_flags and not c.is_open and not c.option("--config")
            if option is None and parser is not None and whole:
                text = "--tool-call-parser without --enable-auto-tool-choice: requests with tool_choice `auto` get 400."
                yield say(
                    workload.obj, parser.node, text, "Add --enable-auto-tool-choice.", severity="warning"
                )
            if (
                option is None
                or not c.on("--enable-auto-tool-choice")
                or c.entry not in ("serve", "module", "image")
            ):
                continue
            if c.option("--tool-call-parser") or c.option("--config") or c.is_open or not c.known_flags:
                continue
            yield say(
                workload.obj,
                option.node,
                "--enable-auto-tool-choice without --tool-call-parser: vLLM refuses to start.",
            )


@rule(
    "values/wrong-value",
    "error",
    "A value that vLLM refuses",
    story="""Numbers that are none, shares of GPU memory above 1, and names that are on no list: the
    parser ends with `invalid int value` or `invalid choice`, the configuration with a validation error.
    Either way the container ends before a model is loaded.""",
    cure="Use a value that this flag takes.",
)
def wrong_value(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine, option in _options(world):
        text = (option.value or "").strip()
        if not text or "." in option.word:
            continue
        why, certain = _wrong(option.name, text)
        if why:
            severity, effect = _grade(engine)
            yield say(
                workload.obj,
                option.value_node,
                f"{shown(option, engine)} takes {why}, not `{text}`: {effect}.",
                severity=severity if certain else "warning",
            )
    for workload in world.workloads:
        for engine in workload.engines:
            yield from _batch_below_seqs(workload, engine, say)


_ONE_OR_MORE = (
    "--tensor-parallel-size",
    "--pipeline-parallel-size",
    "--data-parallel-size",
    "--max-num-seqs",
)
_TOKENS = ("--max-model-len", "--max-num-batched-tokens")
"""Flags that take 32768 and 32k (and -1 or auto)."""


def _wrong(name: str, text: str) -> tuple[str, bool]:
    """(what the flag takes when `text` is not it, whether that is certain)."""
    if name in INTEGERS and not re.fullmatch(r"[-+]?\d+", text):
        return "a whole number", True
    if name in _TOKENS and not re.fullmatch(r"-1|auto|\d+(\.\d+)?[kmgtKMGT]?", text):
        return "a number of tokens", True
    if name in FLOATS:
        try:
            value = float(text)
        except ValueError:
            return "a number", True
        if name == "--gpu-memory-utilization" and not 0 < value <= 1:
            return "a share between 0 and 1", True
    if name in _ONE_OR_MORE and int(text) < 1:
        return "1 or more", True
    if name in _TOKENS and text == "0":
        return "1 or more", True
    if name == "--port" and not 0 <= int(text) < 2**16:
        return "a port below 65536", True
    known = CHOICES.get(name, [])
    if (
        known
        and text not in known
        and "." not in text
        and (name != "--attention-backend" or text.upper() not in known)
    ):
        certain = name not in OPEN_LISTS or bool(
            re.fullmatch(r"(int|fp|bf|float|q|u?int)?\d+(bit|b)?|\d+-?bits?", text)
        )
        return f"one of {', '.join(known[:7])}{', ...' if len(known) > 7 else ''}", certain
    return "", True


def _batch_below_seqs(workload: Workload, engine: Container, say: Say) -> Iterator[Finding]:
    c = engine.command
    tokens, seqs = c.integer("--max-num-batched-tokens"), c.integer("--max-num-seqs")
    option = c.option("--max-num-batched-tokens")
    if tokens is None or seqs is None or option is None or tokens >= seqs or c.entry == "wrapper":
        return
    yield say(
        workload.obj,
        option.value_node,
        f"--max-num-batched-tokens {tokens} is less than --max-num-seqs {seqs}: vLLM refuses to start.",
        "Make it at least as large.",
    )


@rule(
    "values/variable-not-text",
    "error",
    "A variable of Ray's that is no text",
    story="""`runtime_env.env_vars` takes text only: with `VLLM_USE_V1: 1` Ray raises `TypeError:
    runtime_env['env_vars'] must be of type Dict[str, str]`, and the application stays DEPLOY_FAILED.""",
    cure="Put the value in quotes.",
)
def variable_not_text(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        if "Ray" not in workload.obj.kind:
            continue
        for item in (i for engine in workload.engines for i in engine.given.env):
            node = item["value"]
            if node.value is not None and not isinstance(node.value, str):
                yield say(
                    workload.obj,
                    node,
                    f"{item['name'].text()} is {node.text()} without quotes, and Ray takes text only: the application "
                    "is not deployed.",
                    f'Write "{node.text()}".',
                )
