"""YAML -> plain Python, for files that anybody may have written. The only YAML reader of the specs.

Refuses what YAML allows and people regret: duplicate keys, huge files, alias bombs (drivers/bounded_yaml.py), custom
tags.
Messages carry file:line:column. It knows nothing of fleets.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from seawall.drivers.bounded_yaml import BoundedLoader, complaint, tab_at
from seawall.errors import InputError, in_words

MAX_BYTES = 4 * 2**20
_ADDRESS = re.compile(r"(hf|pypi|s3|gs|oci|file):/+")
"""How the address of a model begins once it was taken for a path."""
_WRITE_ONE = (
    "Write one: seawall init MODEL --write fleet.yaml\n"
    "Or take an example: seawall init --example smollm2 --write fleet.yaml"
)


@dataclass(frozen=True)
class Document:
    """One YAML document: its data, where it starts, and the line (1-based) of every path in it."""

    data: Any
    line: int
    lines: dict[tuple[str | int, ...], int]


class _Loader(BoundedLoader):
    pass


def _mapping(loader: Any, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.tag != "tag:yaml.org,2002:merge" and isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} stands here twice", key.start_mark
                )
            seen.add(key.value)
    loader.flatten_mapping(node)
    return dict(yaml.constructor.SafeConstructor.construct_mapping(loader, node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)


def near_file(path: Path) -> str:
    """The file that was meant, as a question, if one beside it is called nearly so; else an empty text."""
    try:
        there = {p.stem: p.name for p in sorted(path.parent.iterdir()) if p.is_file()}
    except (OSError, ValueError):
        return ""
    near = difflib.get_close_matches(path.stem, there, 1, 0.75)  # an ending in common says nothing
    return f"Did you mean {path.parent / there[near[0]]}?" if near else ""


def read_text(path: Path) -> str:
    """The file's text, bounded; `-` is standard input. InputError says what to do when it cannot be read."""
    if str(path) == "-":
        return _stdin()
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(
                f"{path}: larger than {MAX_BYTES >> 20} MiB.", "A spec is a page; is this the right file?"
            )
        return path.read_text("utf-8")
    except FileNotFoundError:
        if address := _ADDRESS.match(str(path)):
            model = _ADDRESS.sub(rf"{address[1]}://", str(path))
            raise InputError(
                f"{model:.200}: names a model, not a file that holds a Fleet.",
                f"Write one: seawall init {model:.200} --write fleet.yaml",
            ) from None
        raise InputError(f"{path}: no such file.", near_file(path) or _WRITE_ONE) from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a directory.", "Name a YAML file.") from None
    except UnicodeDecodeError as e:
        raise InputError(f"{path}: is not UTF-8 text (byte {e.start}).", "Save it as UTF-8.") from None
    except OSError as e:
        raise InputError(f"{path}: {e.strerror or e}.", "Check the path and its permissions.") from None


def _stdin() -> str:
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InputError(f"standard input is larger than {MAX_BYTES >> 20} MiB.", "A spec is a page.")
    if not data.strip():
        raise InputError("standard input is empty.", "Look at the command before the pipe.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as e:
        raise InputError(
            f"standard input is not UTF-8 text (byte {e.start}).", "Pipe a spec into it."
        ) from None


def documents(text: str, name: str) -> list[Document]:
    """Every non-empty document of `text`. Raises InputError with `name`:line:column on malformed YAML."""
    try:
        return [
            Document(data, node.start_mark.line + 1, dict(_lines(node)))
            for node, data in _constructed(text)
            if data is not None
        ]
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise InputError(f"{name}{at}: {_said(e, text)}.", _CURE) from None
    except yaml.YAMLError as e:
        raise InputError(f"{name}: {e}".splitlines()[0], _CURE) from None
    except (RecursionError, ValueError) as e:
        raise InputError(f"{name}: cannot be read as YAML: {in_words(e)}.", _CURE) from None


_CURE = "Correct that line; the cause may be in the line before it."


def _said(e: yaml.MarkedYAMLError, text: str) -> str:
    """The parser's complaint, and what people do wrong there; a line with a template's brace is that of a chart."""
    mark, said = e.problem_mark or e.context_mark, str(e.problem or e.context)
    if mark is None:
        return said
    lines = text.splitlines()
    line = lines[mark.line] if mark.line < len(lines) else ""
    if "{{" in line and not tab_at(line, mark.column):
        return f"{said}: it looks like a template; render it first (helm template, kustomize build)"
    return complaint(said, line, mark.column)


def _constructed(text: str) -> Iterator[tuple[yaml.Node, Any]]:
    loader = _Loader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            if node is not None:
                yield node, loader.construct_document(node)
    finally:
        loader.dispose()


def _lines(root: yaml.Node) -> Iterator[tuple[tuple[str | int, ...], int]]:
    stack: list[tuple[tuple[str | int, ...], yaml.Node]] = [((), root)]
    seen = 0
    while stack and seen < 200_000:
        seen += 1
        path, node = stack.pop()
        yield path, node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if isinstance(key, yaml.ScalarNode):
                    stack.append(((*path, key.value), value))
                    yield (*path, key.value), key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode):
            stack.extend(((*path, i), item) for i, item in enumerate(node.value))
