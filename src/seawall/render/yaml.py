"""Objects -> YAML text, byte-stable: the same objects give the same bytes on every machine.

Strings that any YAML reader could take for something else (numbers, booleans, dates) are quoted, because
kubectl, Helm and Argo CD do not read with PyYAML. Keys keep the order in which renderers wrote them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml

from seawall.render.inputs import Object

_Base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
_PLAIN = re.compile(r"[A-Za-z/_][A-Za-z0-9_./-]*( [A-Za-z0-9_./(-][A-Za-z0-9_.,/()-]*)*")
_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null", "none", "~"])


class _Dumper(_Base):  # type: ignore[misc]  # the C dumper, if PyYAML was built with it
    def ignore_aliases(self, data: Any) -> bool:
        return True


def _string(dumper: Any, value: str) -> Any:
    style = None
    if "\n" in value:
        style = "|"
    elif not _PLAIN.fullmatch(value) or value.lower() in _WORDS or value.lower().startswith(("0x", "0o")):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _string)


def dump(value: Any) -> str:
    """One document, without a leading `---`."""
    text: str = yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, width=4000, allow_unicode=True, default_flow_style=False
    )
    return text


def dump_all(objects: Iterable[Object]) -> str:
    """Several documents, each after a `---` line."""
    return "".join(f"---\n{dump(o)}" for o in objects)
