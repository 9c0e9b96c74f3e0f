"""What a field of a Fleet is: its sentence, type, default and an example, out of the spec's own classes.

`seawall explain` prints it, and the reference page is made of it, so that neither can say what the code does not.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from seawall.config.hints import class_at, keys_at, of_key
from seawall.domain.spec import Fleet, camel
from seawall.domain.units import Bytes, Seconds, Tokens, show_bytes
from seawall.errors import InputError

_UNITS = ((Seconds, "a duration", "30s"), (Bytes, "a size", "200Gi"), (Tokens, "tokens", "16k"))

_EXAMPLES = {
    "metadata.name": "llama-70b", "metadata.namespace": "llm", "spec.model.source": "hf://Qwen/Qwen3-8B",
    "spec.model.revision": "b968826d9c46dd6066d109eabc6255188de91218", "spec.model.servedNames": "[llama-70b, gpt-4]",
    "spec.model.licence": "Apache-2.0", "spec.hardware.gpu": "H100-80GB", "spec.hardware.runtimeClass": "nvidia",
    "spec.engine.extraArgs": '["--enable-auto-tool-choice"]', "spec.engine.env": "{VLLM_LOGGING_LEVEL: DEBUG}",
    "spec.engine.image": "vllm/vllm-openai:v0.32.0", "spec.engine.gpuMemoryUtilization": "0.9",
    "spec.engine.maxNumSeqs": "256", "spec.engine.kvCacheMemory": "8Gi", "spec.traffic.rate": "10",
    "spec.scaling.target": "98", "spec.scaling.max": "10", "spec.cache.storageClass": "premium-rwx",
    "spec.cache.tokenSecret": "hub", "spec.gateway.keysFile": "keys.json", "spec.gateway.keysSecret": "gateway-keys",
    "spec.gateway.hosts": "[llm.example.com]", "spec.gateway.aliases": "{gpt-4o: llama-70b}",
    "spec.gateway.allowedOrigins": '["https://chat.example.org"]', "spec.gateway.parentGateway": "infra/public",
    "spec.gateway.image": "registry.example.com/seawall:0.1.0", "spec.hardware.nodeLabels": "{pool: gpu-large}",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FieldHelp:
    """One field: where it is, what it takes, what it is when left out, and what it means."""

    path: str
    kind: str
    default: str
    meaning: str
    example: str
    inner: tuple[str, ...] = ()
    """The keys below it, for a mapping."""


def explained(path: str) -> FieldHelp:
    """The help of `spec.scaling.target`; an empty path is the Fleet itself. InputError for what is no field."""
    parts = [p for p in path.strip(".").split(".") if p]
    if parts[:1] == ["Fleet"] or parts[:1] == ["fleet"]:
        parts = parts[1:]
    if parts and parts[0] not in keys_at([]) and parts[0] in keys_at(["spec"]):
        parts = ["spec", *parts]
    if not parts:
        return FieldHelp(
            path="Fleet",
            kind="a mapping",
            default="",
            meaning=_doc(Fleet),
            example="",
            inner=tuple(keys_at([])),
        )
    for n in range(1, len(parts) + 1):
        if parts[n - 1] not in keys_at(parts[: n - 1]):
            where = ".".join(parts[: n - 1]) or "a Fleet"
            hint = of_key(parts[:n])
            end = "" if hint.endswith("?") else "."
            raise InputError(
                f"{where} has no field {parts[n - 1]!r:.60}.", f"{hint[0].upper()}{hint[1:]}{end}"
            )
    return _help(parts)


def every() -> list[FieldHelp]:
    """All fields, in the order of the spec."""
    out: list[FieldHelp] = []

    def below(parts: list[str]) -> None:
        for key in keys_at(parts):
            out.append(_help([*parts, key]))
            below([*parts, key])

    below([])
    return out


def _help(parts: Sequence[str]) -> FieldHelp:
    owner = class_at(parts[:-1])
    field: Field[Any] = next(f for f in fields(owner) if camel(f.name) == parts[-1])
    hint = _hints(owner)[field.name]
    kind, example = _kind(hint)
    inner = tuple(keys_at(parts))
    default = _default(field, hint)
    if default and default not in ("nothing", "[]", "{}", "its own defaults"):
        example = default
    key = parts[-1]
    example = _EXAMPLES.get(".".join(parts), example)
    shown = (
        f"{key}: {example}"
        if example and not inner
        else f"{key}: {{{inner[0]}: ...}}"
        if inner
        else f"{key}: ..."
    )
    meaning = _docs(owner).get(field.name, "") or (_doc(class_at(parts)) if inner else "")
    return FieldHelp(
        path=".".join(parts),
        kind=kind,
        default=default,
        meaning=" ".join(meaning.split()),
        example=shown,
        inner=inner,
    )


def _kind(hint: Any) -> tuple[str, str]:
    """(what it takes, in words; an example)."""
    for alias, words, example in _UNITS:
        if hint == alias:
            return words, example
    metadata = getattr(hint, "__metadata__", ())
    if metadata:
        kind, example = _kind(get_args(hint)[0])
        bounds = {n: getattr(m, n) for m in metadata for n in ("ge", "gt", "le", "lt") if hasattr(m, n)}
        limits = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
        said = ", ".join(f"{limits[n]} {v:g}" for n, v in bounds.items())
        least = bounds.get("ge", bounds.get("gt"))
        if least is not None and kind == "a whole number":
            example = str(max(2, int(least)))
        return (f"{kind}, {said}" if said else kind), example
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _kind(next(a for a in get_args(hint) if a is not type(None)))
    if origin is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}", str(get_args(hint)[0])
    if origin is list:
        kind, example = _kind(get_args(hint)[0])
        return f"a list: each {kind}", f"[{example}]" if example else ""
    if origin is dict:
        return "a mapping of texts", "{key: value}"
    if is_dataclass(hint):
        return "a mapping", ""
    if hint is bool:
        return "true or false", "true"
    if hint is int:
        return "a whole number", "2"
    return ("a number", "0.5") if hint is float else ("a text", "text")


def _default(field: Field[Any], hint: Any) -> str:
    """What holds when it is left out; empty for a field that must be there."""
    if field.default_factory is not MISSING:
        made = field.default_factory()
        if made == {}:
            return "{}"
        return _list(made) if isinstance(made, list) else "its own defaults"
    if field.default is MISSING:
        return ""
    value = field.default
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if hint == Seconds:
        return _duration(value)
    if hint == Bytes:
        return show_bytes(value).replace(" ", "").removesuffix("B")
    return str(value)


def _duration(seconds: float) -> str:
    """A duration as a spec writes it: `5m`, `90s`, `0.06s`."""
    for size, unit in ((3600, "h"), (60, "m")):
        if seconds and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _list(made: list[Any]) -> str:
    return "[" + ", ".join(str(getattr(m, "weight", m)) for m in made) + "]"


def _doc(cls: Any) -> str:
    doc = (cls.__doc__ or "").strip() if cls is not None else ""
    return "" if doc.startswith(f"{getattr(cls, '__name__', '')}(") else " ".join(doc.split())


@cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


@cache
def _docs(cls: type[Any]) -> dict[str, str]:
    """The docstrings under a class's fields, its parents' included."""
    import ast
    import inspect
    import textwrap

    found: dict[str, str] = {}
    for each in (c for c in reversed(cls.__mro__) if "__dataclass_fields__" in vars(c)):
        body = ast.parse(textwrap.dedent(inspect.getsource(each))).body[0]
        assert isinstance(body, ast.ClassDef)
        for now, then in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(now, ast.AnnAssign)
                and isinstance(now.target, ast.Name)
                and isinstance(then, ast.Expr)
                and isinstance(then.value, ast.Constant)
                and isinstance(then.value.value, str)
            ):
                found[now.target.id] = then.value.value
    return found
