"""What an API server does with a custom resource by its definition: drops nulls, checks the schema, the keys of lists
and the CEL rules. `violations` says what it would refuse, in words near the server's.

Unknown fields are pruned; whether that is an error, a warning or silence is the request's (fieldValidation). The rules
are evaluated by an implementation of CEL, which comes with `seawall[dev]`; without it they are not looked at.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Any

Schema = dict[str, Any]
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "boolean": (bool,), "array": (list,), "object": (dict,), "number": (int, float),
}  # fmt: skip


def without_nulls(schema: Schema, value: Any) -> Any:
    """The value as it is kept: a null is dropped where its field is not `nullable`. Items of lists stay."""
    if isinstance(value, list):
        return [without_nulls(schema.get("items", {}), item) for item in value]
    if not isinstance(value, dict):
        return value
    out = {}
    for key, inner in value.items():
        part = _part(schema, key)
        if inner is not None or part is None or part.get("nullable"):
            out[key] = without_nulls(part or {}, inner)
    return out


def pruned(schema: Schema, value: Any, path: str = "") -> tuple[Any, list[str]]:
    """The value without fields that no schema declares, and their paths."""
    lost: list[str] = []
    if isinstance(value, list):
        items = [pruned(schema.get("items", {}), item, f"{path}[{n}]") for n, item in enumerate(value)]
        return [v for v, _ in items], [p for _, found in items for p in found]
    if not isinstance(value, dict) or not schema:
        return value, lost
    out = {}
    for key, inner in value.items():
        part = _part(schema, key)
        if part is None and _closed(schema):
            lost.append(f"{path}.{key}".lstrip("."))
            continue
        out[key], found = pruned(part or {}, inner, f"{path}.{key}")
        lost += found
    return out, lost


def _closed(schema: Schema) -> bool:
    return "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields")


def violations(schema: Schema, value: Any) -> list[str]:
    """Why an object that has lost its nulls would be refused; empty when it is taken."""
    wrong = list(_wrong(schema, value, ""))
    return wrong or list(_broken(schema, value, ""))


def _part(schema: Schema, key: str) -> Schema | None:
    """Schema of a field; None where it is not declared."""
    found = (schema.get("properties") or {}).get(key, schema.get("additionalProperties"))
    return found if isinstance(found, dict) else None


def _wrong(schema: Schema, value: Any, path: str) -> Iterator[str]:
    if value is None:
        if not schema.get("nullable"):
            yield f"{path}: Invalid value: null"
        return
    if not _of_type(schema, value):
        kind = "integer or string" if schema.get("x-kubernetes-int-or-string") else schema.get("type")
        yield f"{path}: Invalid value: {type(value).__name__}: must be of type {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: Unsupported value: {value!r}: supported values: {', '.join(map(str, schema['enum']))}"
    if isinstance(value, str) and "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{path}: Invalid value: {value!r}: should match {schema['pattern']}"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _bounds(schema, value, path)
    if isinstance(value, list):
        yield from _list(schema, value, path)
    if isinstance(value, dict):
        yield from _fields(schema, value, path)


def _of_type(schema: Schema, value: Any) -> bool:
    if schema.get("x-kubernetes-int-or-string"):
        return isinstance(value, str) or _whole(value)
    kind = schema.get("type")
    if kind is None:
        return True
    if kind == "integer":
        return _whole(value)
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _whole(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and value == value // 1


def _bounds(schema: Schema, value: float, path: str) -> Iterator[str]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and (value < low or (schema.get("exclusiveMinimum") and value == low)):
        yield f"{path}: Invalid value: {value}: should be greater than {low}"
    if high is not None and (value > high or (schema.get("exclusiveMaximum") and value == high)):
        yield f"{path}: Invalid value: {value}: should be less than {high}"


def _list(schema: Schema, value: list[Any], path: str) -> Iterator[str]:
    for n, item in enumerate(value):
        yield from _wrong(schema.get("items", {}), item, f"{path}[{n}]")
    keys = schema.get("x-kubernetes-list-map-keys") or []
    if keys and all(isinstance(item, dict) for item in value):
        seen = [tuple(str(item.get(k)) for k in keys) for item in value]
        for n, key in enumerate(seen):
            if key in seen[:n]:
                yield f"{path}[{n}]: Duplicate value: {dict(zip(keys, key, strict=True))}"


def _fields(schema: Schema, value: dict[str, Any], path: str) -> Iterator[str]:
    for key in schema.get("required") or []:
        if key not in value:
            yield f"{path}.{key}: Required value"
    for key, inner in value.items():
        part = _part(schema, key)
        if part is not None:
            yield from _wrong(part, inner, f"{path}.{key}")
        elif _closed(schema):
            yield f'unknown field "{path}.{key}"'


def _broken(schema: Schema, value: Any, path: str) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if not _holds(rule["rule"], value):
            yield f"{path}: Invalid value: {rule.get('message') or rule['rule']}"
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _broken(_part(schema, key) or {}, inner, f"{path}.{key}")
    if isinstance(value, list):
        for n, item in enumerate(value):
            yield from _broken(schema.get("items", {}), item, f"{path}[{n}]")


def _holds(rule: str, value: Any) -> bool:
    compiled = _compiled(rule)
    return compiled is None or compiled.execute({"self": value}) is True


@functools.cache
def _compiled(rule: str) -> Any:
    """The rule, ready to be asked; None where there is no CEL or it asks about the object before."""
    try:
        import cel
    except ImportError:
        return None
    return None if "oldSelf" in rule else cel.compile(rule)
