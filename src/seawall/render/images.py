"""The images that run. Pinned by tag or digest, always: `latest` is refused before anything is rendered."""

from __future__ import annotations

from seawall import __version__
from seawall.domain.spec import Fleet
from seawall.render.inputs import Group, Wanted


def seawall_image(fleet: Fleet) -> str:
    """The image of the gateway and the loader Job, built from this repository's Containerfile."""
    return fleet.spec.gateway.image or f"seawall:{__version__}"


def gateway_image(group: Group) -> str:
    return next((w.fleet.spec.gateway.image for w in group.members if w.fleet.spec.gateway.image), None) or (
        seawall_image(group.first.fleet)
    )


STORE_IMAGE = "valkey/valkey:8.1.2-alpine3.22"


def store_image(group: Group) -> str:
    """The image of the store that is rendered: any that has `valkey-server` in its path."""
    named = (w.fleet.spec.gateway.store_image for w in group.members)
    return next(filter(None, named), STORE_IMAGE)


def engine_image(wanted: Wanted) -> str:
    engine = wanted.fleet.spec.engine
    if engine.image:
        return engine.image
    if engine.kind == "sim":
        return seawall_image(wanted.fleet)
    repository = "vllm/vllm-openai-cpu" if wanted.plan.gpu == "cpu" else "vllm/vllm-openai"
    return f"{repository}:v{engine.version}"
