"""What tenants have used, kept across restarts in one JSON file (`--usage FILE`). Quotas count from it.

    {"FLEET": {"TENANT": {"prompt": 1, "completion": 2, "used": 3, "usd": 0.1}}}

Written atomically every SAVE_S and at the end; a crash loses at most SAVE_S of counting. One process writes it.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import msgspec

from seawall.errors import InputError, in_words
from seawall.gateway.intake.app import App

log = logging.getLogger("seawall.gateway.process.usage")
SAVE_S = 5.0


class Used(msgspec.Struct, frozen=True):
    prompt: int = 0
    completion: int = 0
    used: int = 0
    usd: float = 0.0


_decoder = msgspec.json.Decoder(dict[str, dict[str, Used]])


def load(path: Path, app: App) -> None:
    """Puts the file's totals into the app's tenants. No file: nothing was used yet."""
    try:
        totals = _decoder.decode(path.read_bytes())
    except FileNotFoundError:
        return
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as e:
        raise InputError(f"--usage {path}: cannot be read: {in_words(e)}.", "Restore or delete it.") from None
    for fleet, tenants in totals.items():
        runtime = app.fleets.get(fleet)
        for name, used in tenants.items() if runtime is not None else ():
            tenant = runtime.tenants.named(name) if runtime is not None else None
            if tenant is not None:
                tenant.prompt, tenant.completion, tenant.cost_usd = used.prompt, used.completion, used.usd
                tenant.meter.used = max(tenant.meter.used, used.used)


def save(path: Path, app: App) -> None:
    """Writes all totals; a full disk is logged, not fatal."""
    totals = {
        name: {
            t.name: Used(t.prompt, t.completion, t.meter.used, round(t.cost_usd, 6)) for t in f.tenants.all()
        }
        for name, f in app.fleets.items()
    }
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        new.write_bytes(msgspec.json.encode(totals))
        new.replace(path)
    except OSError as e:
        log.error("usage cannot be saved to %s: %s", path, e.strerror)
