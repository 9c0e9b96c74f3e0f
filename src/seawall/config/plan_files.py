"""Files that a plan may be given beside the spec: the user's prices, and measured step times. Read and checked only."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from seawall.config.yaml import documents, read_text
from seawall.domain.action import Timing
from seawall.domain.catalog.gpus import find_gpu
from seawall.domain.catalog.prices import Prices
from seawall.errors import InputError, in_words


def read_prices(path: str | Path) -> Prices:
    """`{as_of: 2026-11-01, gpus: {H100-80GB: 2.5}}` in YAML or JSON. What it leaves out keeps the built-in price."""
    data = next((d.data for d in documents(read_text(Path(path)), str(path))), None)
    gpus = data.get("gpus") if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(gpus, dict) or not data.get("as_of"):
        raise InputError(
            f"{path}: is not a price file.", "Write {as_of: 2026-11-01, gpus: {H100-80GB: 2.50}}."
        )
    usd = dict(Prices().usd)
    for name, price in gpus.items():
        gpu = find_gpu(str(name), near=False)
        if gpu is None:
            raise InputError(
                f"{path}: gpus.{str(name)[:60]} is not a GPU that is known here.", "Use catalogue names."
            )
        if isinstance(price, bool) or not isinstance(price, (int, float)) or not 0 < price < 1e4:
            raise InputError(f"{path}: gpus.{name}: {price!r:.40} is not USD per GPU-hour.", "Write 2.50.")
        usd[gpu.name] = float(price)
    return Prices(as_of=str(data["as_of"])[:32], usd=usd)


def read_calibration(path: str | Path) -> Timing:
    """A calibration file (JSON with `Timing`'s fields; others are metadata) -> Timing."""
    try:
        data = json.loads(read_text(Path(path)))
    except (ValueError, RecursionError) as e:
        raise InputError(
            f"{path}: is not JSON: {in_words(e)}.", "Make one with `seawall bench --calibrate`."
        ) from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: is not a calibration.", "Make one with `seawall bench --calibrate`.")
    inner = data.get("timing")
    source: dict[str, Any] = inner if isinstance(inner, dict) else data
    numbers: dict[str, float] = {}
    for field in fields(Timing):
        if field.name == "source":
            continue
        value = source.get(field.name, None if field.default is MISSING else field.default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e4:
            raise InputError(f"{path}: {field.name} is {value!r:.40}, not seconds.", "Calibrate again.")
        numbers[field.name] = float(value)
    if numbers["base_s"] + numbers["weight_read_s"] + numbers["decode_seq_s"] <= 0:
        raise InputError(f"{path}: a step takes no time at all.", "Calibrate again.")
    return Timing(**numbers, source=str(source.get("source") or "measured")[:200])
