"""`seawall plan`: what a fleet needs and what it will hold, before anything is deployed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from seawall.cli import output
from seawall.cli.files import InputFile, InputFileOrName, OutputFile
from seawall.cli.numbers import Finite
from seawall.cli.output import output_option

if TYPE_CHECKING:
    from seawall.config.plan_flags import PlanFlags


class GpuCount(click.IntRange):
    """A number of GPUs, or the word `any`: every kind of GPU, each with as many as it needs."""

    name = "number or any"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return value if value == "any" else super().convert(value, param, ctx)


COUNT = click.IntRange(1, 1_000_000)
TOKENS = click.IntRange(1, 2**31)


@click.command(context_settings={"max_content_width": 110})
@click.argument("spec", metavar="[FLEET.yaml|MODEL]", required=False, type=click.Path())
@click.option("--fleet", "only", metavar="NAME", help="Only this fleet of a file that holds several.")
@click.option(
    "--model-config",
    type=InputFileOrName(".json"),
    metavar="PATH",
    help="A config.json or its directory, or a known model's id.",
)
@click.option(
    "--gpu", default="auto", metavar="NAME", help="Catalogue name, nvidia.com/gpu.product label, cpu, auto."
)
@click.option(
    "--gpus",
    type=GpuCount(1, 1_000_000),
    metavar="N",
    help="GPUs of one replica; any: which GPUs hold it, one line each.",
)
@click.option("--tensor-parallel", "-tp", type=COUNT, metavar="N", help="GPUs that share each layer.")
@click.option(
    "--pipeline-parallel", "-pp", type=COUNT, metavar="N", help="Stages of layers, one after another."
)
@click.option(
    "--data-parallel", "-dp", type=COUNT, metavar="N", help="Copies of the attention that share a batch."
)
@click.option(
    "--decode-context-parallel",
    "-dcp",
    type=COUNT,
    metavar="N",
    help="GPUs among which the KV cache of one request is spread.",
)
@click.option(
    "--expert-parallel", is_flag=True, help="Whole experts on each GPU, instead of a slice of every one."
)
@click.option(
    "--max-model-len", type=TOKENS, metavar="N", help="Context in tokens. Default: the model's own."
)
@click.option(
    "--gpu-memory-utilization",
    type=Finite(0, 1, min_open=True),
    metavar="X",
    help="Share of a GPU that vLLM may take.",
)
@click.option("--max-num-seqs", type=COUNT, metavar="N", help="Requests at most in an engine.")
@click.option("--max-num-batched-tokens", type=TOKENS, metavar="N", help="Tokens at most in a step.")
@click.option("--kv-cache-dtype", default="auto", metavar="D", help="auto, bfloat16, fp8 or nvfp4.")
@click.option("--kv-cache-memory", metavar="SIZE", help="The cache's size, set by hand: 8Gi.")
@click.option("--quantization", metavar="Q", help="fp8, int8, awq, gptq, mxfp4, nvfp4, bitsandbytes, gguf...")
@click.option("--dtype", metavar="D", help="bfloat16, float16 or float32. Default: the checkpoint's.")
@click.option("--enforce-eager", is_flag=True, help="No CUDA graphs.")
@click.option(
    "--vllm-args", metavar="FLAGS", help="Further flags of `vllm serve` in one string: '--cpu-offload-gb 10'."
)
@click.option("--vllm-version", metavar="V", help="Defaults differ between versions. Default: 0.32.0.")
@click.option(
    "--prices", type=InputFile(), metavar="FILE", help="Your prices: {as_of: DATE, gpus: {NAME: USD}}."
)
@click.option(
    "--calibration",
    type=InputFile(".json"),
    metavar="FILE",
    help="Measured step times, from `seawall bench`.",
)
@click.option("--offline", is_flag=True, help="Never ask the hub for a config.json.")
@click.option(
    "-w",
    "--write",
    "file",
    type=OutputFile(),
    metavar="FILE",
    help="Of a model: write the planned Fleet here.",
)
@output_option
def command(
    spec: str | None,
    only: str | None,
    prices: str | None,
    calibration: str | None,
    offline: bool,
    file: Path | None,
    form: str,
    **flags: Any,
) -> None:
    """Say what a fleet needs and what it will hold. No GPU is needed, and no network for a known model.

    It takes a Fleet's file, or the id of a model with vLLM's flags as options.

    \b
    $ seawall plan examples/smollm2.yaml
    $ seawall plan meta-llama/Llama-3.1-70B --gpus any
    $ seawall plan meta-llama/Llama-3.1-70B --gpu H100-80GB --max-model-len 16384 --write fleet.yaml
    $ seawall plan --model-config ./config.json --gpu NVIDIA-L40S --tensor-parallel 2 --json

    Exit code 0 when it fits, 1 when it does not, 2 for bad input.
    """
    import sys

    from seawall.decide.plan import plan

    book = measured = None
    if prices or calibration:  # reading YAML costs a fifth of the time that this verb may take
        from seawall.config.plan_files import read_calibration, read_prices

        book = read_prices(prices) if prices else None
        measured = read_calibration(calibration) if calibration else None
    if spec is not None and flags["model_config"] is None and (model := _model_named(spec)):
        spec, flags["model_config"] = None, model
    every = flags["gpus"] == "any"
    named = flags["model_config"]
    if file and (named is None or every):
        from seawall.errors import InputError

        raise InputError("--write makes a Fleet of one planned model.", "Name a model, and no --gpus any.")
    if every:
        flags["gpus"] = None
        if flags["gpu"] != "auto":
            from seawall.errors import InputError

            raise InputError(
                f"--gpu {flags['gpu']:.60} and --gpus any ask for two things.", "Leave one of them out."
            )
    wanted = _wanted(spec, only, offline, flags)
    if every:
        _print_survey(wanted, book, measured, form)
        return
    plans = [
        plan(fleet, model, prices=book, calibration=measured, shorten=spec is not None)
        for fleet, model in wanted
    ]
    if form:
        from seawall.cli.plan_table import as_json

        output.write({"plans": [as_json(p) for p in plans]}, form)
    else:
        from seawall.cli import terminal
        from seawall.cli.plan_table import table

        wide = terminal.width()
        text = "\n\n".join(
            table(p, _after(p, spec, fleet, sys.argv[1:]), wide is not None, wide)
            for p, (fleet, _) in zip(plans, wanted, strict=True)
        )
        click.echo(text.rpartition("\n\nNext:")[0] if file and plans[0].fits else text)
    if not all(p.fits for p in plans):
        sys.exit(1)
    if file:
        needs_lock = _write(file, wanted[0][0], plans[0], named)
        after = f"seawall pull {file} --lock-only" if needs_lock else f"seawall render {file} -o deploy/"
        click.echo(f"\nwrote {file}\n\nNext: {after}", err=bool(form))


def _after(made: Any, spec: str | None, fleet: Any, argv: list[str]) -> str:
    """What is typed next."""
    from seawall.cli.plan_table import after_spec

    if spec is None:
        return _again(made.fits, argv)
    pinned = not fleet.needs_lock or _lock_beside(spec, fleet.name)
    return after_spec(made, spec, pinned, fleet.spec.hardware.cloud == "local")


def _again(fits: bool, argv: list[str]) -> str:
    """What comes next for a model that no spec names: the same, written; or every GPU of the catalogue."""
    import shlex

    if fits:
        return f"{shlex.join(['seawall', *argv])} --write fleet.yaml"
    kept, skip = [], False
    for word in argv:
        if not skip and not word.startswith(("--gpu=", "--gpus=")) and word not in ("--gpu", "--gpus"):
            kept.append(word)
        skip = not skip and word in ("--gpu", "--gpus")
    return f"{shlex.join(['seawall', *kept])} --gpus any"


def _write(file: Path, fleet: Any, made: Any, model: str) -> bool:
    """The Fleet with what was planned for it; whether its weights are still to be pinned. InputError when there is such
    a file, or none can be made."""
    from dataclasses import replace

    import yaml

    from seawall.config.from_model import source_of
    from seawall.config.load import dump_fleet
    from seawall.drivers import cache
    from seawall.errors import InputError

    given = Path(model)
    if file.exists():
        raise InputError(f"{file} is there already.", "Name another, or remove it.")
    spec = fleet.spec
    source = source_of(str(given.parent) if given.name == "config.json" else model)
    hardware = replace(
        spec.hardware, gpu=made.gpu, gpus_per_replica=made.gpus_per_replica or None,
        tensor_parallel=spec.hardware.tensor_parallel or (made.tensor_parallel if made.tensor_parallel > 1 else None),
    )  # fmt: skip
    traffic = replace(spec.traffic, max_context=made.max_model_len)
    whole = replace(
        fleet,
        spec=replace(spec, model=replace(spec.model, source=source), hardware=hardware, traffic=traffic),
    )
    head = f"# Planned: {made.reason}\n# `seawall explain spec.scaling` tells what a field does.\n"
    try:
        cache.write_atomic(file, head + yaml.safe_dump(dump_fleet(whole), sort_keys=False))
    except OSError as e:
        raise InputError(f"{file}: {e.strerror}.", "Name another place with --write.") from None
    return bool(whole.needs_lock)


def _model_named(spec: str) -> str:
    """An id such as `org/name`, or the address of one on a hub, not the path of a file; else an empty text."""
    from seawall.domain.catalog.models import find_config

    if spec.startswith("hf://"):
        return spec.removeprefix("hf://").partition("@")[0]
    path = Path(spec)
    if "://" in spec or path.exists() or path.suffix in (".yaml", ".yml", ".json"):
        return ""
    known = find_config(spec) is not None or (spec.count("/") == 1 and not spec.startswith((".", "/")))
    return spec if known else ""


def _print_survey(wanted: list[Any], prices: Any, measured: Any, form: str) -> None:
    import sys

    from seawall.cli import terminal
    from seawall.cli.plan_survey import survey_table
    from seawall.cli.plan_table import as_json
    from seawall.decide.plan.survey import survey

    found = [survey(fleet, model, prices=prices, calibration=measured) for fleet, model in wanted]
    if form:
        output.write({"plans": [as_json(p) for plans in found for p in plans]}, form)
    else:
        click.echo("\n\n".join(survey_table(plans, terminal.width()) for plans in found))
    if not all(any(p.fits for p in plans) for plans in found):
        sys.exit(1)


def _lock_beside(spec: str, name: str) -> bool:
    return Path(spec).with_name(f"{name}.lock").exists()


def _wanted(spec: str | None, only: str | None, offline: bool, flags: dict[str, Any]) -> list[Any]:
    """(fleet, model) of every fleet of the spec, or of the flags."""
    from seawall.errors import InputError

    if spec is None and flags["model_config"] is None:
        raise InputError("give a Fleet file or --model-config.", "Try: seawall plan examples/smollm2.yaml")
    if spec is None:
        from seawall.config.plan_flags import from_flags

        return [from_flags(_flags(flags))]
    given = sorted(k for k, v in flags.items() if v not in (None, False, "auto"))
    if given:
        name = "--" + given[0].replace("_", "-")
        raise InputError(
            f"{name} goes with --model-config, not with a spec.", "Write it into the spec instead."
        )
    from seawall.config.load import load_fleets
    from seawall.shapes.config import resolve

    fleets = [f for f in load_fleets(spec) if only in (None, f.name)]
    if not fleets:
        raise InputError(f"{spec}: holds no fleet named {only!r}.", "Leave out --fleet to see all.")
    return [(f, resolve(f, offline=offline)) for f in fleets]


def _flags(flags: dict[str, Any]) -> PlanFlags:
    import shlex

    from seawall.config.plan_flags import PlanFlags
    from seawall.domain.units import parse_bytes
    from seawall.errors import InputError

    size = flags.pop("kv_cache_memory")
    try:
        cache = parse_bytes(size) if size else None
    except ValueError as e:
        raise InputError(f"--kv-cache-memory: {size!r:.60} is not right; {e}.") from e
    words = flags.pop("vllm_args")
    try:
        further = tuple(shlex.split(words or ""))
    except ValueError as e:
        raise InputError(
            f"--vllm-args: {words!r:.60} cannot be split into words ({e}).", "Close the quotes."
        ) from e
    return PlanFlags(kv_cache_memory=cache, vllm_args=further, **flags)
