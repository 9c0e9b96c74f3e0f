"""Rules about how a container is told to start vLLM: lists and strings, shells and entrypoints. Not about flags."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.image import is_official
from seawall.lint.node import YamlNode
from seawall.lint.objects import Container, Workload
from seawall.lint.patch import Edits, Patcher
from seawall.lint.world import Manifests


def _engines(world: Manifests) -> Iterator[tuple[Workload, Container]]:
    for workload in world.workloads:
        for engine in workload.engines:
            yield workload, engine


@rule(
    "command/one-string",
    "error",
    "The whole command line in one string",
    story="""Kubernetes starts no shell: each item of `command` is one argument, and the first is the
    name of the program. `command: ["vllm serve X --port 8000"]` looks for a program of that whole name:
    `exec: "vllm serve X --port 8000": executable file not found in $PATH`, CrashLoopBackOff or
    StartError.""",
    cure='Write one item per word: command: ["vllm", "serve", "X"], or ["sh", "-c", "exec vllm serve X ..."].',
)
def one_string(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        if engine.command.one_string:
            node = next(iter(engine.node["command"]), None) or engine.node["command"] or engine.node["args"]
            named = bool(engine.node["command"]) or not is_official(engine.image)
            yield say(
                workload.obj,
                node,
                "the whole command line is one item: no program has that name, the container never starts "
                "(`executable file not found`)."
                if named
                else "the whole command line is one argument of the image's entrypoint: vLLM ends with `unrecognized "
                "arguments`, or finds no such model.",
            )


@rule(
    "command/space-in-argument",
    "error",
    "A flag and its value in one item",
    story="""Each item of `args` reaches vLLM as one argument. `- --max-model-len 8192` is a single word
    with a space in it, which vLLM's parser takes for no flag at all: `error: unrecognized arguments:
    --max-model-len 8192`, exit status 2, in every version. A space is taken apart by a shell only, and
    none is running here.""",
    cure="Write `--flag=value`, or the flag and its value as two items.",
    fixable=True,
)
def space_in_argument(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload, engine in _engines(world):
        for node in engine.command.glued:
            text = node.text().strip()
            words = text.split()
            edits: Edits = ()
            if len(words) == 2 and "=" not in words[0] and not words[1].startswith("-"):
                edits = patch.replace(node, "=".join(words))
            yield say(
                workload.obj,
                node,
                f"`{_short(text)}` is one argument with a space in it: vLLM ends with `unrecognized arguments`.",
                f"Write {words[0]}={_short(' '.join(words[1:]))}, or two items." if len(words) == 2 else None,
                edits=edits,
            )


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."


@rule(
    "command/entrypoint-twice",
    "error",
    "The image starts the server already",
    story="""`args` without `command` are handed to the image's entrypoint, and vllm/vllm-openai's is
    `vllm serve` (the API server module in older ones). With args that begin with `vllm`, `serve`,
    `python3` or `sh` the server is asked to serve a model of that name, or ends with `unrecognized
    arguments`.""",
    cure="Put the program into `command`, or leave its name out of `args`.",
    fixable=True,
)
def entrypoint_twice(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload, engine in _engines(world):
        node = engine.command.doubled
        if node is None or not is_official(engine.image) or engine.command.one_string:
            continue
        args = engine.node["args"]
        words = [n.text() for n in args]
        first = 2 if words[:2] == ["vllm", "serve"] else 1 if words[:1] == ["serve"] else 0
        edits = patch.remove_items(args, list(args)[:first]) if first else ()
        yield say(
            workload.obj,
            node,
            f"the image's entrypoint is vLLM's server: it gets `{_short(node.text())}` as an argument and does "
            "not start.",
            edits=edits,
        )


@rule(
    "command/shell-drops-arguments",
    "error",
    "The shell runs the first word only",
    story="""`sh -c` takes one argument, the script; what follows becomes $0, $1, ... of the script.
    `command: [sh, -c]` with `args: [vllm, serve, X]` runs `vllm` without any argument: it prints its
    usage and ends.""",
    cure='Write the script as one item, `args: ["exec vllm serve X ..."]`, or leave the shell out.',
)
def shell_drops(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        if engine.command.lost is not None:
            yield say(
                workload.obj,
                engine.command.lost,
                f"`sh -c` runs `{engine.command.lost.text()}` alone; the items after it are not its arguments: "
                "vLLM prints its usage and ends.",
            )


@rule(
    "command/not-a-string",
    "error",
    "A number where Kubernetes wants a string",
    story="""Items of `command` and `args` and the `value` of an environment variable are strings. An
    unquoted number, true/false or {...} is something else in YAML, and the API server refuses the whole
    object: `cannot unmarshal number into Go struct field Container.args of type string`.""",
    cure="Put it in quotes.",
    fixable=True,
)
def not_a_string(world: Manifests, say: Say) -> Iterator[Finding]:
    patch = Patcher(world.texts)
    for workload in world.workloads:
        containers = [
            *workload.pod["containers"],
            *workload.pod["initContainers"],
            workload.pod["mainContainer"],
        ]
        for container in containers or [e.node for e in workload.engines]:
            for node in _strings(container):
                odd = node.entries is not None or isinstance(node.value, int | float)
                if not node or not odd:
                    continue
                written = world.texts.get(node.file, "")[node.span.start : node.span.end]
                if written.startswith("{{"):
                    continue  # a template that nobody has rendered
                text = "{...}" if node.entries is not None else node.text()
                edits = patch.replace(node, f'"{written}"') if node.entries is None else ()
                yield say(
                    workload.obj,
                    node,
                    f"{text} without quotes is no string: the API server refuses the object "
                    "(`cannot unmarshal ... of type string`).",
                    edits=edits,
                )


def _strings(container: YamlNode) -> Iterator[YamlNode]:
    yield from container["command"]
    yield from container["args"]
    for item in container["env"]:
        if item["value"]:
            yield item["value"]


@rule(
    "command/missing-key",
    "error",
    "A Secret or ConfigMap that has no such key",
    story="""The container is not made until the key exists: `CreateContainerConfigError: couldn't find
    key token in Secret llm/hub`. Keys are case-sensitive. Reported when the object itself stands in the
    same files.""",
    cure="Use a key that the object has, or mark the reference optional.",
)
def missing_key(world: Manifests, say: Say) -> Iterator[Finding]:
    made = {
        (o.kind, o.namespace, o.name): {
            *(o.node["data"].entries or {}),
            *(o.node["stringData"].entries or {}),
        }
        for o in world.kinds("Secret", "ConfigMap")
    }
    for workload in world.workloads:
        for container in [*workload.pod["containers"], *workload.pod["initContainers"]]:
            for item in container["env"]:
                for ref, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
                    node = item.at("valueFrom", ref)
                    keys = made.get((kind, workload.obj.namespace, node["name"].text()))
                    key = node["key"]
                    if node and keys and key.text() not in keys and node["optional"].value is not True:
                        yield say(
                            workload.obj,
                            key,
                            f"{kind} {node['name'].text()} has no key {key.text()} (it has "
                            f"{', '.join(sorted(keys)[:4])}): "
                            "CreateContainerConfigError.",
                        )


_PLAIN_VARIABLE = re.compile(r"\$\{\w+\}|\$[A-Z][A-Z0-9_]+")


@rule(
    "command/variable-not-expanded",
    "warning",
    "A variable that nobody expands",
    story="""Without a shell only `$(NAME)` is replaced, by the kubelet and from the container's own
    variables. `${MODEL}` and `$MODEL` reach vLLM as they are written: it looks for a model of that name.
    Not said where `${...}` stands elsewhere in the file too: a template that is filled in before.""",
    cure="Write $(NAME), with NAME among the container's env, or start vLLM through sh -c.",
)
def variable_not_expanded(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        if engine.command.script or engine.command.entry == "wrapper":
            continue
        nodes = [*engine.node["command"], *engine.node["args"]]
        found = [n for n in nodes if _PLAIN_VARIABLE.search(n.text())]
        said = sum(len(re.findall(r"\$\{", n.text())) for n in nodes)
        if found and world.texts.get(workload.obj.node.file, "").count("${") <= said:
            text = (
                f"{found[0].text()} reaches vLLM as it is written: without a shell only $(NAME) is replaced."
            )
            yield say(workload.obj, found[0], text)


@rule(
    "command/flag-twice",
    "warning",
    "A flag that stands twice",
    story="""Of a flag that is given twice vLLM takes the last value alone, without a word: the first
    adapters of two `--lora-modules` are not loaded, and of two context lengths one is not meant.""",
    cure="Write the flag once; several values follow it in one list: --lora-modules a=/x b=/y.",
)
def flag_twice(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload, engine in _engines(world):
        if engine.command.several or engine.command.entry in ("wrapper", "kwargs"):
            continue
        first: dict[str, str] = {}
        for option in engine.command.options:
            if option.name in _COLLECTED or "." in option.word or option.value is None:
                continue
            if option.name in first and first[option.name] != option.value:
                text = f"{option.name} stands twice, and only the last counts: {first[option.name]} has no effect."
                yield say(workload.obj, option.node, text)
            first[option.name] = option.value


_COLLECTED = {"--middleware"}
"""Flags whose values are collected however often they stand."""
