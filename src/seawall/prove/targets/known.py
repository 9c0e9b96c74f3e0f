"""The targets that ship, and what was looked for and cannot be had."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from seawall.errors import InputError
from seawall.prove.targets.adapter import TargetAdapter
from seawall.prove.targets.command import CommandTarget, UrlTarget
from seawall.prove.targets.direct import Direct
from seawall.prove.targets.envoy import Envoy
from seawall.prove.targets.haproxy import Haproxy
from seawall.prove.targets.litellm import Litellm
from seawall.prove.targets.nginx import Nginx
from seawall.prove.targets.ours import Seawall
from seawall.prove.targets.smg import Smg
from seawall.prove.targets.vllm_router import VllmRouter

TARGETS: dict[str, type[TargetAdapter]] = {
    a.name: a for a in (Direct, Seawall, Nginx, Haproxy, Envoy, VllmRouter, Smg, Litellm)
}
MISSING = {
    "production-stack": "its router is in no registry: on PyPI the name vllm-router belongs to another project "
    "(vllm-project/router). Install it from its repository and give its command.",
}
"""Names of targets -> why there is no adapter."""


def find(word: str) -> TargetAdapter:
    """The target behind `--target`: a name, a URL, or a command with {port}. InputError says what there is."""
    if found := TARGETS.get(word):
        return found()
    if word in MISSING:
        raise InputError(f"--target {word}: {MISSING[word]}", COMMAND)
    if word.startswith(("http://", "https://")):
        return UrlTarget(word)
    if "{port}" in word:
        return CommandTarget(word)
    near = difflib.get_close_matches(word, TARGETS, 1)
    hint = f"Did you mean {near[0]}?" if near else f"One of: {', '.join(TARGETS)}."
    raise InputError(f"--target {word}: there is no such target.", f"{hint} Or a URL. {COMMAND}")


def find_all(words: Sequence[str]) -> list[TargetAdapter]:
    """All of `--target`, each once."""
    return [find(word) for word in dict.fromkeys(words)]


COMMAND = (
    "A command needs {port}, and {urls} or {file}: --target 'my-gateway --port {port} --upstreams {urls}'"
)
