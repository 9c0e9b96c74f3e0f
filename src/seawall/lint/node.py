"""YAML as a tree that knows where everything stands, for anybody's files. No rule lives here.

Built from parse events with an explicit stack: no recursion to overflow, aliases are shared and counted, not
copied, values are counted as they come, so hostile YAML costs a bounded amount of memory. A path that is not there
gives a *missing* node, falsy, which still knows its path and the line of its nearest present ancestor: rules ask
without checking.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

MAX_DEPTH = 100
MAX_WEIGHT = 2_000_000
"""Nodes of one document, every alias counted as what it stands for."""
MAX_VALUES = 400_000
"""Nodes that are written in one text, about a kilobyte of memory each. etcd takes 1.5 MB for a whole object."""
MAX_DUPLICATES = 20
"""Duplicate keys that are told of one mapping; the rest says nothing new."""

YamlKey = str | int
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_RESOLVER: Any = yaml.resolver.Resolver()
_TRUE = {"yes", "true", "on"}


class Malformed(Exception):
    """The text is not YAML that we can read; line and column are 1-based. `over`: it is too large to go on."""

    def __init__(self, message: str, line: int = 0, column: int = 0, *, over: bool = False) -> None:
        super().__init__(message)
        self.message, self.line, self.column, self.over = message, line, column, over


@dataclass(frozen=True, slots=True)
class Span:
    """Where a node stands in its file: 1-based lines and columns, 0-based character offsets."""

    line: int
    column: int
    start: int
    end: int
    end_line: int


NOWHERE = Span(0, 0, 0, 0, 0)


@dataclass(eq=False, slots=True)
class YamlNode:
    """One YAML node. Mappings have `entries`, sequences `elements`, scalars `value`; missing ones nothing."""

    path: tuple[YamlKey, ...]
    span: Span
    file: str = ""
    value: Any = None
    entries: dict[str, YamlNode] | None = None
    elements: list[YamlNode] | None = None
    key: Span | None = None
    """Where its key stands, when it is a mapping's value."""
    key_spans: dict[str, Span] = field(default_factory=dict)
    duplicates: list[tuple[str, Span]] = field(default_factory=list)
    flow: bool = False
    style: str | None = None
    missing: bool = False
    weight: int = 1

    def __getitem__(self, key: YamlKey) -> YamlNode:
        if isinstance(key, str) and self.entries is not None and key in self.entries:
            return self.entries[key]
        if (
            isinstance(key, int)
            and self.elements is not None
            and -len(self.elements) <= key < len(self.elements)
        ):
            return self.elements[key]
        return YamlNode((*self.path, key), self.where, self.file, missing=True)

    def at(self, *keys: YamlKey) -> YamlNode:
        """The node at a path below; missing when any step is."""
        node = self
        for key in keys:
            node = node[key]
        return node

    def __bool__(self) -> bool:
        return not self.missing

    def __iter__(self) -> Iterator[YamlNode]:
        """The elements of a sequence; nothing for anything else."""
        return iter(self.elements or ())

    def __contains__(self, key: str) -> bool:
        return self.entries is not None and key in self.entries

    def items(self) -> Iterator[tuple[str, YamlNode]]:
        """Key and node of a mapping; nothing for anything else."""
        return iter((self.entries or {}).items())

    @property
    def where(self) -> Span:
        """Where a reader should look: at the key of a mapping or sequence, else at the value."""
        return self.key if self.key is not None and self.value is None else self.span

    @property
    def line(self) -> int:
        return self.where.line

    def text(self, default: str = "") -> str:
        """A scalar as text; `default` for anything else."""
        if self.missing or self.entries is not None or self.elements is not None or self.value is None:
            return default
        return ("true" if self.value else "false") if isinstance(self.value, bool) else str(self.value)

    def number(self, default: float | None = None) -> float | None:
        """A scalar as a finite number, also when it is written as text; `default` when it is none."""
        try:
            value = None if isinstance(self.value, bool) or self.value is None else float(self.value)
        except (TypeError, ValueError, OverflowError):
            return default
        return value if value is not None and math.isfinite(value) else default

    def plain(self) -> Any:
        """Plain Python data (bounded by MAX_WEIGHT)."""
        if self.entries is not None:
            return {k: v.plain() for k, v in self.entries.items()}
        if self.elements is not None:
            return [v.plain() for v in self.elements]
        return self.value


def show_path(path: tuple[YamlKey, ...]) -> str:
    """`("spec", "containers", 0)` -> `spec.containers[0]`."""
    out = ""
    for part in path:
        if isinstance(part, int):
            out += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z_][\w-]*", part):
            out += f".{part}" if out else part
        else:
            out += f'["{part}"]'
    return out


def parse(text: str, file: str) -> Iterator[YamlNode]:
    """Every non-empty document of `text`, lazily. Raises Malformed at the first place that is not YAML."""
    try:
        yield from _documents(text, file)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        where = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise Malformed(e.problem or e.context or "not YAML", *where) from None
    except yaml.reader.ReaderError as e:
        line = text.count("\n", 0, e.position) + 1
        raise Malformed(f"a character that YAML does not allow ({e.character!r})", line, 1) from None
    except (yaml.YAMLError, ValueError, UnicodeError) as e:
        raise Malformed(str(e).splitlines()[0] if str(e) else type(e).__name__) from None


def embedded(scalar: YamlNode) -> YamlNode:
    """The YAML inside a scalar (`serveConfigV2: |`), its lines those of the file; missing when there is none.

    Nothing in it can be edited: its offsets are not the file's.
    """
    nothing = YamlNode((*scalar.path, "..."), scalar.where, scalar.file, missing=True)
    text = scalar.text()
    if not text.strip():
        return nothing
    try:
        root = next(parse(text, scalar.file), None)
    except Malformed:
        return nothing
    if root is None:
        return nothing
    shift = scalar.span.line if scalar.style in ("|", ">") else scalar.span.line - 1
    seen: dict[int, YamlNode] = {}
    stack = [root]
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen[id(node)] = node
        node.span, node.key = _moved(node.span, shift), None
        node.key_spans = {k: _moved(s, shift) for k, s in node.key_spans.items()}
        node.flow = True
        stack += [*node, *(n for _, n in node.items())]
    place(root, scalar.path)
    return root


def _moved(span: Span, lines: int) -> Span:
    return Span(span.line + lines, span.column, 0, 0, span.line + lines)


def _documents(text: str, file: str) -> Iterator[YamlNode]:
    builder = _Builder(file)
    for event in yaml.parse(text, Loader=_Base):
        root = builder.feed(event)
        if root is not None and not (root.value is None and root.entries is None and root.elements is None):
            place(root, ())
            yield root


class _Builder:
    """Feeds on parse events; gives back the root when its document ends."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.values = 0
        self.reset()

    def reset(self) -> None:
        self.root: YamlNode | None = None
        self.stack: list[tuple[YamlNode, list[tuple[YamlNode, str]]]] = []
        self.keys: list[YamlNode | None] = []
        self.anchors: dict[str, YamlNode] = {}
        self.weight = 0

    def feed(self, event: Any) -> YamlNode | None:
        """Takes one event; the document's root at its end."""
        if isinstance(event, yaml.DocumentEndEvent):
            root = self.root
            self.reset()
            return root
        if isinstance(event, yaml.ScalarEvent):
            node = YamlNode((), _span(event), self.file, value=_scalar(event), style=event.style or None)
            self._anchor(event, node)
            self._add(node)
        elif isinstance(event, yaml.AliasEvent):
            target = self.anchors.get(event.anchor or "")
            if target is None:
                raise Malformed(f"the alias *{event.anchor} has no anchor", *_at(event))
            self._add(target)
        elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
            mapping = isinstance(event, yaml.MappingStartEvent)
            node = YamlNode((), _span(event), self.file, flow=bool(event.flow_style))
            node.entries, node.elements = ({}, None) if mapping else (None, [])
            self._anchor(event, node)
            self.stack.append((node, []))
            self.keys.append(None)
            if len(self.stack) > MAX_DEPTH:
                raise Malformed(f"nested deeper than {MAX_DEPTH} levels", *_at(event))
        elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
            node, _ = self.stack.pop()
            self.keys.pop()
            _close(node, event)
            self._add(node)
        return None

    def _anchor(self, event: Any, node: YamlNode) -> None:
        if event.anchor:
            self.anchors[event.anchor] = node

    def _add(self, node: YamlNode) -> None:
        self.values += 1
        if self.values > MAX_VALUES:
            raise Malformed(f"more than {MAX_VALUES:,} values", node.span.line, node.span.column, over=True)
        self.weight += node.weight
        if self.weight > MAX_WEIGHT:
            raise Malformed(
                f"more than {MAX_WEIGHT:,} values in one document, aliases written out",
                node.span.line,
                node.span.column,
            )
        if not self.stack:
            self.root = node
            return
        parent, _ = self.stack[-1]
        parent.weight += node.weight
        if parent.elements is not None:
            parent.elements.append(node)
            return
        assert parent.entries is not None
        key = self.keys[-1]
        if key is None:
            self.keys[-1] = node
            return
        self.keys[-1] = None
        name = key.text("null")
        if name == "<<" and not key.style:
            for source in [node, *node]:
                for k, v in source.items():
                    parent.entries.setdefault(k, v)
                    parent.key_spans.setdefault(k, key.span)
            return
        if (
            name in parent.key_spans
            and name in parent.entries
            and parent.key_spans[name].start < key.span.start
            and len(parent.duplicates) < MAX_DUPLICATES
        ):
            parent.duplicates.append((name, key.span))
        parent.entries[name] = node
        parent.key_spans[name] = key.span


def _at(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _span(event: Any) -> Span:
    a, b = event.start_mark, event.end_mark
    end_line = b.line + 1 if b.column or b.line == a.line else b.line
    return Span(a.line + 1, a.column + 1, a.index, b.index, end_line)


def _close(node: YamlNode, event: Any) -> None:
    """The end of a block collection is the end of its last child: comments after it are not its own."""
    last: Span | None = None
    children = node.entries.values() if node.entries is not None else (node.elements or ())
    for child in children:
        if last is None or child.span.end > last.end:
            last = child.span
    if node.flow or last is None:
        end = _span(event)
        last = Span(0, 0, 0, end.end, end.end_line)
    s = node.span
    node.span = Span(s.line, s.column, s.start, max(last.end, s.start), max(last.end_line, s.line))


def place(root: YamlNode, path: tuple[YamlKey, ...]) -> None:
    """Writes the path into every node (aliases keep the place where they are written first)."""
    stack = [(root, path)]
    seen: set[int] = set()
    while stack:
        node, at = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        node.path = at
        for key, child in node.items():
            child.key = node.key_spans.get(key)
            stack.append((child, (*at, key)))
        stack.extend((child, (*at, i)) for i, child in enumerate(node))


def _scalar(event: Any) -> Any:
    text: str = event.value
    if event.style or (event.tag and event.tag != "!") or not event.implicit[0]:
        return int(text) if event.tag == "tag:yaml.org,2002:int" and re.fullmatch(r"[-+]?\d+", text) else text
    tag = _RESOLVER.resolve(yaml.ScalarNode, text, (True, False))
    if tag.endswith(":null"):
        return None
    if tag.endswith(":bool"):
        return text.lower() in _TRUE
    if tag.endswith(":int"):
        return _integer(text)
    if tag.endswith(":float") and re.fullmatch(r"[-+]?[\d._]+([eE][-+]?\d+)?", text):
        return float(text.replace("_", ""))
    return text


def _integer(text: str) -> Any:
    digits = text.replace("_", "")
    if len(digits) > 40 or ":" in digits:
        return text
    try:
        return int(digits, 8) if re.fullmatch(r"[-+]?0[0-7]+", digits) else int(digits, 0)
    except ValueError:
        return text
