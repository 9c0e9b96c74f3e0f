"""How a container starts vLLM: its command line read the way the shell and vLLM's parser read it.

A container runs vLLM when its argv[0] is `vllm`, when Python runs one of vLLM's modules, when a shell script does one
of both, or when the image does it by itself. An argument that happens to be `vllm` is not a command. It judges
nothing; what cannot work as it is written (one string where a list belongs) is read as it was meant, and noted.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field

from seawall.engines.vllm.versions import DEFAULT_VERSION, Version, find_flag, parse_version
from seawall.lint import shell
from seawall.lint.image import is_official, is_stand_in, is_vllm_image
from seawall.lint.node import Span, YamlNode

_SERVER_MODULE = re.compile(r"vllm\.entrypoints\.(openai\.)?api_server|vllm\.entrypoints\.openai\.run_batch")
_DEMO = "vllm.entrypoints.api_server"
_DYNAMO = "dynamo.vllm"
_SHELLS = {"sh", "bash", "ash", "dash", "zsh"}
_PYTHON = re.compile(r"python(3(\.\d+)?)?")
# Programs that run the rest of their command line, and how many words of their own they take at most.
_PREFIXES = {
    "env", "exec", "tini", "dumb-init", "nohup", "numactl", "nice", "stdbuf", "time", "uv", "poetry", "catatonit",
    "opentelemetry-instrument", "ddtrace-run", "nsys", "setsid", "taskset", "ionice", "mpirun", "sudo",
}  # fmt: skip
_START = re.compile(
    r"(?P<lead>^|[\s;&|(/'\"`])(?P<what>vllm[ \t]+(?P<verb>serve|run-batch)(?=\s|\\|$)"
    r"|python3?(\.\d+)?([ \t]+-[a-zA-Z]+)*[ \t]+-m[ \t]+"
    r"(?P<module>vllm\.entrypoints[.\w]*|dynamo\.vllm(?![\w.]))([ \t]+serve\b)?)"
)
_TALK = re.compile(r"\b(echo|printf|pgrep|pkill|grep|which|kill|log|command -v)\b|^\s*#|\s#\s")
_LIST = re.compile(r"\$[@*]|\[[@*]\]|\$[({]?\w*(ARGS|FLAGS|OPTS|OPTIONS|PARAMS|CMD)", re.I)
"""A variable that holds several words of a command line."""
SERVES = ("serve", "module", "image", "run-batch")


@dataclass(frozen=True)
class Option:
    """One option as written. `name` is the catalogue's, or the word itself when it is unknown."""

    word: str
    name: str
    value: str | None
    node: YamlNode
    """Where the option stands: a list item, or a line inside a script."""
    value_node: YamlNode
    negated: bool = False
    open: bool = False
    """Whether the value comes from a variable, and so is unknown."""
    given: bool = False
    """A value was handed to it with `=`."""


@dataclass
class Command:
    """A vLLM command line. `known_flags` is False for wrappers that take options of their own."""

    entry: str
    """`serve`, `module`, `image` (args only), `run-batch`, `dynamo`, `kwargs` (keys of some YAML) or `wrapper`."""
    node: YamlNode
    options: list[Option] = field(default_factory=list)
    positional: list[tuple[str, YamlNode]] = field(default_factory=list)
    known_flags: bool = True
    script: bool = False
    glued: list[YamlNode] = field(default_factory=list)
    """Items that hold several words of the command line in one string; no shell takes them apart."""
    one_string: bool = False
    """The whole command is the name of one program: the container cannot start."""
    doubled: YamlNode | None = None
    """A program name handed to an image whose entrypoint is the server already."""
    several: bool = False
    """The script starts more than one engine; the first is read."""
    demo: bool = False
    """Whether it is the demonstration server (vllm.entrypoints.api_server), which has options of its own."""
    lost: YamlNode | None = None
    """`sh -c` with its command as several items: only the first of them is run."""

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

    @property
    def is_open(self) -> bool:
        """True when whole words of the command line come from variables, so that more may be said than is seen."""
        first = 0 if self.option("--model") or self.entry in ("module", "dynamo") else 1
        if self.positional and _LIST.search(self.positional[0][0]):
            first = 0
        return any("$" in o.word for o in self.options) or any("$" in w for w, _ in self.positional[first:])


Words = list[tuple[str, YamlNode, bool]]
"""(word, where it stands, whether a variable stands in it)."""


def default_version() -> Version:
    version = parse_version(DEFAULT_VERSION)
    assert version is not None
    return version


def read_command(container: YamlNode) -> Command | None:
    """The vLLM command of a container; None when it runs something else."""
    image = container["image"].text()
    if is_stand_in(image):
        return None
    own, extra = list(container["command"]), list(container["args"])
    if container["args"].value is not None or container["command"].value is not None:
        own, extra = _scalar(container["command"]) or own, _scalar(container["args"]) or extra
    anchor = container["args"] or container["command"] or container["image"] or container
    nodes = [*own, *extra]
    known = {e["name"].text(): e["value"].text() for e in container["env"] if e["value"]}
    texts = [_expanded(n.text(), known) for n in nodes]
    words: Words = [(text, n, "$" in text) for text, n in zip(texts, nodes, strict=True)]
    found = _program(words, anchor)
    if found is not None:
        if not own and is_official(image) and found.entry != "image":
            found.doubled = nodes[0]
        return found
    if own or not is_vllm_image(image):
        return Command("wrapper", anchor, known_flags=False) if own and _wraps(image, words) else None
    command = Command("image", anchor, known_flags=True)
    if words and words[0][0] == "serve":
        if is_official(image):
            command.doubled = nodes[0]
        words = words[1:]
    return _read(command, words)


def _expanded(text: str, known: dict[str, str]) -> str:
    """The text with `$(NAME)` put in, as the kubelet does, from what the env of the container says."""
    return re.sub(r"(?<!\$)\$\(([\w.-]+)\)", lambda m: known.get(m[1], m[0]), text)


def _scalar(node: YamlNode) -> list[YamlNode]:
    """`command: vllm serve X` written as a scalar where Kubernetes wants a list."""
    return [node] if isinstance(node.value, str) else []


def _wraps(image: str, words: Words) -> bool:
    """True for a vLLM image whose own command is a script that we cannot see into; not for another program in it."""
    if not is_vllm_image(image) or not words:
        return False
    name = words[0][0].rsplit("/", 1)[-1]
    if name in _SHELLS:
        script = _script_of(words)
        text = script.text() if script is not None else ""
        helper = re.search(r"ray start|\.sh['\"]?\s+worker\b|sleep infinity|tail -f /dev/null", text)
        return not helper and bool(re.search(r"\bvllm\b|serve|entrypoint|start", text))
    return name.endswith(".sh") and "worker" not in name and "bench" not in name


def read_args(args: YamlNode, model: tuple[str, YamlNode] | None) -> Command:
    """Flags that somebody else's controller hands to `vllm serve MODEL`."""
    command = Command("image", args, positional=[model] if model else [])
    return _read(command, [(n.text(), n, "$" in n.text()) for n in args])


def read_line(node: YamlNode, text: str, entry: str = "image") -> Command:
    """Flags of one line of text, as a shell would take it apart (an environment variable that a preset evaluates)."""
    command = Command(entry, node, script=True)
    return _read(command, [(w.text, _inside(node, text, w.offset), w.open) for w in shell.words(text, 0)])


def read_keys(
    items: Iterable[tuple[str, YamlNode]], node: YamlNode, model: tuple[str, YamlNode] | None
) -> Command:
    """Keys of somebody's YAML that become engine arguments: `tensor_parallel_size: 2`, `max-model-len: 8192`."""
    command = Command("kwargs", node, positional=[model] if model else [], known_flags=False)
    for key, value in items:
        word = "--" + key.replace("_", "-")
        flag = find_flag(word)
        off = value.value is False
        command.options.append(
            Option(
                word,
                flag.name if flag else word,
                value.text() or None,
                value,
                value,
                off,
                "$" in value.text(),
            )
        )
    return command


def _program(words: Words, anchor: YamlNode) -> Command | None:
    """The command whose argv[0] is vLLM, directly, through Python, behind a prefix or inside a shell."""
    if not words:
        return None
    first = words[0][0].strip()
    if len(first.split()) > 1 and _START.match(first):
        command = _from_script(words[0][1], anchor)
        if command is not None:
            command.one_string = True
            _read(command, words[1:])
        return command
    name = first.rsplit("/", 1)[-1]
    if name in _SHELLS:
        script = _script_of(words)
        if script is None:
            return None
        command = _from_script(script, anchor)
        return command or _lost(words, script, anchor)
    if name == "vllm":
        verb = words[1][0] if len(words) > 1 else ""
        if verb in ("serve", "run-batch"):
            return _read(Command(verb, words[1][1]), words[2:])
        return None
    if _PYTHON.fullmatch(name):
        at = next((i for i, w in enumerate(words[:6]) if w[0] == "-m"), 0)
        module = words[at + 1][0] if at and at + 1 < len(words) else ""
        if _SERVER_MODULE.fullmatch(module):
            entry = "run-batch" if module.endswith("run_batch") else "module"
            return _read(Command(entry, words[at + 1][1], demo=module == _DEMO), words[at + 2 :])
        if module == _DYNAMO:
            return _read(Command("dynamo", words[at + 1][1], known_flags=False), words[at + 2 :])
        if (
            module.startswith("vllm.entrypoints.cli")
            and words[at + 2 : at + 3]
            and words[at + 2][0] == "serve"
        ):
            return _read(Command("serve", words[at + 2][1]), words[at + 3 :])
        return None
    if name in _PREFIXES:
        for i, (word, _, _) in enumerate(words[1:8], 1):
            program = word.rsplit("/", 1)[-1]
            if program == "vllm" or program in _SHELLS or _PYTHON.fullmatch(program):
                return _program(words[i:], anchor)
    return None


def _script_of(words: Words) -> YamlNode | None:
    """The script of `sh -c SCRIPT`; None for `sh file.sh`."""
    flagged = False
    for word, node, _ in words[1:]:
        if word == "--":
            continue
        if re.fullmatch(r"[-+]\w+", word):
            flagged = flagged or "c" in word
            continue
        return node if flagged or len(word.split()) > 1 else None
    return None


def _lost(words: Words, script: YamlNode, anchor: YamlNode) -> Command | None:
    """`sh -c` with `vllm`, `serve`, ... as items of their own: the shell runs `vllm` alone."""
    at = next((i for i, w in enumerate(words) if w[1] is script), 0)
    if len(script.text().split()) > 1 or len(words) < at + 2:
        return None
    command = _program(words[at:], anchor)
    if command is not None:
        command.lost = script
    return command


def _from_script(script: YamlNode, anchor: YamlNode) -> Command | None:
    text = script.text()
    for m in _START.finditer(text):
        line = text[text.rfind("\n", 0, m.start("what")) + 1 : m.start("what")]
        behind = re.split(r"[;&|(]", line)[-1]
        if _TALK.search(behind) or (m["lead"] in ("'", '"', "`") and not re.search(r"-l?c\s*['\"]$", line)):
            continue
        module = m["module"] or ""
        entry = "dynamo" if module == _DYNAMO else "module" if module else m["verb"]
        if module and entry == "module" and not _SERVER_MODULE.fullmatch(module.split()[0]):
            continue
        command = Command(
            entry, _inside(script, text, m.start("what")), script=True, known_flags=entry != "dynamo"
        )
        command.demo = bool(module) and module.split()[0] == _DEMO
        command.several = _START.search(text, m.end()) is not None
        rest = [(w.text, _inside(script, text, w.offset), w.open) for w in shell.words(text, m.end())]
        return _read(command, rest)
    return None


def _inside(script: YamlNode, text: str, offset: int) -> YamlNode:
    """A node for a line inside a script: it has a line of its own, and nothing of it can be edited."""
    block = script.style in ("|", ">")
    line = script.span.line + (text.count("\n", 0, offset) + 1 if block else 0)
    line = min(line, max(script.span.end_line, script.span.line))
    span = Span(line, script.span.column, 0, 0, line)
    return YamlNode(script.path, span, script.file, value="")


def _apart(words: Words, command: Command) -> Words:
    """The words with glued ones (`--port 8000` in one item) taken apart, and noted."""
    out: Words = []
    for word, node, is_open in words:
        stripped = word.strip()
        if (
            not command.script
            and re.match(r"--?[A-Za-z][\w.-]*\s+\S", stripped)
            and "\n" not in stripped.split("=")[0]
        ):
            command.glued.append(node)
            try:
                parts = shlex.split(stripped)
            except ValueError:
                parts = stripped.split()
            out += [(p, node, is_open) for p in parts]
        else:
            out.append((word, node, is_open))
    return out


def _read(command: Command, words: Words) -> Command:
    words = _apart(words, command)
    i = 0
    while i < len(words):
        word, node, is_open = words[i]
        i += 1
        if not re.match(r"--?[A-Za-z]", word):
            command.positional.append((word, node))
            continue
        flag = find_flag(word)
        name = flag.name if flag else word.split("=", 1)[0]
        negated = flag is not None and word.startswith("--no-") and flag.name != word.split("=", 1)[0]
        if "=" in word:
            key, value = word.split("=", 1)
            command.options.append(Option(key, name, value, node, node, negated, is_open, given=True))
            continue
        takes = flag is None or not flag.switch
        found, value_node = None, node
        if not takes and i < len(words) and words[i][0].lower() in ("true", "false"):
            found, value_node, _ = words[i]
            i += 1
        while takes and i < len(words) and not re.match(r"--?[A-Za-z]", words[i][0]):
            text, value_node, unknown = words[i]
            found = text if found is None else f"{found} {text}"
            is_open = is_open or unknown
            i += 1
            if flag is None or not flag.many:
                break
        command.options.append(Option(word, name, found, node, value_node, negated, is_open))
    return command
