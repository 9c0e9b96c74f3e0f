"""Which vLLM serves a fleet on GPUs: the user's own before ours; ours only where the machine's GPUs are known.

An own one is never changed: what we install lies in the cache, in a folder of its own. Forbidden here: installing
itself (`engine_env.py`), and the CPU's fleets.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from seawall.errors import InputError
from seawall.local import engine_env, gpus
from seawall.local.engine_env import Build, TellUser

SYS = Path("/sys")


def build_for(env: Mapping[str, str] = os.environ, sys: Path = SYS) -> Build:
    """The build of vLLM that fits this machine's GPUs; the CPU's where there are none."""
    if gpus.visible(env):
        return "cuda"
    return "rocm" if gpus.amd(sys) else "cpu"


def own_vllm(env: Mapping[str, str] = os.environ) -> Path | None:
    """The user's own: $SEAWALL_VLLM, or `vllm` on the PATH; None. InputError when the variable names none."""
    if given := env.get("SEAWALL_VLLM"):
        path = Path(given)
        if os.access(path, os.X_OK):
            return path.absolute()
        raise InputError(
            f"SEAWALL_VLLM: {given} cannot be run.", "Set it to the `vllm` program of your environment."
        )
    found = shutil.which("vllm", path=env.get("PATH"))
    return Path(found) if found else None


def gpu_vllm(root: Path, say: TellUser, env: Mapping[str, str] = os.environ, sys: Path = SYS) -> Path:
    """The `vllm` of a fleet on GPUs; installs one where there is none. InputError where no GPU is, EngineError where
    none can be installed."""
    if own := own_vllm(env):
        return own
    build = build_for(env, sys)
    if build == "cpu":
        raise InputError(
            "this fleet wants GPUs; none is visible here, and no `vllm` is on the PATH.",
            "Set SEAWALL_VLLM to your vllm program; or set hardware.gpu: cpu, or run with --engine sim.",
        )
    return engine_env.install(root, say, build).vllm
