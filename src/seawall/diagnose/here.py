"""Causes of a `seawall up`, in the words of this machine: replicas, processes, files and the spec, no Pods and kubectl.

The catalogue is written for clusters; here the same signs have other handles. Forbidden here: finding causes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from seawall.diagnose.cause import Cause

_CURES = {
    "container/killed": "it is started again by itself; sudo dmesg tells whether memory ran out: then lower "
    "engine.kvCacheMemory or scaling.max",
    "route/gateway-no-endpoints": "seawall status -w shows how far its replicas are; "
    "one that fails is a cause of its own",
    "engine/unknown-flag": "take the option out of spec.engine.extraArgs, or use a vLLM that knows it (SEAWALL_VLLM)",
    "truth/weights": "seawall fingerprint FLEET.yaml reads every byte and compares it; then seawall rollout restart",
    "truth/revision": "compare model.revision, quantization and extraArgs with what it was started with; then seawall "
    "rollout restart; if it is right, the fingerprint is old: seawall fingerprint FLEET.yaml",
    "truth/template": "compare --chat-template and tokenizer_config.json of its weights with its siblings'; then "
    "seawall rollout restart",
    "truth/numeric": "look for errors of its GPU (dmesg, nvidia-smi), and for another dtype; then seawall rollout "
    "restart",
}
"""What mends a cause here, where the catalogue's cure is a cluster's."""
_WORDS = {
    "container/killed": "it was killed with SIGKILL: by somebody (kill -9), or because this machine's memory ran out",
}
"""What a cause is here, where the catalogue speaks of nodes and the kubelet."""
_OF_CLUSTERS = re.compile(
    r"kubectl|manifest|\bPods?\b|\bnodes?\b|Secret|initContainer|\bimage\b|Deployment|probe", re.I
)


def here(causes: Iterable[Cause]) -> list[Cause]:
    """The same causes with this machine's names and cures."""
    return [_here(c) for c in causes]


def _here(cause: Cause) -> Cause:
    do = _CURES.get(cause.id, cause.do)
    if _OF_CLUSTERS.search(do):
        name = cause.subject.rpartition("/")[2]
        log = (
            f"seawall logs {name} shows it whole"
            if cause.subject.startswith("Pod/")
            else "seawall status tells more"
        )
        do = f"{log}; what the spec says wrong, change there, and start `seawall up` again"
    what = _WORDS.get(cause.id, cause.what)
    return replace(
        cause, subject=_named(cause.subject), what=what, do=do, also=tuple(_named(a) for a in cause.also)
    )


def _named(subject: str) -> str:
    return f"replica {subject.removeprefix('Pod/')}" if subject.startswith("Pod/") else subject
