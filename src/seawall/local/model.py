"""A Fleet's model or adapter source -> a folder here that vLLM can serve. Downloads once, then works offline."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from seawall.domain.spec import Adapter, Model
from seawall.errors import InputError, in_words
from seawall.weights import pypi
from seawall.weights.listing import WeightsForm
from seawall.weights.pull import Order

TellUser = Callable[[str], None]


def model_folder(model: Model, root: Path, say: TellUser, form: WeightsForm = "hf") -> Path:
    """The folder with config.json and the weights, of two copies the one in `form`.

    InputError or SourceError with the cure when there is none.
    """
    scheme, _, rest = model.source.partition("://")
    if scheme == "pypi" and rest.endswith(".gguf"):
        return pypi.model_folder(pypi.parse(model.source), root, say)
    if scheme == "file" and rest.endswith(".gguf") and Path(rest).expanduser().is_file():
        from seawall.weights import gguf

        return gguf.model_folder(Path(rest).expanduser().absolute(), root, say)
    if scheme == "file":
        folder = Path(rest).expanduser().absolute()
        if not (folder / "config.json").is_file():
            raise InputError(
                f"spec.model.source: {folder} has no config.json.",
                "Name the folder that holds config.json and *.safetensors.",
            )
        check_weights(folder, model.allow_pickle)
        return folder
    return _pulled(Order(model.source, root, root, model.revision, model.allow_pickle, form=form), root, say)


def check_weights(folder: Path, allow_pickle: bool) -> None:
    """InputError for a folder whose weights vLLM would look for in vain after half a minute of starting."""
    there = {path.name for path in folder.iterdir()}
    index = folder / "model.safetensors.index.json"
    if index.name in there:
        try:
            named = {str(file) for file in json.loads(index.read_text("utf-8"))["weight_map"].values()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise InputError(
                f"{index} cannot be read ({in_words(e)}).",
                "Fetch it again: `seawall pull` checks every file.",
            ) from None
        if missing := sorted(named - there):
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise InputError(
                f"spec.model.source: {folder} lacks {missing[0]}{more}, which its index names.",
                "Fetch the rest: `seawall pull` goes on where a download ended.",
            )
    if any(name.endswith(".safetensors") for name in there):
        return
    pickles = sorted(name for name in there if name.endswith((".bin", ".pt", ".pth")))
    if not pickles:
        raise InputError(
            f"spec.model.source: {folder} has a config.json and no weights.",
            "Name the folder that holds *.safetensors, too.",
        )
    if not allow_pickle:
        raise InputError(
            f"spec.model.source: {folder} has pickle weights only ({pickles[0]}), which can run code when loaded.",
            "Save them as safetensors, or set model.allowPickle: true if you trust who made them.",
        )


def adapter_folder(adapter: Adapter, allow_pickle: bool, root: Path, say: TellUser) -> Path:
    """The folder with adapter_config.json and the adapter's weights. Raises as `model_folder`."""
    scheme, _, rest = adapter.source.partition("://")
    if scheme == "file":
        folder = Path(rest).expanduser().absolute()
    else:
        folder = _pulled(Order(adapter.source, root, root, adapter.revision, allow_pickle), root, say)
    if not (folder / "adapter_config.json").is_file():
        raise InputError(
            f"spec.model.adapters: {adapter.name}: {folder} has no adapter_config.json.",
            "Name the folder of a LoRA adapter as PEFT saves it.",
        )
    return folder


def lora_rank(folder: Path) -> int:
    """The largest rank of an adapter. InputError when its configuration does not say."""
    try:
        config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
        return max(int(config["r"]), *(int(r) for r in (config.get("rank_pattern") or {}).values()), 0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise InputError(
            f"{folder / 'adapter_config.json'} does not say a rank ({in_words(e)}).",
            "Save the adapter again with PEFT.",
        ) from None


def _pulled(what: Order, root: Path, say: TellUser) -> Path:
    """The folder below `root` that holds what was ordered; where the order wants it is not looked at."""
    from seawall.weights.lockfile import read_lock
    from seawall.weights.pull import is_complete, left_out_told, pull

    tail = what.uri.rstrip("/").rsplit("/", 1)[-1].partition("@")[0]
    other = "" if what.form == "hf" else f"#{what.form}"
    key = hashlib.sha256(f"{what.uri}@{what.revision}{other}".encode()).hexdigest()[:8]
    folder = root / "weights" / f"{tail}-{key}".lower()
    lock = folder.with_suffix(".lock.json")
    if lock.exists() and is_complete(folder, read_lock(lock)):
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    say(f"pulling {what.uri} into {folder} (once)")
    done = pull(replace(what, directory=folder, lock_file=lock), dict(os.environ))
    for line in left_out_told(done.left_out):
        say(line)
    return folder
