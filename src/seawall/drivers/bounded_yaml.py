"""The YAML loader of every file that anybody may have written: its cost is bounded before anything is built of it.

Three things make a short text dear. Depth: the parser's time grows with its square, and whoever walks data recurses.
Aliases: a node that is used a thousand times within one that is used a thousand times is a million once it is walked,
and so are merged mappings. Number: a megabyte of dashes is half a million nodes. Each is refused while the text is
read, at its place. Forbidden here: what the data mean, and files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import yaml

MAX_DEPTH: Final = 100
"""Levels. A Fleet has ten, an object of Kubernetes twenty."""
MAX_NODES: Final = 100_000
"""Values of one text, those that aliases stand for counted each time. A fleet with a thousand tenants has twenty
thousand."""

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The C loader, if PyYAML was built with it."""


class BoundedLoader(_Base):  # type: ignore[misc]
    """See the module. Raises yaml.MarkedYAMLError where a bound is passed."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = self._nodes = 0
        mark: Any = "*" if isinstance(stream, str) else b"*"
        self._aliases = not isinstance(stream, str | bytes) or mark in stream

    # The composer calls these two around every node that is written; an alias calls neither.

    def descend_resolver(self, current_node: yaml.Node | None, current_index: Any) -> None:
        self._depth += 1
        self._nodes += 1
        if self._depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise _refused(_DEEP if self._depth > MAX_DEPTH else _MANY, current_node)

    def ascend_resolver(self) -> None:
        self._depth -= 1

    def get_node(self) -> Any:
        """The next document, no heavier than it may be."""
        root = super().get_node()
        if root is not None and self._aliases:
            _weigh(root)
        return root

    def get_single_node(self) -> Any:
        """The only document."""
        root = super().get_single_node()
        if root is not None and self._aliases:
            _weigh(root)
        return root


_MANY: Final = f"more than {MAX_NODES:,} values"
_DEEP: Final = f"nested deeper than {MAX_DEPTH} levels"


class _WrittenOut(NamedTuple):
    """Values and levels of a node with every alias written out."""

    nodes: int
    depth: int


_SCALAR: Final = _WrittenOut(1, 1)


def _weigh(root: yaml.Node) -> None:
    """Refuses what would be too large, or without end, once every alias is written out."""
    sizes: dict[int, _WrittenOut] = {}
    around: set[int] = set()
    """Nodes whose inside is being looked at: one that stands within itself has no end."""
    stack: list[yaml.Node] = [root]
    while stack:
        node = stack[-1]
        key = id(node)
        inner = [child for child in _children(node) if not isinstance(child, yaml.ScalarNode)]
        if key not in sizes and key not in around:
            around.add(key)
            if any(id(child) in around for child in inner):
                raise _refused("an alias stands within what it stands for", node)
            stack += inner
            continue
        stack.pop()
        if key in sizes:
            continue
        around.discard(key)
        size = sizes[key] = _WrittenOut(
            1 + sum(sizes.get(id(child), _SCALAR).nodes for child in _children(node)),
            1 + max((sizes.get(id(child), _SCALAR).depth for child in _children(node)), default=0),
        )
        if size.nodes > MAX_NODES or size.depth > MAX_DEPTH:
            raise _refused(f"{_MANY if size.nodes > MAX_NODES else _DEEP}, aliases written out", node)


def _refused(why: str, node: yaml.Node | None) -> yaml.MarkedYAMLError:
    return yaml.composer.ComposerError(None, None, why, node.start_mark if node is not None else None)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def tab_at(line: str, column: int) -> bool:
    """A tab is what a parser stumbled over: one stands there, or in the line's indentation. `column` from 0."""
    blanks = line[: len(line) - len(line.lstrip())]
    return "\t" in blanks or line[column : column + 1] == "\t"


def complaint(said: str, line: str, column: int) -> str:
    """A parser's complaint of a line, with what people do wrong there: a tab, a colon in a text. `column` from 0."""
    if tab_at(line, column):
        return "a tab stands there, and YAML is indented with blanks only; replace the tab"
    if "mapping values are not allowed" in said:
        return f"{said}: a text with a colon needs quotes, or the line is indented too far"
    return said
