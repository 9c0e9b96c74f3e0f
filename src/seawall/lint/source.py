"""Files, folders and stdin -> Kubernetes objects with places. The linter's only reader; it judges nothing.

Bounded: a file of more than MAX_BYTES is passed over, and so are large documents of kinds that no rule reads (CRDs,
dashboards). What cannot be read is reported with its place, and reading goes on behind it.
Snippets without a kind (a bare `spec:`) are joined to the one vLLM object of their file.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from seawall.drivers.bounded_yaml import complaint
from seawall.errors import InputError
from seawall.lint import charts
from seawall.lint.kinds import pod_specs
from seawall.lint.node import Malformed, YamlKey, YamlNode, parse, place
from seawall.lint.objects import Obj

MAX_BYTES = 16 * 2**20
MAX_FILES = 5000
MAX_BROKEN = 20
"""Documents of one file that are reported as broken."""
_BIG = 64 * 1024
_SEPARATOR = re.compile(r"^---(?=[ \t\r\n]|\Z)", re.M)
_SKIPPED_FOLDERS = {".git", "node_modules", ".venv", "venv", "__pycache__"}
_READ_KINDS = re.compile(
    r"Deployment|StatefulSet|DaemonSet|ReplicaSet|Job|CronJob|Pod|Rollout|LeaderWorkerSet|InferenceService|LLMInferenceService"
    r"|RayService|RayCluster|List|\w+List|ScaledObject|HorizontalPodAutoscaler|PodDisruptionBudget|PersistentVolumeClaim"
    r"|Service|Ingress|PodMonitor|ServiceMonitor|PrometheusRule|NetworkPolicy|Namespace|ServiceAccount|PriorityClass"
    r"|InferencePool|HTTPRoute|StorageClass"
)
_KIND = re.compile(r"^kind:[ \t]*[\"']?(\w+)", re.M)
_WORKLOAD_KEYS = {
    "strategy",
    "template",
    "replicas",
    "progressDeadlineSeconds",
    "minReadySeconds",
    "updateStrategy",
}
_POD_KEYS = {
    "containers", "initContainers", "tolerations", "affinity", "nodeSelector", "volumes", "securityContext",
    "priorityClassName", "terminationGracePeriodSeconds", "topologySpreadConstraints", "runtimeClassName",
}  # fmt: skip


@dataclass(frozen=True)
class BrokenText:
    """A file or document that is not YAML, or more than we read."""

    file: str
    line: int
    column: int
    message: str
    too_large: bool = False


@dataclass
class Sources:
    """What was read: objects, the texts (for fixes), and what could not be read."""

    objects: list[Obj] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    broken: list[BrokenText] = field(default_factory=list)
    duplicates: list[tuple[Obj, str, YamlNode]] = field(default_factory=list)
    documents: int = 0
    templates: int = 0
    """Files of charts that are templates, not YAML."""


def read(paths: Iterable[str]) -> Sources:
    """Everything under the paths; `-` is stdin. InputError when a path cannot be read at all."""
    sources = Sources()
    for name, text in _texts(paths, sources):
        add_text(sources, name, text)
    return sources


def add_text(sources: Sources, name: str, text: str) -> None:
    """Reads one text into `sources`."""
    text = text.removeprefix("\ufeff")
    sources.texts[name] = text
    whole: list[Obj] = []
    fragments: list[YamlNode] = []
    for root in _roots(sources, name, text):
        sources.documents += 1
        for node in _unlisted(root):
            obj = _object(node)
            if obj is not None:
                whole.append(obj)
                sources.duplicates += [(obj, *d) for d in _duplicates(node)]
            elif charts.is_values(node):
                whole.append(charts.as_object(node))
            elif node.entries is not None and "kind" not in node:
                fragments.append(node)
    _join(whole, fragments)
    sources.objects += whole


def _roots(sources: Sources, name: str, text: str) -> Iterator[YamlNode]:
    """The documents of a text. Behind a broken one, reading goes on with the next."""
    rest, start = _without_big_strangers(text), 0
    for _ in range(MAX_BROKEN):
        try:
            yield from parse(rest, name)
            return
        except Malformed as e:
            sources.broken.append(BrokenText(name, e.line, e.column, _explain(text, e), e.over))
            following = _behind(rest, start, e)
        if following is None or re.search(r"\{\{.*\}\}", text):
            return
        start = following
        rest = _blank(rest[:start]) + rest[start:]


def _behind(text: str, start: int, e: Malformed) -> int | None:
    """Where the document after the broken one begins; None when there is none, or nobody knows."""
    if not e.line or e.over:
        return None
    at = start
    for _ in range(e.line - 1 - text.count("\n", 0, start)):
        at = text.find("\n", at) + 1
        if not at:  # the place is behind the text's last line: it ended too early
            return None
    found = _SEPARATOR.search(text, max(at, start + 1))
    return found.start() if found else None


def _blank(text: str) -> str:
    return re.sub(r"[^\n]", " ", text)


def _texts(paths: Iterable[str], sources: Sources) -> Iterator[tuple[str, str]]:
    count = 0
    for given in paths:
        if given == "-":
            yield from _decoded("<stdin>", sys.stdin.buffer.read(MAX_BYTES + 1), sources)
            continue
        root = Path(given)
        for path in _files(root, sources) if root.is_dir() else [root]:
            count += 1
            if count > MAX_FILES:
                raise InputError(f"{given}: more than {MAX_FILES} YAML files.", "Name a smaller folder.")
            try:
                with path.open("rb") as f:
                    data = f.read(MAX_BYTES + 1)
            except OSError as e:
                raise InputError(
                    f"{path}: {e.strerror or e}.", "Name a YAML file, a folder, or - for stdin."
                ) from None
            yield from _decoded(str(path), data, sources)


def _decoded(name: str, data: bytes, sources: Sources) -> Iterator[tuple[str, str]]:
    """(name, text), or nothing and an entry in `broken`: the other files are still read."""
    if len(data) > MAX_BYTES:
        sources.broken.append(BrokenText(name, 1, 1, f"larger than {MAX_BYTES >> 20} MiB", too_large=True))
        return
    try:
        yield name, data.decode("utf-8")
    except UnicodeDecodeError as e:
        before = data[: e.start]
        line, column = before.count(b"\n") + 1, e.start - before.rfind(b"\n")
        message = f"byte 0x{data[e.start]:02x} is not UTF-8 text, save the file as UTF-8"
        sources.broken.append(BrokenText(name, line, column, message))


def _files(root: Path, sources: Sources) -> Iterator[Path]:
    for path in sorted(root.rglob("*.y*ml")):
        relative = path.relative_to(root).parts
        if path.suffix not in (".yaml", ".yml") or not path.is_file() or _SKIPPED_FOLDERS & set(relative):
            continue
        chart = next(
            (p for p in path.parents if p.name == "templates" and (p.parent / "Chart.yaml").exists()), None
        )
        if chart is not None:
            sources.templates += 1
            continue
        yield path


def _without_big_strangers(text: str) -> str:
    """Blanks large documents of kinds that no rule reads; every line keeps its number and offset."""
    if len(text) < _BIG:
        return text
    parts, done, begin = [], 0, 0
    for end in [*(m.start() for m in _SEPARATOR.finditer(text)), len(text)]:
        kind = _KIND.search(text, begin, end) if end - begin > _BIG else None
        if kind is not None and not _READ_KINDS.fullmatch(kind[1]):
            head = text.index("\n", begin) + 1 if text.startswith("---", begin) else begin
            parts += [text[done:head], _blank(text[head:end])]
            done = end
        begin = end
    return "".join([*parts, text[done:]])


def _explain(text: str, e: Malformed) -> str:
    if re.search(r"\{\{.*\}\}", text):
        return f"{e.message} (it is a template: render it first, `helm template ... | seawall lint -`)"
    lines = text.splitlines()
    line = lines[e.line - 1] if 0 < e.line <= len(lines) else ""
    return complaint(e.message, line, e.column - 1)


def _unlisted(root: YamlNode) -> Iterator[YamlNode]:
    if root["kind"].text().endswith("List") and root["items"].elements is not None:
        yield from root["items"]
    else:
        yield root


def _object(node: YamlNode) -> Obj | None:
    kind, api = node["kind"].text(), node["apiVersion"].text()
    if not kind or not api:
        return None
    meta = node["metadata"]
    name = meta["name"].text() or meta["generateName"].text()
    return Obj(node, kind, api, name, meta["namespace"].text("default"))


def _duplicates(root: YamlNode) -> Iterator[tuple[str, YamlNode]]:
    stack = [root]
    seen: set[int] = set()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        for key, span in node.duplicates:
            yield key, YamlNode((*node.path, key), span, node.file, value=key)
        stack += [*node, *(n for _, n in node.items())]


def _join(whole: list[Obj], fragments: list[YamlNode]) -> None:
    """Joins snippets to the only vLLM-like workload of the file, or keeps them as fragments of their own."""
    targets = [o for o in whole if o.kind in ("Deployment", "StatefulSet") and next(pod_specs(o), None)]
    for node in fragments:
        lifted = _lift(node)
        if lifted is None:
            continue
        if len(targets) == 1:
            merge(targets[0].node, lifted)
            place(targets[0].node, ())
        else:
            place(lifted, ())
            whole.append(Obj(lifted, "Deployment", "apps/v1", "", "default", fragment=True))


def _lift(node: YamlNode) -> YamlNode | None:
    """A snippet as a (partial) Deployment: bare `spec:` blocks, pod specs, deployment specs."""
    inner = node["spec"] if node["spec"].entries is not None else node
    keys = set(inner.entries or {})
    if keys & _WORKLOAD_KEYS:
        return _under(inner, ("spec",))
    if keys & _POD_KEYS:
        return _under(inner, ("spec", "template", "spec"))
    return None


def _under(node: YamlNode, path: tuple[YamlKey, ...]) -> YamlNode:
    for key in reversed(path):
        # `flow` keeps patches out of what does not stand in the text
        node = YamlNode(
            (), node.span, node.file, entries={str(key): node}, key_spans={str(key): node.span}, flow=True
        )
    return node


def merge(base: YamlNode, over: YamlNode) -> None:
    """Puts the mapping `over` into `base`; what both have as mappings is joined, else `over` wins."""
    stack = [(base, over)]
    while stack:
        into, new = stack.pop()
        assert into.entries is not None
        for key, node in new.items():
            old = into.entries.get(key)
            if old is not None and old.entries is not None and node.entries is not None:
                stack.append((old, node))
            else:
                into.entries[key] = node
                into.key_spans[key] = new.key_spans[key]
