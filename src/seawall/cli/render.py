"""`seawall render`: one spec becomes Kubernetes objects that are right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from seawall.cli.files import InputFile, writable_folder
from seawall.domain.units import counted

if TYPE_CHECKING:
    from seawall.render.inputs import Group
    from seawall.render.packaging.package import Packaging

PREREQS = "cluster-prereqs"


@click.command()
@click.argument("fleets", nargs=-1, required=True, metavar="FLEET.yaml...|cluster-prereqs")
@click.option(
    "--format",
    "packaging",
    type=click.Choice(["plain", "kustomize", "helm", "argocd", "flux"]),
    default="plain",
    show_default=True,
    help="What the objects are packed as.",
)
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder to write to. Default: stdout.")
@click.option("--lock", type=InputFile(".lock"), help="Lockfile of the weights. [FLEET.lock if it is there]")
@click.option("--gateway-name", default="", help="Name of the gateway. [FLEET-gateway]")
@click.option(
    "--repo", default="https://git.example.com/llm/deploy", help="Repository that argocd and flux read from."
)
@click.option("--repo-revision", default="main", show_default=True, help="Branch or tag in it.")
@click.option("--repo-path", default="", help="Where the objects lie in it. [NAME/manifests]")
def command(
    fleets: tuple[str, ...],
    packaging: Packaging,
    output: Path | None,
    lock: Path | None,
    gateway_name: str,
    repo: str,
    repo_revision: str,
    repo_path: str,
) -> None:
    """Turn a Fleet into Kubernetes objects, or print what a cluster needs first (`cluster-prereqs`).

    All fleets that are named together share one gateway. A spec that cannot work is refused with the path,
    the value and the cure. The same spec gives the same bytes.

    \b
    $ seawall render examples/llama-70b-4xh100.yaml -o deploy/
    $ seawall render examples/canary.yaml | kubectl apply --server-side -f -
    $ seawall render examples/spot-gke.yaml --format helm -o chart/
    """
    from seawall.cli.fleets import group_of
    from seawall.errors import InputError
    from seawall.render.packaging.gitops import Repository
    from seawall.render.packaging.package import package, stream

    if str(output) in ("json", "yaml", "text", "-") and not Path(str(output)).is_dir():
        raise InputError(
            f"-o {output}: -o names the folder that is written to; the objects are YAML.",
            f"Leave -o out for standard output, or make a folder of that name first: mkdir {output}",
        )
    writable_folder(output, "-o")
    if fleets == (PREREQS,):
        from seawall.render.packaging.prereqs import prerequisites

        _write(prerequisites(), output, ())
        return
    group = group_of(fleets, lock, gateway_name)
    from seawall.render.everything import render
    from seawall.render.notes import needed_first

    rendering = render(group)
    where = Repository(url=repo, revision=repo_revision, path=repo_path)
    plain = packaging == "plain" and output is None
    files = {"": stream(rendering)} if plain else package(rendering, packaging, where)
    _write(files, output, rendering.notes)
    if output is None:
        for note in rendering.notes:
            click.echo(f"# {note}", err=True)
        return
    if first := needed_first(rendering.objects):
        click.echo(f"  {first}")
    click.echo(f"\nAway again: {away_command(packaging, output, group)} (the namespace and the weights stay)")
    click.echo(f"Next: {next_command(packaging, output, group)}")


def _write(files: dict[str, str], output: Path | None, notes: tuple[str, ...]) -> None:
    from seawall.errors import InputError

    if output is None:
        if len(files) == 1:
            click.echo(next(iter(files.values())), nl=False)
            return
        for name, text in files.items():
            click.echo(f"# ==> {name}\n{text}", nl=not text.endswith("\n"))
        return
    try:
        for name, text in files.items():
            target = output / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, "utf-8")
    except OSError as e:
        raise InputError(
            f"{output}: {e.strerror or e}.", "Name a folder that can be written with -o."
        ) from None
    click.echo(f"wrote {counted(len(files), 'file')} to {output}")
    for note in notes:
        click.echo(f"  {note}")


def next_command(packaging: Packaging, output: Path, group: Group) -> str:
    """What puts the files into a cluster."""
    return {
        "plain": f"kubectl apply --server-side -f {output}",
        "kustomize": f"kubectl apply --server-side -k {output}/overlays/prod",
        "helm": f"helm install {group.gateway} {output} --namespace {group.namespace} --create-namespace",
        "argocd": f"commit {output}, then kubectl apply -f {output}/application.yaml",
        "flux": f"commit {output}, then kubectl apply -f {output}/flux.yaml",
    }[packaging]


def away_command(packaging: Packaging, output: Path, group: Group) -> str:
    """What takes away what is only ours, after the next command has put it there."""
    from seawall.render.packaging.files import OURS

    return {
        "plain": f"kubectl delete -f '{output}/{OURS}'",
        "kustomize": f"kubectl delete -k {output}/delete",
        "helm": f"helm uninstall {group.gateway} --namespace {group.namespace}",
        "argocd": f"kubectl delete -f {output}/application.yaml",
        "flux": f"kubectl delete -f {output}/flux.yaml",
    }[packaging]
