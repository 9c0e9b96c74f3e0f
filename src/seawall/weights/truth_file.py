"""`NAME.truth.json`, beside `NAME.lock`: right answers of a fleet's model to the pinned prompts. Written by `seawall
fingerprint`; read by gateways, and by what renders the probes of Pods.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

from seawall.decide.truth.fingerprint import Fingerprint, Identity, read, written
from seawall.domain.spec import Fleet
from seawall.errors import InputError

MAX_BYTES = 4 * 2**20
MOUNTED_BYTES = 600_000
"""Size of one fleet's fingerprint in a ConfigMap, which holds 1 MiB of everything."""
AGAIN = "Make it anew: seawall fingerprint"


def truth_path(folder: Path, fleet: str) -> Path:
    """The file's place beside a fleet's spec."""
    return folder / f"{fleet}.truth.json"


def identity_of(fleet: Fleet, weights: str = "") -> Identity:
    """What a fleet's fingerprint must be of. `weights`: digest of its lockfile, where it is known."""
    spec = fleet.spec
    real = spec.engine.needs_weights
    return Identity(
        model=spec.model.source,
        revision=spec.model.revision or "",
        weights=weights,
        engine=f"{spec.engine.kind} {spec.engine.version}" if real else spec.engine.kind,
        dtype="" if spec.model.dtype == "auto" else spec.model.dtype,
        quantization=spec.model.quantization or "",
        device=spec.hardware.gpu if real and spec.hardware.gpu != "auto" else "",
        flags=" ".join(spec.engine.extra_args) if real else "",
    )


def read_truths(path: Path) -> list[Fingerprint]:
    """All fingerprints of a file. InputError with the cure when it is no such file."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: larger than {MAX_BYTES >> 20} MiB; no file of fingerprints.", AGAIN)
        return read(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.", AGAIN) from None
    except (OSError, ValueError, RecursionError) as e:
        raise InputError(f"{path}: no file of fingerprints that can be trusted ({e}).", AGAIN) from None


def truth_of(path: Path, fleet: Fleet) -> Fingerprint | None:
    """The fleet's own fingerprint; None without a file. InputError where the file has only others'."""
    if not path.exists():
        return None
    wanted = identity_of(fleet)
    found = read_truths(path)
    for one in found:
        if not one.identity.differs(wanted):
            return one
    field = found[-1].identity.differs(wanted) if found else "model"
    of = getattr(found[-1].identity, field) if found else "nothing"
    raise InputError(
        f"{path}: it is of another {field} ({of}, not {getattr(wanted, field)}).",
        "Make one for this fleet: seawall fingerprint FLEET.yaml",
    )


def mounted(made: Fingerprint) -> str:
    """The file's text for a ConfigMap: without the sweeps and rows of the rarest tokens where all are too many."""
    text = _text(made)
    while len(text.encode()) > MOUNTED_BYTES:
        sweeps = [k for k in made.known if k.prompt.kind == "ids"]
        rows = [k for k in made.known if k.prompt.kind == "rows"]
        keep = 0.9 * MOUNTED_BYTES / len(text.encode())
        texts = [k for k in made.known if not k.prompt.covers]
        if not sweeps and not rows:
            break
        less = (*texts, *sweeps[: int(keep * len(sweeps))], *rows[: int(keep * len(rows))])
        made = replace(made, known=less)
        text = _text(made)
    return text


def _text(made: Fingerprint) -> str:
    return json.dumps(written([made]), ensure_ascii=False, sort_keys=True) + "\n"


def write_truth(path: Path, made: Fingerprint) -> None:
    """Writes it in the place of one of the same identity; those of others stay. Readers see the old file or the new."""
    others = [f for f in read_truths(path) if f.identity != made.identity] if path.exists() else []
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(written([*others, made]), ensure_ascii=False) + "\n", "utf-8")
        partial.replace(path)
    except OSError as e:
        raise InputError(
            f"{path} cannot be written: {e.strerror}.", "Name another place with --out."
        ) from None
