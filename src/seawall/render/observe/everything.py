"""All objects that watch: monitors, alert rules, the dashboard."""

from __future__ import annotations

from seawall.render.batch import batch_spec
from seawall.render.inputs import Group, Object
from seawall.render.observe import dashboard, monitors, rules


def observing(group: Group) -> list[Object]:
    """Everything that watches a group; nothing for fleets that switched monitoring off."""
    watched = [w for w in group.members if w.fleet.spec.monitoring.enabled]
    out: list[Object] = [monitors.gateway_monitor(group)] if watched else []
    if watched and batch_spec(group) is not None:
        out.append(monitors.batch_monitor(group))
    for wanted in watched:
        out += [monitors.engine_monitor(wanted), rules.prometheus_rule(wanted)]
        if wanted.fleet.spec.monitoring.dashboard:
            out.append(dashboard.config_map(wanted))
    return out
