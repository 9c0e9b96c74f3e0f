"""Two states of one object as a unified diff, without what only the server keeps and without anything secret. Pure.

Hidden are a Secret's values, literal environment variables that are named like secrets, and the copy of the whole
object that `kubectl apply` leaves in an annotation. That a hidden value changes is said; what it is, never.
"""

from __future__ import annotations

import copy
import difflib
import re
from typing import Any

Object = dict[str, Any]
_NOISE = ("managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink")
_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_SECRET_NAME = re.compile(r"TOKEN|PASSW|SECRET|CREDENTIAL|(^|_)(API_?)?KEY($|_)", re.I)


def diff_of(ref: object, old: Object | None, new: Object) -> str:
    """Unified diff from `old` (None: it is not there) to `new`; empty when nothing differs."""
    before, after = _bare(old) if old is not None else {}, _bare(new)
    if before == after:
        return ""
    hidden = _hide(before, "(hidden)"), _hide(after, "(hidden)")
    if hidden[0] == hidden[1]:
        hidden = hidden[0], _hide(after, "(hidden, changed)")
    first, second = (_lines(x) if x else [] for x in hidden)
    return "\n".join(
        difflib.unified_diff(first, second, f"{ref} (cluster)", f"{ref} (rendered)", lineterm="", n=2)
    )


def _bare(obj: Object) -> Object:
    shown = {k: v for k, v in copy.deepcopy(obj).items() if k != "status"}
    meta = {k: v for k, v in (shown.get("metadata") or {}).items() if k not in _NOISE}
    notes = {k: v for k, v in (meta.pop("annotations", None) or {}).items() if k != _LAST_APPLIED}
    shown["metadata"] = meta | ({"annotations": notes} if notes else {})
    return shown


def _hide(obj: Object, word: str) -> Object:
    out: Object = copy.deepcopy(obj)
    if out.get("kind") == "Secret":
        for field in ("data", "stringData"):
            if isinstance(out.get(field), dict):
                out[field] = dict.fromkeys(out[field], word)
    _hide_env(out, word)
    return out


def _hide_env(value: Any, word: str) -> None:
    if isinstance(value, dict):
        name = value.get("name")
        if isinstance(value.get("value"), str) and isinstance(name, str) and _SECRET_NAME.search(name):
            value["value"] = word
        for inner in value.values():
            _hide_env(inner, word)
    elif isinstance(value, list):
        for inner in value:
            _hide_env(inner, word)


def _lines(obj: Object) -> list[str]:
    import yaml

    return yaml.safe_dump(obj, sort_keys=True, width=10_000).splitlines()
