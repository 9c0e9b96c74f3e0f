"""Who makes a Secret that is not there yet: an ExternalSecret, a SealedSecret, a Certificate, and why it has not.

Why: where a controller keeps a Secret, `kubectl create secret` is the wrong advice; it would be overwritten, or be in
the controller's way. What helps is the maker's own word. Forbidden: reading the values of Secrets.
"""

from __future__ import annotations

from dataclasses import dataclass

from seawall.drivers.kube import Kube, Object, ObjectKind, Select, key_of
from seawall.errors import ClusterError

MAKERS = (
    ("external-secrets.io/v1", "ExternalSecret"),
    ("external-secrets.io/v1beta1", "ExternalSecret"),
    ("bitnami.com/v1alpha1", "SealedSecret"),
    ("cert-manager.io/v1", "Certificate"),
)


@dataclass(frozen=True)
class SecretMaker:
    """The object that makes a Secret. `stands`: what its controller says of it; empty: nothing yet."""

    kind: str
    namespace: str
    name: str
    stands: str = ""

    @property
    def command(self) -> str:
        return f"kubectl describe {self.kind.lower()} {self.name} -n {self.namespace}"

    def __str__(self) -> str:
        return f"{self.kind} {self.name} is to make it{f': {self.stands}' if self.stands else ', and has not yet'}"


async def makers(kube: Kube, namespace: str) -> dict[str, SecretMaker]:
    """Secret -> who makes it, of all kinds that this cluster serves and that may be read."""
    out: dict[str, SecretMaker] = {}
    for version, name in MAKERS:
        try:
            kind = (await kube.kinds(version)).get(name)
            found = await _listed(kube, kind, namespace) if kind else {}
        except ClusterError:
            continue  # whoever may not look is told the usual way
        out = {**found, **out}
    return out


async def _listed(kube: Kube, kind: ObjectKind, namespace: str) -> dict[str, SecretMaker]:
    found = await kube.list(Select(kind, namespace), lambda o: (_secret_of(kind.name, o), _stands(o)))
    return {
        secret: SecretMaker(kind.name, namespace, name, stands)
        for (_, name), (secret, stands) in found.items()
        if secret
    }


def _secret_of(kind: str, obj: Object) -> str:
    spec, own = obj.get("spec") or {}, key_of(obj)[1]
    if kind == "Certificate":
        return str(spec.get("secretName") or "")
    given = spec.get("target") if kind == "ExternalSecret" else (spec.get("template") or {}).get("metadata")
    return str((given or {}).get("name") or own)


def _stands(obj: Object) -> str:
    """The word of the condition that says that it does not work, or that it has not come to it."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    bad = [c for c in conditions if c.get("type") in ("Ready", "Synced") and c.get("status") != "True"]
    return " ".join(str(bad[0].get("message") or bad[0].get("reason") or "").split())[:200] if bad else ""
