"""Who brings the kinds that Kubernetes itself does not: API group -> product, and the command that installs it.

Why: whoever finds that a kind is not served (render, apply, the doctor, the operator) ends in the same cure, and it is
one that helps. Versions were looked up in 2026 and belong together with the charts of `cluster-prereqs`. Forbidden:
asking a cluster.
"""

from __future__ import annotations

from dataclasses import dataclass

PREREQS = "seawall render cluster-prereqs -o prereqs"
_GITHUB = "https://github.com/kubernetes-sigs"


@dataclass(frozen=True)
class Provider:
    """The product behind an API group. `manifests`: what kubectl applies to install it; empty: a chart of
    `cluster-prereqs` does. `needed`: for which Fleets."""

    name: str
    manifests: str = ""
    command: str = ""
    """Another command than kubectl's."""
    needed: str = ""

    @property
    def by_hand(self) -> str:
        """The command that installs it where no chart does; empty where one does."""
        return self.command or (self.manifests and f"kubectl apply --server-side -f {self.manifests}")


PROVIDERS: dict[str, Provider] = {
    "keda.sh": Provider("KEDA"),
    "monitoring.coreos.com": Provider("the Prometheus operator"),
    "leaderworkerset.x-k8s.io": Provider(
        "LeaderWorkerSet",
        f"{_GITHUB}/lws/releases/download/v0.10.0/manifests.yaml",
        needed="models that span nodes",
    ),
    "gateway.networking.k8s.io": Provider(
        "the Gateway API",
        f"{_GITHUB}/gateway-api/releases/download/v1.6.1/standard-install.yaml",
        needed="gateway.route: gateway-api, beside a controller that serves it",
    ),
    "inference.networking.k8s.io": Provider(
        "the Gateway API Inference Extension",
        f"{_GITHUB}/gateway-api-inference-extension/releases/download/v1.6.2/manifests.yaml",
        needed="gateway.route: inference-pool, beside a controller that serves it",
    ),
    "networking.istio.io": Provider(
        "Istio", command="istioctl install --set profile=minimal", needed="gateway.route: istio"
    ),
    "seawall.dev": Provider(
        "the definitions of seawall's own kinds",
        command="seawall operator manifests --crd-only | kubectl apply --server-side -f -",
    ),
}
"""In the order in which they are installed."""


def provider_of(api_version: str) -> Provider | None:
    """Who brings the kinds of `keda.sh/v1alpha1`; None: Kubernetes itself, or nobody that is known here."""
    return PROVIDERS.get(api_version.partition("/")[0])


def cure_of(api_version: str) -> str:
    """What to do where the kinds of an API version are not served: one sentence with its command."""
    found = provider_of(api_version)
    if found is None:
        return "Install what provides it, or leave it out; `seawall render cluster-prereqs` shows what Fleets need."
    if not found.by_hand:
        return f"Install {found.name}: {PREREQS} && sh prereqs/install.sh"
    listed = " (`seawall render cluster-prereqs` lists it, too)" if found.needed else ""
    return f"Install {found.name}: {found.by_hand}{listed}"
