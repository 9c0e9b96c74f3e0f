"""Optional kinds (of KEDA, the Prometheus operator, Gateway API) as the cluster serves them now: they come and go.

When the definitions of a kind are deleted, its objects go with them and no watch of ours tells; when they come back,
the objects have to be made again at once, and not when everything is applied again some minutes later.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from seawall.drivers.kube import Kube, Object
from seawall.errors import ClusterError

log = logging.getLogger("seawall.operator")
KindName = tuple[str, str]
"""(apiVersion, kind)"""


class OptionalKinds:
    """What was served at the last look."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._served: dict[KindName, bool] = {}

    def applied(self, objects: Iterable[Object]) -> None:
        """These were just taken, so their kinds are served."""
        self._served |= dict.fromkeys(optional(objects), True)

    async def changed(self, wanted: Iterable[KindName]) -> set[KindName]:
        """Those of `wanted` that have come or gone since the last look: one request for each of their API versions. A
        version that cannot be asked about now has not changed."""
        wanted = set(wanted)
        self._served = {k: v for k, v in self._served.items() if k in wanted}
        out = set()
        for version in sorted({v for v, _ in wanted}):
            try:
                served = await self._kube.kinds(version)
            except ClusterError:
                continue
            for kind in (k for k in wanted if k[0] == version):
                now = kind[1] in served
                if self._served.setdefault(kind, now) != now:
                    self._served[kind] = now
                    out.add(kind)
                    log.info("%s (%s) is %s", kind[1], version, "served again" if now else "served no more")
        return out


def optional(objects: Iterable[Object]) -> set[KindName]:
    """The kinds of these objects that Kubernetes itself does not bring."""
    return {(o["apiVersion"], o["kind"]) for o in objects if not _own(str(o["apiVersion"]))}


def _own(version: str) -> bool:
    group = version.rpartition("/")[0]
    return "." not in group or group in _OWN


_OWN = {
    "rbac.authorization.k8s.io", "networking.k8s.io", "policy.k8s.io", "coordination.k8s.io", "discovery.k8s.io",
    "storage.k8s.io", "scheduling.k8s.io", "apiextensions.k8s.io", "authorization.k8s.io",
}  # fmt: skip
"""Groups of the API server itself; gateway.networking.k8s.io and leaderworkerset.x-k8s.io are not."""
