"""The ConfigMap with the probe script and its decisions, mounted into every engine Pod: engine_probe.py, evidence.py;
with a fingerprint also that, and how it is asked and compared (decide/truth/fingerprint.py, engines/vllm/truth.py).
"""

from __future__ import annotations

import functools
from pathlib import Path

from seawall.render.inputs import Object, Wanted
from seawall.render.names import CONFIG_DIR, fleet_meta, short

SCRIPT = f"{CONFIG_DIR}/probe/probe.py"


@functools.cache
def script() -> str:
    return Path(__file__).with_name("engine_probe.py").read_text("utf-8")


@functools.cache
def decision() -> str:
    return (Path(__file__).parents[2] / "decide/route/evidence.py").read_text("utf-8")


@functools.cache
def comparison() -> str:
    return (Path(__file__).parents[2] / "decide/truth/fingerprint.py").read_text("utf-8")


@functools.cache
def asking() -> str:
    return (Path(__file__).parents[2] / "engines/vllm/truth.py").read_text("utf-8")


def config_name(fleet: str) -> str:
    return short(fleet, "-probe")


def config_map(wanted: Wanted) -> Object:
    data = {"probe.py": script(), "evidence.py": decision()}
    if wanted.truth is not None:
        data |= {"truth.json": wanted.truth, "fingerprint.py": comparison(), "truth.py": asking()}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": fleet_meta(wanted, config_name(wanted.name), "engine"),
        "data": data,
    }
