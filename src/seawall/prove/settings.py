"""The fleet that is proven: the user's spec with what a proof must change, said out loud.

Mechanisms stay as the spec has them, except those that `--without` switches off. What is shortened (time-outs, the
pre-stop wait) is shortened so that a scenario fits in seconds; the proof's notes list it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seawall.config.yaml import documents, read_text
from seawall.errors import InputError
from seawall.prove.mechanisms import off
from seawall.prove.scenarios import Scenario
from seawall.prove.silence import STEP_S

PROOF: dict[str, Any] = {
    "gateway.stallTimeout": "2s",
    "gateway.firstByteTimeout": "4s",
    "rollout.preStop": "500ms",
    "rollout.drain": "15s",
}
REAL: dict[str, Any] = {
    "gateway.stallTimeout": "15s",
    "gateway.firstByteTimeout": "120s",
    "rollout.drain": "120s",
    "engine.maxNumSeqs": 4,
    "gateway.maxInFlight": 4,
    "gateway.maxQueued": 8,
}
"""A real engine on a busy CPU is slow without being hung."""
ENGINE_REAL: dict[str, Any] = {path: value for path, value in REAL.items() if path.startswith("engine.")}
"""Those of them that are the engine's, whatever gateway stands before it."""
EXACT: dict[str, Any] = {"model.dtype": "float32", "traffic.maxContext": 1024}
"""Settings that make a real engine on a CPU exact: half precision rounds by the number of requests in a batch (seen
with AMX), so that greedy answers would differ without any event. They take twice the KV cache per token."""
SIM: dict[str, Any] = {"engine.kind": "sim", "engine.maxNumSeqs": 128, "traffic.maxContext": 4096}


def read(path: Path) -> dict[str, Any]:
    """The first Fleet document of a file. InputError when there is none."""
    found = [d.data for d in documents(read_text(path), str(path))]
    fleets = [d for d in found if isinstance(d, dict) and d.get("kind") == "Fleet"]
    if not fleets:
        raise InputError(f"{path}: no document of kind Fleet.", "Give a Fleet, as examples/smollm2.yaml.")
    if len(fleets) > 1:
        raise InputError(f"{path}: {len(fleets)} Fleets.", "A proof takes one: split the file.")
    return fleets[0]


def put(document: dict[str, Any], path: str, value: Any) -> None:
    """Sets `spec.<path>` (dotted)."""
    at = document.setdefault("spec", {})
    *heads, last = path.split(".")
    for head in heads:
        at = at.setdefault(head, {})
    at[last] = value


def exact(document: Mapping[str, Any]) -> bool:
    """Whether this fleet's real engine is made to answer the same whoever else asks."""
    spec = document.get("spec") or {}
    cpu = (spec.get("hardware") or {}).get("gpu") == "cpu"
    return cpu and spec.get("model", {}).get("dtype", "auto") in ("auto", EXACT["model.dtype"])


def changed(document: Mapping[str, Any], engine: str) -> dict[str, Any]:
    """What every proof of this fleet changes, whatever the scenario."""
    if engine == "sim":
        return {**PROOF, "engine.kind": engine, **SIM}
    return {**PROOF, "engine.kind": engine, **REAL, **(EXACT if exact(document) else {})}


def derive(
    document: Mapping[str, Any], scenario: Scenario, engine: str, without: Sequence[str] = ()
) -> dict[str, Any]:
    """The spec that `seawall up` gets for this scenario. InputError for an unknown mechanism."""
    derived = copy.deepcopy(dict(document))
    changes = changed(document, engine) | (scenario.settings if engine == "sim" or scenario.alone else {})
    changes.setdefault("scaling.min", scenario.replicas)
    changes["scaling.max"] = scenario.most or scenario.replicas
    changes |= off(without).fleet
    for path, value in changes.items():
        put(derived, path, value)
    if scenario.served_names:
        names = derived["spec"]["model"].get("servedNames") or [derived["metadata"]["name"]]
        put(derived, "model.servedNames", [*names, *scenario.served_names])
    if engine == "sim":
        extra = [
            *derived["spec"]["engine"].get("extraArgs", []),
            "--sim-step",
            str(STEP_S),
            "--sim-seed",
            "1",
        ]
        derived["spec"]["engine"]["extraArgs"] = [*extra, *scenario.engine_args]
    return derived
