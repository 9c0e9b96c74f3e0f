"""What a wrong key or value of a spec was meant to be: by its meaning first, by its spelling last.

People bring their words with them: a Deployment's `replicas`, KServe's `minReplicas`, vLLM's `--tensor-parallel-size`.
A key that looks alike and means something else ("count" is not "cloud") is worse than no hint. Forbidden here: the
validation itself, and pydantic's own words, which speak of Python.
"""

from __future__ import annotations

import difflib
import functools
import re
import types
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from seawall.config.meanings import EVERYWHERE, HERE, MEANS, WRITTEN
from seawall.domain.spec import Fleet, camel
from seawall.engines.vllm.versions import flags

SHORT, _NEAR_SHORT = 4, 0.66
"""Ratio that a short word has to reach: one wrong letter of three leaves two thirds."""
_NEAR = 0.8
"""difflib's ratio of a slip of the pen; words of one half in common (inputTokens, outputTokens) are others."""


def plain(key: str) -> str:
    """`--Max_model-len` -> `maxmodellen`: the same word in every spelling."""
    return "".join(c for c in key.lower() if c.isalnum())


def of_key(path: Sequence[str]) -> str:
    """What to write instead of an unknown key, as the end of a sentence. `path` leads to it: ("spec", "gpus")."""
    here, key = keys_at(path[:-1]), plain(path[-1])
    same = [k for k in here if plain(k) == key]
    if same:
        return f"did you mean {same[0]}?"
    parent = plain(path[-2]) if len(path) > 1 else ""
    # A word that means the same as one that stands here: a gateway's `replicaCount` is its own.
    if (meant := MEANS.get(key)) and (twin := next((k for k in here if MEANS.get(plain(k)) == meant), "")):
        return f"write {twin}"
    if at := HERE.get(f"{parent}.{key}") or MEANS.get(key):
        return f"write {_shown(at, path)}"
    if said := WRITTEN.get(key):
        return said
    elsewhere = () if key in EVERYWHERE and len(path) > 2 else _index().get(key, ())
    if len(elsewhere) == 1:
        return f"it belongs in {elsewhere[0]}"
    if elsewhere:
        return f"did you mean one of {', '.join(elsewhere)}?"
    if said := _as_flag(path[-1]):
        return said
    slip = _NEAR if len(key) > SHORT else _NEAR_SHORT
    near = difflib.get_close_matches(key, [plain(k) for k in here], 1, slip)
    if near:
        return f"did you mean {next(k for k in here if plain(k) == near[0])}?"
    if key in EVERYWHERE:
        return _known(here)
    words = [*(k for k in _index() if k not in EVERYWHERE), *MEANS]
    far = difflib.get_close_matches(key, words, 1, 0.88)
    if far:
        at = _index().get(far[0], (MEANS.get(far[0], ""),))[0]
        return f"did you mean {at.partition(':')[0]}?"
    return _known(here)


def _known(here: Sequence[str]) -> str:
    return f"known here: {', '.join(here)}" if here else "nothing may stand there"


def _as_flag(word: str) -> str:
    """What to do with `tool_call_parser` or `toolCallParser`; empty for what is no flag of `vllm serve`."""
    name = "--" + re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", word.lstrip("-")).replace("_", "-").lower()
    flag = flags().get(name)
    if flag is None:
        return ""
    if flag.removed is not None:
        return f"vLLM {'.'.join(map(str, flag.removed))} has no {name} any more; remove it"
    value = "" if flag.switch else ", VALUE"
    return f"it is a flag of vLLM: write spec.engine.extraArgs: [{name}{value}]"


def _shown(at: str, path: Sequence[str]) -> str:
    """The last word alone where it belongs beside the wrong one."""
    parent = at.partition(":")[0].rpartition(".")[0]
    last = at[len(parent) + 1 :]
    return last if parent == ".".join(path[:-1]) else at


@functools.cache
def _index() -> dict[str, tuple[str, ...]]:
    """Every key of a Fleet, plain -> the paths that end in it."""
    found: dict[str, list[str]] = {}
    for path in _paths(Fleet, ""):
        found.setdefault(plain(path.rpartition(".")[2]), []).append(path)
    return {k: tuple(v) for k, v in found.items()}


def _paths(cls: Any, prefix: str) -> Iterator[str]:
    for name, hint in get_type_hints(cls).items():
        if name.startswith("_"):
            continue
        yield (at := f"{prefix}{camel(name)}")
        inner = _class_in(hint)
        if inner is not None:
            yield from _paths(inner, f"{at}.")


def keys_at(path: Sequence[str]) -> list[str]:
    """The keys that may stand at a path of a Fleet; [] where anything may, or nothing."""
    cls = class_at(path)
    return [camel(f.name) for f in fields(cls)] if is_dataclass(cls) else []


@functools.cache
def _types(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)


def class_at(path: Sequence[str]) -> Any:
    """The dataclass that a path of a Fleet leads to, or None."""
    cls: Any = Fleet
    for part in path:
        if part.isdigit():
            continue
        cls = next((_class_in(t) for n, t in _types(cls).items() if camel(n) == part), None)
        if cls is None:
            return None
    return cls


def _class_in(hint: Any) -> Any:
    if is_dataclass(hint):
        return hint
    if get_origin(hint) in (list, Union, types.UnionType):
        return next((c for c in map(_class_in, get_args(hint)) if c), None)
    return None


def bare_numbers(data: Any) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Paths where true or false stands for a number, which Python would take for 1 or 0."""
    for path, value, hint in _scalars(data, Fleet, ()):
        if isinstance(value, bool) and _is_number(hint):
            yield path, value


def loose_booleans(data: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Paths where a number or a text ("yes", 1) stands for true or false, which the cluster's schema does not take."""
    for path, value, hint in _scalars(data, Fleet, ()):
        if isinstance(value, (str, int, float)) and not isinstance(value, bool) and _bare(hint) is bool:
            yield path, value


def _scalars(data: Any, cls: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """(path, value, type hint) of every field of a Fleet document that is no mapping and no list."""
    if isinstance(data, list):
        for i, item in enumerate(data):
            yield from _scalars(item, cls, (*path, str(i)))
    if not isinstance(data, dict) or not is_dataclass(cls):
        return
    hints = _types_by_key(cast(Hashable, cls))
    for key, value in data.items():
        hint = hints.get(str(key))
        if hint is None:
            continue
        if not isinstance(value, (dict, list)):
            yield (*path, str(key)), value, hint
        elif (inner := _class_in(_bare(hint))) is not None:
            yield from _scalars(value, inner, (*path, str(key)))


@functools.cache
def _types_by_key(cls: Any) -> dict[str, Any]:
    """A document's keys and what may stand there. Python reads annotations anew each time, for milliseconds."""
    return {camel(n): t for n, t in get_type_hints(cls, include_extras=True).items()}


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if hasattr(hint, "__metadata__") else hint


def _is_number(hint: Any) -> bool:
    hint = _bare(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return any(_is_number(h) for h in get_args(hint) if h is not type(None))
    return hint in (int, float)


def of_value(err: Mapping[str, Any], path: Sequence[str] = ()) -> str:
    """One of pydantic's errors as people say it: what was expected, and an example where that helps."""
    kind, ctx = str(err["type"]), err.get("ctx") or {}
    if kind == "value_error":
        return str(ctx["error"])
    if kind == "invalid_key":
        return "a key is a text: put it in quotes, or remove it"
    if kind == "literal_error":
        return f"write {_either(str(ctx['expected']))}"
    bound = next((b for b in ("ge", "gt", "le", "lt") if b in ctx), None)
    if bound is not None:
        words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
        return f"write a number that is {words[bound]} {ctx[bound]}"
    if kind == "int_from_float":
        return "write a whole number"
    for start, words_ in _KINDS.items():
        if kind.startswith(start):
            return words_
    if kind.startswith(("dataclass", "model", "dict", "mapping")):
        known = keys_at(path)
        some = ", ".join(known[:6]) + (", ..." if len(known) > 6 else "")
        example = f"such as {{{known[0]}: ...}}; known there: {some}" if known else "such as {key: value}"
        leave = "leave it out or " if err.get("input") is None else ""
        return f"{leave}write a mapping, {example}"
    if kind.endswith(("too_short", "too_long")):
        least, most = ctx.get("min_length"), ctx.get("max_length")
        return f"write at least {least}" if least is not None else f"write at most {most}"
    return "see `seawall schema` for what may stand there"


_KINDS = {
    "int_": "write a whole number", "float_": "write a number", "bool_": "write true or false",
    "string_type": "write a text, in quotes where YAML would take it for something else",
    "string_too_short": "write at least one character", "string_too_long": "write a shorter text",
    "list_": "write a list, such as [a, b]", "none_required": "leave it out",
}  # fmt: skip


def _either(expected: str) -> str:
    return expected.replace("'", "")


def shown(value: Any) -> str:
    """A wrong value as its YAML has it."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    return f"{value!r:.80}"
