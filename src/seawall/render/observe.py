"""All objects that watch: monitors, alert rules, the dashboard."""

from __future__ import annotations

from seawall.render.inputs import Group, Object


def observing(group: Group) -> list[Object]:
    return []
