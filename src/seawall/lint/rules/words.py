"""Rules about the words of the command line: those that are none of vLLM's, and those that never reach it.

Forbidden here: which flags there are (`engine.py`) and what they take (`values.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.engines.vllm.values import INTEGERS, JSON
from seawall.engines.vllm.versions import find_flag
from seawall.lint.finding import Finding, Say, rule
from seawall.lint.image import is_official
from seawall.lint.node import YamlNode
from seawall.lint.objects import Container, Workload
from seawall.lint.rules.engine import shown
from seawall.lint.world import Manifests

_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2212"
"""What word processors and chat programs make of `--`."""


def _plain(world: Manifests) -> Iterator[tuple[Workload, Container]]:
    """Engines whose words all go to vLLM's own parser."""
    for workload in world.workloads:
        for engine in workload.engines:
            if engine.plain_flags and not engine.command.demo and not engine.command.lost:
                yield workload, engine


def _templated(text: str) -> bool:
    return bool(re.search(r"\{\{|\}\}|\$|<[\w -]+>", text))


@rule(
    "command/value-missing",
    "error",
    "A flag without its value",
    story="""vLLM's parser takes the word behind a flag for its value, and a word that begins with `--` is the next
    flag: `--max-num-seqs --port 8000` ends with `expected one argument`, exit status 2. Helm templates leave such
    flags behind when a value is empty.""",
    cure="Write the value, or leave the flag out.",
)
def value_missing(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _plain(world):
        for option in engine.command.options:
            flag = find_flag(option.word)
            if flag is None or flag.switch or flag.optional or option.open or option.negated:
                continue
            if not flag.known_to(engine.version) and engine.pinned:
                continue  # engine/removed-flag speaks of it
            none = option.value is None and not option.given
            empty = (
                option.value is not None and not option.value.strip() and option.name in (*INTEGERS, *JSON)
            )
            if none or empty:
                text = f"{shown(option, engine)} has no value: vLLM ends with `expected one argument`, exit status 2."
                yield say(workload.obj, option.node, text)


@rule(
    "command/stray-word",
    "error",
    "A word that belongs to no flag",
    story="""`vllm serve` takes one word that is no flag, the model. A second one, an empty one (`- ""`, what a Helm
    template leaves), or one that begins with a dash from a word processor (`–max-model-len`) ends it with
    `unrecognized arguments`, exit status 2.""",
    cure="Remove the word, or write the flag that it is the value of.",
)
def stray_word(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _plain(world):
        command = engine.command
        if command.one_string or command.doubled or command.entry == "run-batch":
            continue
        if any(find_flag(o.word) is None for o in command.options):
            continue  # how many values an unknown flag takes nobody knows
        first = 0 if command.entry == "module" else 1
        for word, node in command.positional[first:]:
            odd = (
                re.search(r"[{}\[\]\"'=,]", word) and word[:1] not in _DASHES
            )  # parts of JSON that a shell took apart
            if not _templated(word) and not odd:
                yield say(
                    workload.obj,
                    node,
                    f"{_said(word)}: vLLM ends with `unrecognized arguments`, exit status 2.",
                )
        for word, node in command.positional[:first]:
            if word[:1] in _DASHES and word:
                yield say(workload.obj, node, f"{_said(word)}: vLLM takes it for the model's name.")


def _said(word: str) -> str:
    if not word.strip():
        return "an empty word stands here"
    if word[:1] in _DASHES:
        return f"`{word}` begins with U+{ord(word[0]):04X}, not with `-`"
    return f"`{word}` belongs to no flag"


@rule(
    "command/quotes-in-value",
    "error",
    "Quotes or spaces that become part of a value",
    story="""No shell runs here, and nobody takes quotes off: `--served-model-name="chat"` names the model `"chat"`,
    with its quotes, and a model's name with quotes or a space behind it is none (`Repo id must use alphanumeric
    chars`).""",
    cure="Leave the quotes out; YAML's own stand around the whole item.",
)
def quotes_in_value(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _plain(world):
        command = engine.command
        if command.script or command.entry == "kwargs":
            continue
        said = [
            (o.name, o.value or "", o.value_node)
            for o in command.options
            if o.name not in JSON and not o.open
        ]
        for name, text, node in [
            *said,
            *(("the model", word, node) for word, node in command.positional[:1]),
        ]:
            quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
            spaced = text != text.strip() and name in (
                "the model",
                "--model",
                "--tokenizer",
                "--served-model-name",
            )
            if (quoted or spaced) and not _templated(text):
                what = "the quotes are" if quoted else "the space is"
                ends = "; vLLM finds no such model" if "model" in name and "served" not in name else ""
                yield say(workload.obj, node, f"{what} part of {name}, `{text}`{ends}.")


@rule(
    "weights/not-a-model",
    "error",
    "A name under which vLLM finds no model",
    story="""vLLM takes a hub id (`org/name`), a folder with a config.json, or an object store's address. The page of
    a model (`https://huggingface.co/org/name`) is none, and a folder of the hub's cache
    (`models--org--name`) holds its files below `snapshots/<commit>`: `Repo id must be in the form ...`, `Invalid
    repository ID or local directory specified`.""",
    cure="Write the hub id, or the folder in which config.json is.",
)
def not_a_model(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for engine in workload.engines:
            model = engine.model or ""
            if re.match(r"https?://", model) and is_official(engine.image) and not model.endswith(".gguf"):
                page = re.fullmatch(r"https?://(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)/?", model)
                cure = f"Write {page[1]}." if page else None
                yield say(
                    workload.obj,
                    engine.model_node,
                    f"{model} is a page, no model: vLLM finds none and ends.",
                    cure,
                )
            elif re.search(r"/models--[\w.-]+--[\w.-]+/?$", model):
                text = (
                    f"{model} is a folder of the hub's cache: its config.json lies below snapshots/<commit>."
                )
                yield say(workload.obj, engine.model_node, text)


def _scripts(world: Manifests) -> Iterator[tuple[Workload, YamlNode, str]]:
    for workload in world.workloads:
        for engine in workload.engines:
            if engine.command.script:
                for node in [*engine.node["command"], *engine.node["args"]]:
                    if re.search(r"\bvllm\b", node.text()) and " " in node.text():
                        yield workload, node, node.text()


@rule(
    "command/leaves-at-once",
    "error",
    "A script that ends while the engine starts",
    story="""`vllm serve ... &` as a script's last command puts the engine into the background, and the script, process
    1, ends: so does the container (`Completed`, exit 0), again and again.""",
    cure="Leave the `&` out (best `exec vllm serve ...`), or end the script with `wait`.",
)
def leaves_at_once(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, node, text in _scripts(world):
        if re.search(r"(?<![&>])&\s*$", text):
            yield say(
                workload.obj,
                node,
                "the script ends with the engine in the background: the container ends with it.",
            )


@rule(
    "command/line-lost",
    "error",
    "Flags on a line that is not the command's",
    story="""In a shell a command goes on behind a line only where the backslash is the line's last character. Without
    it, with a space behind it or with a comment between, the flags below are a command of their own
    (`--max-model-len: not found`), which runs when vLLM has ended: never. vLLM starts without them.""",
    cure="End the line above with `\\`, and nothing behind it.",
)
def line_lost(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, node, text in _scripts(world):
        lines = text.split("\n")
        for i, line in enumerate(lines[1:], 1):
            before = "\n".join(lines[:i])
            closed = (
                before.count("(") == before.count(")")
                and not before.count("'") % 2
                and not before.count('"') % 2
            )
            if (
                re.match(r"\s*--[a-z]", line)
                and not lines[i - 1].endswith("\\")
                and closed
                and "<<" not in before
            ):
                flag = line.split()[0]
                said = f"{flag} and what follows it are not the command's: vLLM starts without them."
                yield say(workload.obj, _line(node, i), said)
                break


def _line(script: YamlNode, index: int) -> YamlNode:
    if script.style != "|":
        return script
    span = type(script.span)(
        script.span.line + 1 + index, script.span.column, 0, 0, script.span.line + 1 + index
    )
    return YamlNode(script.path, span, script.file, value="")
