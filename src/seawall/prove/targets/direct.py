"""No gateway at all: each client has the address of one engine, as behind DNS round robin. Gateways have to beat it."""

from __future__ import annotations

from seawall.prove.targets.adapter import TargetAdapter, TargetPlace


class Direct(TargetAdapter):
    name = "direct"
    title = "no gateway"
    source = "nothing"
    settings = ("each client asks one engine, client i the engine i modulo their number",)

    def addresses(self, place: TargetPlace) -> list[str]:
        return list(place.engines)
