"""`seawall init`: a commented Fleet to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import click

from seawall.cli.files import OutputFile
from seawall.cli.terminal import say
from seawall.domain.spec import Hardware


def _clouds() -> list[str]:
    from typing import get_type_hints

    return list(get_args(get_type_hints(Hardware)["cloud"]))


def _examples() -> list[str]:
    from seawall.config import examples

    return examples.names()


def _alone(model: str | None) -> None:
    """InputError where flags beside --example would be ignored in silence."""
    from click.core import ParameterSource

    from seawall.errors import InputError

    context = click.get_current_context()
    given = [n for n in context.params if context.get_parameter_source(n) is ParameterSource.COMMANDLINE]
    beside = [n for n in given if n not in ("model", "example", "file", "force")]
    if model or beside:
        what = f"--{beside[0].replace('most', 'max')}" if beside else f"the model {model}"
        raise InputError(
            f"--example is a whole Fleet: {what} would not be used.", "Leave it out, and edit the file."
        )


def _of_machine() -> dict[str, Any]:
    """What a Fleet says of this machine's hardware."""
    from seawall.domain.catalog.gpus import find_gpu
    from seawall.local import gpus
    from seawall.local.gpu_engine import build_for

    found = gpus.visible()
    if not found and build_for() == "cpu":
        return {"gpu": "cpu", "cloud": "local", "why": "no GPU is visible on this machine"}
    gpu = find_gpu(gpus.model() or "")
    return {
        "gpu": gpu.name if gpu else "auto",
        "cloud": "local",
        "per_node": len(found) or None,
        "why": "what this machine has",
    }


def _of_cluster(model: str, wish: Any, kube_context: str, kubeconfig: str | None) -> dict[str, Any]:
    """What a Fleet says of the nodes that it is for. InputError where no node of the cluster says its GPU."""
    from dataclasses import replace

    from seawall.cli.cluster import with_cluster
    from seawall.config.from_model import fleet_text
    from seawall.config.load import parse_fleets
    from seawall.decide.plan import plan
    from seawall.diagnose.examine_cluster import nodes_of
    from seawall.diagnose.gpu_nodes import RESOURCES, GpuNodes, gpu_nodes, smallest_that_holds
    from seawall.domain.action import Plan
    from seawall.drivers.kube import Kube
    from seawall.errors import InputError, SeawallError
    from seawall.shapes.config import resolve

    async def groups_of(kube: Kube) -> list[GpuNodes]:
        return [g for resource in RESOURCES for g in gpu_nodes(await nodes_of(kube, resource), resource)]

    groups = with_cluster(None if kube_context == "current" else kube_context, kubeconfig, groups_of)
    if not groups:
        raise InputError(
            "no node of this cluster offers GPUs and says which.",
            "seawall doctor FLEET.yaml tells what is missing; or name the GPU with --gpu.",
        )

    def told(group: GpuNodes) -> dict[str, Any]:
        return {"gpu": group.gpu, "cloud": wish.cloud or group.cloud, "per_node": group.per_node,
                "resource": group.resource, "taints": group.taints, "why": group.words}  # fmt: skip

    def plan_for(group: GpuNodes) -> Plan | None:
        (fleet,) = parse_fleets(fleet_text(model, replace(wish, **told(group))), "the new Fleet")
        try:
            return plan(fleet, resolve(fleet), shorten=True)
        except SeawallError:
            return None

    for group in groups:
        say(f"  {group.words}", err=True)
    chosen = smallest_that_holds([g for g in groups if g.known], plan_for)
    if chosen is None:
        say("  none is known to hold this model; the largest is written, `seawall plan` says more", err=True)
    return told(chosen or groups[0])


@click.command()
@click.argument("model", required=False)
@click.option(
    "--example", type=click.Choice(_examples()), help="A Fleet that the package carries, instead of a model."
)
@click.option("--name", help="The fleet's name.  [the model's]")
@click.option("-n", "--namespace", help="Kubernetes namespace.")
@click.option("--gpu", default="auto", show_default=True, help="A catalogue name, cpu, or auto: planned.")
@click.option(
    "--cluster",
    "kube_context",
    metavar="CONTEXT",
    help="The GPUs of a cluster: a context of your kubeconfig, or `current`.",
)
@click.option("--kubeconfig", envvar="KUBECONFIG", help="Of --cluster.  [~/.kube/config]")
@click.option("--here", is_flag=True, help="The GPUs of this machine; its CPU where there are none.")
@click.option("--gpus", type=click.IntRange(1, 1024), metavar="N", help="GPUs per replica.  [planned]")
@click.option("--cloud", type=click.Choice(_clouds()), help="Where it will run.")
@click.option("--context", metavar="TOKENS", help="The longest context, such as 16k.  [the model's own]")
@click.option(
    "--replicas", type=click.IntRange(1, 1000), default=1, show_default=True, help="At least so many."
)
@click.option(
    "--max", "most", type=click.IntRange(1, 1000), metavar="N", help="Replicas at most.  [--replicas]"
)
@click.option(
    "--dtype", type=click.Choice(["bfloat16", "float16", "float32"]), help="Default: the checkpoint's."
)
@click.option("-w", "--write", "file", type=OutputFile(), help="[NAME.yaml; -: stdout]")
@click.option("--force", is_flag=True, help="Replace the file that is there.")
def command(
    model: str | None, example: str | None, file: Path | None, force: bool, kube_context: str | None,
    kubeconfig: str | None, here: bool, **wished: Any,
) -> None:  # fmt: skip
    """Write a commented Fleet: a model, its hardware, how it scales; the rest is planned or defaulted.

    MODEL is a hub name, a folder, or hf://, pypi://, s3://. Without one it is the model of `seawall up`, on the CPU.

    \b
    $ seawall init Qwen/Qwen3-8B --gpu L40S --cloud gke
    $ seawall init Qwen/Qwen3-8B --cluster prod
    $ seawall init Qwen/Qwen3-8B -w -
    $ seawall init --example canary
    """
    from seawall.config import examples
    from seawall.config.from_model import FleetWish, fleet_text, label_of, source_of
    from seawall.config.load import parse_fleets
    from seawall.drivers import cache
    from seawall.errors import InputError

    asked = wished["gpu"]
    if example is not None:
        _alone(model)
    if kube_context and here:
        raise InputError("--cluster and --here are two places.", "Name one of them.")
    if (kube_context or here) and (model is None or wished["gpu"] != "auto"):
        raise InputError(
            "--cluster and --here choose the GPU of a model.",
            "Name a MODEL, and leave --gpu and --example out.",
        )
    if kube_context:
        wished |= _of_cluster(model or "", FleetWish(**wished), kube_context, kubeconfig)
    if here:
        wished |= _of_machine()
    if model is None:
        name = example or wished["name"] or examples.DEFAULT
        text = examples.text(example or examples.DEFAULT)
    else:
        if wished["gpu"] == "cpu" and wished["cloud"] is None:
            wished["cloud"] = "local"
        name = wished["name"] or label_of(source_of(model))
        text = fleet_text(model, FleetWish(**wished))
    (fleet,) = parse_fleets(text, "the new Fleet")
    if asked not in ("auto", "cpu"):
        from seawall.decide.plan.candidates import gpus_for

        gpus_for(fleet)  # a name that no plan knows is not written
    if str(file) == "-":
        click.echo(text, nl=False)
        return
    path = file or Path(f"{name}.yaml")
    if path.exists() and not force:
        raise InputError(
            f"{path} is there already.", "Name another with --write, or replace it with --force."
        )
    try:
        cache.write_atomic(path, text)
    except OSError as e:
        raise InputError(f"{path}: {e.strerror}.", "Name another place with --write.") from None
    say(f"wrote {path}: {fleet.name}\n\nNext: seawall plan {path}")
