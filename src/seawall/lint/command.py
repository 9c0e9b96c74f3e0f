"""How a container starts vLLM: its command line read the way the shell and vLLM's parser read it.

Knows `vllm serve`, the old module, bare args on a vLLM image, and both inside `sh -c`. It judges nothing.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field

from seawall.engines.vllm.versions import DEFAULT_VERSION, Version, find_flag, parse_version
from seawall.lint.node import Node, Span

_IMAGE = re.compile(r"(^|/)(vllm-openai|vllm-cpu|vllm-tpu|vllm-rocm|vllm-xpu|vllm|rhaiis)([-\w.]*)([:@]|$)")
_ROUTER = re.compile(r"router|gateway|operator|proxy|controller|sidecar")
_MODULE = re.compile(r"vllm\.entrypoints\.(openai\.)?api_server")
_SHELLS = {"sh", "bash", "ash", "dash"}
_START = re.compile(r"(^|[\s;&|(/])(vllm\s+(serve|run-batch)|python3?\s+-m\s+vllm\.entrypoints\S*)")


@dataclass(frozen=True)
class Option:
    """One option as written. `name` is the catalogue's, or the word itself when it is unknown."""

    word: str
    name: str
    value: str | None
    node: Node
    """Where the option stands: a list item, or a line inside a script."""
    value_node: Node
    negated: bool = False


@dataclass
class Command:
    """A vLLM command line. `known_flags` is False for wrappers that take options of their own."""

    entry: str
    """`serve`, `module`, `image` (args only), `run-batch` or `wrapper`."""
    node: Node
    options: list[Option] = field(default_factory=list)
    positional: list[tuple[str, Node]] = field(default_factory=list)
    known_flags: bool = True
    script: bool = False

    def option(self, name: str) -> Option | None:
        """The last one of that name: it wins."""
        return next((o for o in reversed(self.options) if o.name == name), None)

    def value(self, name: str) -> str | None:
        found = self.option(name)
        return found.value if found else None

    def integer(self, name: str) -> int | None:
        """The option's value as an integer (`16k` and `16K` as vLLM reads them), None when absent or a variable."""
        text = (self.value(name) or "").strip()
        m = re.fullmatch(r"(\d+)([kKmM]?)", text)
        if m is None:
            return None
        return int(m[1]) * {"": 1, "k": 1000, "K": 1024, "m": 10**6, "M": 2**20}[m[2]]

    def on(self, name: str) -> bool:
        found = self.option(name)
        return found is not None and not found.negated and (found.value or "true").lower() != "false"

    def off(self, name: str) -> bool:
        found = self.option(name)
        return found is not None and not self.on(name)


def image_version(image: str) -> Version | None:
    """The vLLM version that an image's tag names; None when it names none (latest, nightly, a digest alone), and
    for images that count their own versions (llm-d's, KServe's)."""
    name, _, tag = image.split("@", 1)[0].rpartition(":")
    ours = "vllm" in name.rsplit("/", 1)[-1] and re.match(r"v?0\.\d", tag)
    return parse_version(tag) if ours else None


def default_version() -> Version:
    version = parse_version(DEFAULT_VERSION)
    assert version is not None
    return version


def is_vllm_image(image: str) -> bool:
    return bool(_IMAGE.search(image)) and not _ROUTER.search(image.rsplit("/", 1)[-1])


def read_command(container: Node) -> Command | None:
    """The vLLM command of a container; None when it runs something else."""
    image = container["image"].text()
    words = [(n.text(), n) for n in [*container["command"], *container["args"]]]
    anchor = container["args"] or container["command"] or container["image"] or container
    if words and words[0][0].rsplit("/", 1)[-1] in _SHELLS:
        script = next((n for w, n in words[1:] if not re.fullmatch(r"-\w+", w)), None)
        return _from_script(script, anchor) if script is not None else None
    texts = [w for w, _ in words]
    names = [t.rsplit("/", 1)[-1] for t in texts]
    for i, name in enumerate(names):
        if name == "vllm" and i + 1 < len(names):
            return _read(Command(texts[i + 1], words[i + 1][1]), words[i + 2 :])
        if _MODULE.fullmatch(name):
            return _read(Command("module", words[i][1]), words[i + 1 :])
    if not is_vllm_image(image):
        return None
    if container["command"]:
        return Command("wrapper", anchor, known_flags=False)
    if texts and texts[0] == "serve":
        words = words[1:]
    return _read(Command("image", anchor), words)


def read_args(args: Node, model: tuple[str, Node]) -> Command:
    """Flags that somebody else's controller hands to `vllm serve MODEL`."""
    return _read(Command("image", args, positional=[model]), [(n.text(), n) for n in args])


def _from_script(script: Node, anchor: Node) -> Command | None:
    text = script.text()
    m = _START.search(text)
    if m is None:
        return None
    rest = text[m.end() :]
    end = re.search(r"(?<!\\)\n|;|&&|\|\||(?<![0-9])[|]|$", rest)
    tail = rest[: end.start() if end else len(rest)]
    block = script.style in ("|", ">")
    entry = "module" if "vllm.entrypoints" in m[0] else m[3]
    command = Command(entry, _inside(script, text, m.start(2), block), script=True)
    words: list[tuple[str, Node]] = []
    at = m.end()
    for line in tail.split("\n"):
        try:
            parts = shlex.split(line.rstrip().removesuffix("\\"), comments=True)
        except ValueError:
            parts = line.rstrip().removesuffix("\\").split()
        words += [(part, _inside(script, text, at, block)) for part in parts]
        at += len(line) + 1
    return _read(command, words)


def _inside(script: Node, text: str, offset: int, block: bool) -> Node:
    """A node for a line inside a script: it has a line of its own, and nothing of it can be edited."""
    line = script.span.line + (text.count("\n", 0, offset) + 1 if block else 0)
    span = Span(line, script.span.column, 0, 0, line)
    return Node(script.path, span, script.file, value="")


def _read(command: Command, words: list[tuple[str, Node]]) -> Command:
    i = 0
    while i < len(words):
        word, node = words[i]
        i += 1
        if not re.match(r"--?[A-Za-z]", word):
            command.positional.append((word, node))
            continue
        flag = find_flag(word)
        name = flag.name if flag else word.split("=", 1)[0]
        negated = flag is not None and word.startswith("--no-") and flag.name != word
        if "=" in word:
            command.options.append(Option(word, name, word.split("=", 1)[1], node, node, negated))
            continue
        takes = flag is None or not flag.switch
        value, value_node = None, node
        while takes and i < len(words) and not re.match(r"--?[A-Za-z]", words[i][0]):
            value, value_node = words[i] if value is None else (f"{value} {words[i][0]}", value_node)
            i += 1
            if flag is None or not flag.many:
                break
        command.options.append(Option(word.split("=", 1)[0], name, value, node, value_node, negated))
    return command
