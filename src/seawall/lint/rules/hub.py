"""Rules about what the model hub will answer: models that were never published, and tokens that are none."""

from __future__ import annotations

import re
from collections.abc import Iterator

from seawall.lint.finding import Finding, Say, rule
from seawall.lint.node import YamlNode
from seawall.lint.objects import Obj, Workload
from seawall.lint.rules.weights import hub_id, offline
from seawall.lint.world import Manifests

_SIZE = r"(\d+(?:\.\d+)?[BbMm](?:-A\d+(?:\.\d+)?B)?)"
_FAMILIES = tuple(
    (re.compile(start + _SIZE + r"(?:-.*)?"), sizes.split())
    for start, sizes in (
        (r"google/gemma-2-", "2b 9b 27b"),
        (r"google/gemma-3-", "270m 1b 4b 12b 27b"),
        (r"meta-llama/Llama-2-", "7b 13b 70b"),
        (r"meta-llama/Meta-Llama-3-", "8B 70B"),
        (r"meta-llama/(?:Meta-)?Llama-3\.1-", "8B 70B 405B"),
        (r"meta-llama/(?:Meta-)?Llama-3\.2-", "1B 3B 11B 90B"),
        (r"meta-llama/(?:Meta-)?Llama-3\.3-", "70B"),
        (r"Qwen/Qwen2\.5-", "0.5B 1.5B 3B 7B 14B 32B 72B"),
        (r"Qwen/Qwen2\.5-Coder-", "0.5B 1.5B 3B 7B 14B 32B"),
        (r"Qwen/Qwen2\.5-VL-", "3B 7B 32B 72B"),
        (r"Qwen/Qwen3-", "0.6B 1.7B 4B 8B 14B 32B 30B-A3B 235B-A22B"),
        (r"Qwen/Qwen3-Coder-", "30B-A3B 480B-A35B"),
        (r"Qwen/Qwen3-VL-", "2B 4B 8B 32B 30B-A3B 235B-A22B"),
    )
)
"""Families that are complete, and the sizes in which their makers published them."""
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HUGGINGFACE_TOKEN", "HUGGINGFACEHUB_API_TOKEN")
_NONE = re.compile(r"(?i)your|replace|change|insert|token|<.*>|x{4,}|\.\.\.|todo|example")


@rule(
    "weights/no-such-model",
    "warning",
    "A model that was never published",
    story="""A family's makers publish it in certain sizes: there is no google/gemma-3-2b-it and no
    Qwen/Qwen3-Coder-4B-Instruct. The hub answers `Repository Not Found` (401 or 404) and vLLM ends. Only
    families that are complete are judged, by their makers' own names.""",
    cure="Use a size that exists.",
)
def no_such_model(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for engine in workload.engines:
            name = hub_id(engine) or ""
            for pattern, sizes in _FAMILIES:
                found = pattern.fullmatch(name)
                if found and found[1].lower() not in [s.lower() for s in sizes] and not offline(engine):
                    text = f"there is no {name}: this family was published as {', '.join(sizes)}."
                    yield say(workload.obj, engine.model_node, text)


@rule(
    "weights/placeholder-token",
    "warning",
    "A token that is none",
    story="""A token that nobody replaced is not as good as none: the hub refuses every request that carries
    it with 401, for public models too, and the Pod crash-loops while it loads.""",
    cure="Take the token from a Secret (valueFrom.secretKeyRef), or remove the variable for public models.",
)
def placeholder_token(world: Manifests, say: Say) -> Iterator[Finding]:
    for workload in world.workloads:
        for engine in workload.engines:
            for name in _TOKENS:
                for obj, node in _values(world, workload, engine.env(name)):
                    value = node.text()
                    if value and "$" not in value and "{{" not in value and _NONE.search(value):
                        text = f"{name} is {value!r}, no token: the hub answers 401 to it, for public models too."
                        yield say(obj, node, text)


def _values(world: Manifests, workload: Workload, item: YamlNode) -> Iterator[tuple[Obj, YamlNode]]:
    """A variable's value: its own, or the key of a Secret in sight that it names."""
    if not item:
        return
    if item["value"]:
        yield workload.obj, item["value"]
    ref = item.at("valueFrom", "secretKeyRef")
    for secret in world.kinds("Secret"):
        if (secret.namespace, secret.name) == (workload.obj.namespace, ref["name"].text()):
            node = secret.node["stringData"][ref["key"].text()]
            if node:
                yield secret, node
