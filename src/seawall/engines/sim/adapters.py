"""LoRA adapters loaded and unloaded while the engine runs: what vLLM 0.32 answered on a CPU, held to it by the
contract suite. Any path is taken for an adapter but `missing...` and a folder without adapter_config.json."""

from __future__ import annotations

import json
from pathlib import Path

from seawall.engines.sim import asks
from seawall.engines.sim.asks import ApiRefusal, Json
from seawall.engines.sim.core import SimulatedEngine

DEFAULT_RANK = 16


def load(engine: SimulatedEngine, data: Json) -> bytes:
    """Takes the adapter, or raises what vLLM refuses it with."""
    asks.demand(data, "lora_name", "lora_path")
    name, path = str(data["lora_name"]), str(data["lora_path"])
    if not name or not path:
        raise ApiRefusal("Both 'lora_name' and 'lora_path' must be provided.", kind="InvalidUserInput")
    if name in engine.names:
        raise ApiRefusal(
            f"The lora adapter '{name}' conflicts with a served base model.", kind="InvalidUserInput"
        )
    if name in engine.adapters and not data.get("load_inplace"):
        text = "If you want to load the adapter in place, set 'load_inplace' to True."
        raise ApiRefusal(
            f"The lora adapter '{name}' has already been loaded. {text}", kind="InvalidUserInput"
        )
    if not engine.args.enable_lora:
        raise _failed("LoRA is not enabled. Use --enable-lora to enable LoRA.")
    folder = Path(path)
    if path.startswith("missing") or (folder.is_dir() and not (folder / "adapter_config.json").is_file()):
        shown = "<path>" if folder.is_absolute() else path
        raise ApiRefusal(f"Loading lora {name} failed: No adapter found for {shown}", 404, "NotFoundError")
    most = int(engine.args.max_lora_rank or DEFAULT_RANK)
    if (rank := _rank(folder)) > most:
        raise _failed(f"LoRA rank {rank} is greater than max_lora_rank {most}.")
    engine.adapters[name] = path
    return f"Success: LoRA adapter '{name}' added successfully.".encode()


def unload(engine: SimulatedEngine, data: Json) -> bytes:
    asks.demand(data, "lora_name")
    name = str(data["lora_name"])
    if not name:
        raise ApiRefusal(
            "'lora_name' needs to be provided to unload a LoRA adapter.", kind="InvalidUserInput"
        )
    if engine.adapters.pop(name, None) is None:
        raise ApiRefusal(f"The lora adapter '{name}' cannot be found.", 404, "NotFoundError")
    return f"Success: LoRA adapter '{name}' removed successfully.".encode()


def _failed(why: str) -> ApiRefusal:
    return ApiRefusal(f"Call to add_lora method failed: {why}", 500, "InternalServerError")


def _rank(folder: Path) -> int:
    try:
        return int(json.loads((folder / "adapter_config.json").read_bytes())["r"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0
