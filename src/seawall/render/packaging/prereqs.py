"""Prerequisites of a cluster: Helm values and commands, with pinned chart versions.

Versions were looked up in August 2026 and belong together; change them here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass

from seawall.domain.catalog.providers import PROVIDERS
from seawall.domain.labels import PENDING_REQUESTS
from seawall.render.inputs import Object
from seawall.render.yaml import dump


@dataclass(frozen=True, kw_only=True)
class HelmChart:
    release: str
    namespace: str
    repository: str
    chart: str
    version: str
    values: Object
    why: str
    optional: bool = False


def adapter_rules() -> Object:
    """Rules of prometheus-adapter for fleets with `scaling.by: hpa`: the gateway's pending requests, which are
    the whole demand when all traffic runs through the gateway."""
    rule = {
        "seriesQuery": f'{PENDING_REQUESTS}{{namespace!="",fleet!=""}}',
        "resources": {"overrides": {"namespace": {"resource": "namespace"}}},
        "name": {"as": "seawall_demand"},
        "metricsQuery": "sum(<<.Series>>{<<.LabelMatchers>>}) by (fleet)",
    }
    return {
        "prometheus": {"url": "http://prometheus-operated.monitoring.svc", "port": 9090},
        "rules": {"default": False, "external": [rule]},
    }


CHARTS: tuple[HelmChart, ...] = (
    HelmChart(
        release="kube-prometheus-stack",
        namespace="monitoring",
        repository="https://prometheus-community.github.io/helm-charts",
        chart="kube-prometheus-stack",
        version="88.0.0",
        why="Prometheus, Grafana, kube-state-metrics. It must see monitors and rules of all namespaces.",
        values={
            "prometheus": {
                "prometheusSpec": {
                    "podMonitorSelectorNilUsesHelmValues": False,
                    "serviceMonitorSelectorNilUsesHelmValues": False,
                    "ruleSelectorNilUsesHelmValues": False,
                    "probeSelectorNilUsesHelmValues": False,
                    "retention": "15d",
                }
            },
            "grafana": {"sidecar": {"dashboards": {"enabled": True, "searchNamespace": "ALL"}}},
        },
    ),
    HelmChart(
        release="keda",
        namespace="keda",
        repository="https://kedacore.github.io/charts",
        chart="keda",
        version="2.20.2",
        why="Scales fleets. Older than 2.20, its metrics-api trigger sums over the wrong endpoints.",
        values={
            "operator": {"replicaCount": 2},
            "metricsServer": {"replicaCount": 2},
            "prometheus": {
                "operator": {"enabled": True, "serviceMonitor": {"enabled": True}},
                "metricServer": {"enabled": True, "serviceMonitor": {"enabled": True}},
            },
            # Names unknown trigger parameters in the operator's log instead of ignoring them.
            "env": [{"name": "KEDA_CHECK_UNEXPECTED_SCALERS_PARAMS", "value": "enabled"}],
        },
    ),
    HelmChart(
        release="gpu-operator",
        namespace="gpu-operator",
        repository="https://helm.ngc.nvidia.com/nvidia",
        chart="gpu-operator",
        version="v26.7.0",
        why="Driver, device plugin, GPU feature discovery (the node labels we select by), DCGM. Choose this "
        "or the device plugin below.",
        values={
            "gfd": {"enabled": True},
            "dcgmExporter": {
                "enabled": True,
                "serviceMonitor": {"enabled": True, "interval": "15s", "honorLabels": True},
            },
        },
    ),
    HelmChart(
        release="nvidia-device-plugin",
        namespace="kube-system",
        repository="https://nvidia.github.io/k8s-device-plugin",
        chart="nvidia-device-plugin",
        version="0.20.0",
        why="Where nodes already have a driver (EKS and AKS images, k3s). gfd brings the labels; without them "
        "the plugin's own DaemonSet has no node to run on. GKE has its own plugin: install neither.",
        values={"gfd": {"enabled": True}},
        optional=True,
    ),
    HelmChart(
        release="dcgm-exporter",
        namespace="monitoring",
        repository="https://nvidia.github.io/dcgm-exporter/helm-charts",
        chart="dcgm-exporter",
        version="4.8.3",
        why="GPU metrics, where the GPU operator does not run.",
        values={"serviceMonitor": {"enabled": True, "interval": "15s", "honorLabels": True}},
        optional=True,
    ),
    HelmChart(
        release="prometheus-adapter",
        namespace="monitoring",
        repository="https://prometheus-community.github.io/helm-charts",
        chart="prometheus-adapter",
        version="5.4.0",
        why="Only for fleets with `scaling.by: hpa`, and instead of KEDA: a cluster has one server of "
        "external.metrics.k8s.io, and whichever is installed last takes it from the other.",
        values=adapter_rules(),
        optional=True,
    ),
)
"""The charts, in the order of installation."""


def commands() -> str:
    lines = [
        "#!/bin/sh",
        "# What a cluster needs before the first fleet. Read it, then run it: each line can be run again.",
        "set -eu",
        'cd "$(dirname "$0")"',
    ]
    for c in CHARTS:
        lines += ["", f"# {c.why}"]
        command = (
            f"helm upgrade --install {c.release} {c.chart} --repo {c.repository} --version {c.version} \\\n"
            f"  --namespace {c.namespace} --create-namespace --values values/{c.release}.yaml --wait"
        )
        lines.append("\n".join(f"# {x}" for x in command.split("\n")) if c.optional else command)
    for p in PROVIDERS.values():
        if p.needed:
            lines += ["", f"# {p.name}: only for {p.needed}.", f"# {p.by_hand}"]
    return "\n".join(lines) + "\n"


def prerequisites() -> dict[str, str]:
    """install.sh and one values file for each chart."""
    out = {"install.sh": commands()}
    out |= {f"values/{c.release}.yaml": dump(c.values) for c in CHARTS}
    return out
