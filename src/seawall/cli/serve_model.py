"""`seawall up MODEL`: the Fleet that is written for it, and the first lines of its plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

SURE_ON_CPU = "float32"
"""On CPUs with AMX vLLM's answers in half precision depend on who else asks, and are worse (decision 0042)."""


def spec_of(
    model: str, state_dir: Path, engine: str | None, context: str | None, gpus: int | None, replicas: int | None,
    dtype: str | None, api_key: bool,
) -> Path:  # fmt: skip
    """Writes the Fleet of a model into the state folder, shows what was planned for it, and returns its path.

    Raises InputError or SourceError when there is no such model, or its shape cannot be read.
    """
    from seawall.config.from_model import FleetWish, fleet_text, label_of, source_of
    from seawall.drivers import cache

    source = source_of(model)
    name = label_of(source)
    folder = cache.make_dir(state_dir / "models")
    keys = folder / f"{name}.keys.json" if api_key else None
    simulated = engine == "sim"
    gpu = "cpu" if simulated or gpus == 0 else _hardware(gpus)
    wish = FleetWish(
        gpu=gpu, gpus=gpus or None, cloud="local", context=context, replicas=replicas or 1,
        dtype=dtype or (SURE_ON_CPU if gpu == "cpu" else None), keys_file=str(keys) if keys else None,
    )  # fmt: skip
    path = folder / f"{name}.yaml"
    cache.write_atomic(path, fleet_text(model, wish))
    if not simulated:
        _show_plan(path, wish)
    if keys:
        _make_key(keys)
    click.echo(f"  the spec: {path}\n")
    return path


def _hardware(gpus: int | None) -> str:
    """`auto` where a GPU is and a vLLM for it is or can be installed, else `cpu`; asked-for GPUs are never replaced by
    the CPU."""
    from seawall.errors import InputError
    from seawall.local.gpu_engine import build_for, own_vllm

    build = build_for()
    if build == "cpu":
        if gpus:
            raise InputError(
                f"--gpus {gpus}: no GPU is visible here.",
                "Look at `nvidia-smi -L`, or leave --gpus out for the CPU.",
            )
        return "cpu"
    if build == "rocm" and own_vllm() is None:
        cure = "Install one: seawall engine install --for rocm --index URL, or set SEAWALL_VLLM."
        if gpus:
            raise InputError(f"--gpus {gpus}: AMD GPUs are here, and no vLLM for them.", cure)
        click.echo(f"  AMD GPUs are here, and no vLLM for them; serving on the CPU. {cure}", err=True)
        return "cpu"
    return "auto"


def _show_plan(path: Path, wish: Any) -> None:
    """The decision and what it holds. A model whose shape nobody knows yet (inside a package) is planned later."""
    from seawall.cli import terminal
    from seawall.cli.plan_table import table
    from seawall.config.load import load_fleets
    from seawall.decide.plan import plan
    from seawall.errors import EngineError
    from seawall.local import gpus as devices
    from seawall.shapes.config import resolve

    (fleet,) = load_fleets(path)
    source = fleet.spec.model.source
    if source.startswith(("pypi://", "s3://", "gs://", "oci://", "http")) or source.endswith(".gguf"):
        click.echo(f"{fleet.name}: planned once its weights are here")
        return
    shape = resolve(fleet)
    if wish.gpu == "auto":
        from dataclasses import replace

        hardware = replace(fleet.spec.hardware, gpu=devices.model() or "auto")
        fleet = replace(fleet, spec=replace(fleet.spec, hardware=hardware))
    made = plan(fleet, shape, shorten=True)
    shown = table(made, "", False, terminal.width()).splitlines()
    end = next((i for i, line in enumerate(shown) if line.startswith(("  speed", "Next"))), len(shown))
    click.echo("\n".join(shown[:end]).rstrip())
    if not made.fits and made.verdict in ("refused", "oom", "invalid"):
        raise EngineError(
            f"{fleet.name} does not fit here: {made.reason}.",
            f"A shorter --context, or fewer bytes a weight; which GPUs hold it: seawall plan {path} --gpus any",
        )
    if isinstance(made.max_model_len, int) and wish.context is None and made.max_model_len < shape.context:
        _pin_context(path, made.max_model_len)


def _pin_context(path: Path, tokens: int) -> None:
    """What was shortened to fit is written down, so that what starts is what was shown."""
    from seawall.config.from_model import NO_CONTEXT
    from seawall.drivers import cache

    text = path.read_text("utf-8")
    chosen = f"  traffic: {{maxContext: {tokens}}}   # shortened to fit this machine"
    cache.write_atomic(path, text.replace(NO_CONTEXT, chosen, 1))


def _make_key(file: Path) -> None:
    from seawall.gateway.tell import keyring

    secret, key = keyring.make("me", note="seawall up --api-key")
    keyring.change(file, add=key)
    click.echo(f"\nAPI key, shown only this once:\n\n{secret}\n")
