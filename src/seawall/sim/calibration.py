"""Reads a calibration file: measured step times of a real replica, JSON with `Timing`'s fields and metadata."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

from seawall.domain.action import Timing
from seawall.errors import InputError


def read_timing(path: Path) -> Timing:
    """The file's `Timing` (at the top, or under `timing`). InputError for what is missing, negative or no number."""
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError) as e:
        raise InputError(
            f"{path}: cannot be read as a calibration file: {e}.",
            "Make one with `seawall bench --calibrate`.",
        ) from e
    body = raw.get("timing", raw) if isinstance(raw, dict) else {}
    numbers: dict[str, float] = {}
    for f in fields(Timing):
        if f.name == "source":
            continue
        value = body.get(f.name) if isinstance(body, dict) else None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e4:
            raise InputError(f"{path}: {f.name} is {value!r}, not a number of seconds.")
        numbers[f.name] = float(value)
    if numbers["base_s"] + numbers["weight_read_s"] + numbers["decode_seq_s"] <= 0:
        raise InputError(f"{path}: a step takes no time at all.", "Calibrate anew.")
    return Timing(**numbers, source=str(body.get("source", f"measured ({path.name})")))
