"""From a group of fleets to its objects, in the order in which a cluster wants them. Pure: same in, same out."""

from __future__ import annotations

from seawall.errors import InputError
from seawall.render import batch, disruption, foundation, gateway, network, routes, scaler, scaling, store
from seawall.render.inputs import Group, Object, Rendering, Wanted
from seawall.render.notes import notes
from seawall.render.observe.everything import observing
from seawall.render.refusals import refusals
from seawall.render.replica import probe_config, weights, workload


def render(group: Group) -> Rendering:
    """All objects of these fleets and their gateway. InputError lists what cannot work, with cures."""
    problems = refusals(group)
    if problems:
        raise InputError("\n".join(problems))
    objects: list[Object | None] = [foundation.namespace(group)]
    for wanted in group.members:
        objects += _base(wanted)
    objects += [*gateway.access(group), gateway.config_map(group)]
    objects += [network.gateway_policy(group), *foundation.gateway_services(group)]
    objects += [gateway.deployment(group), gateway.autoscaler(group), disruption.gateway_budget(group)]
    if beside := store.store(group):
        objects += [network.store_policy(group), *beside]
    if beside := batch.batch_lane(group, gateway.fleet_volume(group), gateway.fleet_paths(group)):
        objects += [network.batch_policy(group), *beside]
    if beside := scaler.scaler(group):
        objects += [network.scaler_policy(group), *beside]
    for wanted in group.members:
        objects += [*_serving(wanted, group), *scaling.scalers(wanted, group)]
    objects += routes.routes(group)
    objects += observing(group)
    kept = tuple(o for o in objects if o is not None)
    return Rendering(group=group, objects=kept, notes=notes(group))


def _base(wanted: Wanted) -> list[Object | None]:
    """Account, configuration, storage and the loader, before anything that needs them."""
    out: list[Object | None] = [
        foundation.engine_account(wanted),
        probe_config.config_map(wanted),
        weights.lock_config(wanted),
        weights.claim(wanted),
        network.loader_policy(wanted),
        weights.loader(wanted),
    ]
    canary = wanted.canary
    if canary and canary.own_weights:
        out.append(weights.loader(canary))
    return out


def _serving(wanted: Wanted, group: Group) -> list[Object | None]:
    return [
        network.engine_policy(wanted, group),
        *foundation.engine_services(wanted),
        *workload.workloads(wanted),
        disruption.engine_budget(wanted),
    ]
