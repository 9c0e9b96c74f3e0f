"""The batch lane on Kubernetes: one hardened worker with a volume, reached by gateways, that reaches gateways alone."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from seawall.batch.metrics import COUNTERS, METRICS
from seawall.decide.batch.planned import read_text
from seawall.errors import InputError
from seawall.render.everything import render
from seawall.render.inputs import Group, Object, Rendering

Objects = dict[tuple[str, str], Object]
LANE = "  gateway: {batch: {%s}}\n"


def rendered(group: Callable[..., Group], llama: str, more: str = "") -> tuple[Rendering, Objects]:
    found = render(group(llama + LANE % more))
    return found, {(o["kind"], o["metadata"]["name"]): o for o in found.objects}


def name_of(objects: Objects) -> str:
    return next(name for kind, name in objects if kind == "PersistentVolumeClaim" and name.endswith("-batch"))


def pod_of(objects: Objects, name: str) -> Any:
    return objects["Deployment", name]["spec"]["template"]["spec"]


def test_one_worker_with_its_volume_and_no_rights(group: Callable[..., Group], llama: str) -> None:
    found, objects = rendered(group, llama, "volume: 30Gi, storageClass: fast")
    name = name_of(objects)
    deployment = objects["Deployment", name]["spec"]
    assert deployment["replicas"] == 1 and deployment["strategy"] == {"type": "Recreate"}
    pod = pod_of(objects, name)
    (worker,) = pod["containers"]
    assert not pod["automountServiceAccountToken"] and "serviceAccountName" not in pod
    assert pod["securityContext"]["runAsNonRoot"] and worker["securityContext"]["readOnlyRootFilesystem"]
    assert worker["resources"]["limits"] == worker["resources"]["requests"]
    claim = objects["PersistentVolumeClaim", name]["spec"]
    assert claim["storageClassName"] == "fast" and claim["resources"]["requests"]["storage"] == "30Gi"
    assert {"name": "data", "persistentVolumeClaim": {"claimName": name}} in pod["volumes"]
    assert ("PodDisruptionBudget", name) in objects and ("Service", name) in objects
    assert any(f"{name} with the key `secret`" in note for note in found.notes)


def test_what_was_planned_goes_along(group: Callable[..., Group], llama: str) -> None:
    """Finish times of a fleet whose lines nobody has measured; a plan that does not know the cache says nothing."""
    found = render(group(llama + LANE % "", kv_cache_tokens=50_000, max_num_seqs=64))
    objects = {(o["kind"], o["metadata"]["name"]): o for o in found.objects}
    args = pod_of(objects, name_of(objects))["containers"][0]["args"]
    fleet, speed = read_text(args[args.index("--planned") + 1])
    assert args[0].endswith(f"/{fleet}.yaml")
    assert (speed.kv_tokens, speed.seats) == (50_000, 64) and speed.start_s > 0 and speed.most >= 1
    _, unknown = rendered(group, llama)
    assert "--planned" not in pod_of(unknown, name_of(unknown))["containers"][0]["args"]


def test_the_lane_and_its_gateways_find_and_know_each_other(group: Callable[..., Group], llama: str) -> None:
    _, objects = rendered(group, llama)
    name = name_of(objects)
    gateway_name = name.removesuffix("-batch")
    gateway, lane = pod_of(objects, gateway_name), pod_of(objects, name)
    args = gateway["containers"][0]["args"]
    assert args[args.index("--batch") + 1] == f"{name}.llm.svc:8100"
    args = lane["containers"][0]["args"]
    assert args[args.index("--gateway") + 1] == f"http://{gateway_name}.llm.svc"
    assert args[args.index("--admin") + 1] == f"http://{gateway_name}-admin.llm.svc:9090"
    for pod in (gateway, lane):
        volume = next(v for v in pod["volumes"] if v["name"] == "batch-secret")
        assert volume["secret"]["secretName"] == name
        assert {"name": "SEAWALL_BATCH_SECRET_FILE", "value": "/etc/seawall/batch/secret"} in pod[
            "containers"
        ][0]["env"]
    policy = objects["NetworkPolicy", name]["spec"]
    assert [p["port"] for rule in policy["ingress"] for p in rule["ports"]] == [8100]
    assert sorted(p["port"] for rule in policy["egress"] for p in rule["ports"]) == [
        53,
        53,
        53,
        53,
        8000,
        9090,
    ]
    own = objects["NetworkPolicy", gateway_name]["spec"]
    assert any(p["port"] == 8100 for rule in own["egress"] for p in rule["ports"])


def test_engines_of_such_a_fleet_schedule_by_priority(group: Callable[..., Group], llama: str) -> None:
    def engine(objects: Objects) -> str:
        return str(
            [o for (kind, name), o in objects.items() if kind == "Deployment" and "gateway" not in name]
        )

    _, with_lane = rendered(group, llama)
    without = {(o["kind"], o["metadata"]["name"]): o for o in render(group(llama)).objects}
    assert "'--scheduling-policy', 'priority'" in engine(with_lane)
    assert "--scheduling-policy" not in engine(without)
    assert not any(name.endswith("-batch") for _, name in without)


def test_a_database_of_ones_own_is_reached_and_its_password_is_no_argument(
    group: Callable[..., Group], llama: str
) -> None:
    _, objects = rendered(group, llama, "storeSecret: pg")
    name = name_of(objects)
    pod = pod_of(objects, name)
    assert {"name": "SEAWALL_BATCH_STORE_FILE", "value": "/etc/seawall/batch-store/address"} in pod[
        "containers"
    ][0]["env"]
    egress = objects["NetworkPolicy", name]["spec"]["egress"]
    assert any(p["port"] == 5432 for rule in egress for p in rule["ports"])


def test_files_in_a_bucket_are_reached_and_its_keys_are_files(
    group: Callable[..., Group], llama: str
) -> None:
    found, objects = rendered(group, llama, "bucket: s3://files/lane, bucketSecret: aws")
    name = name_of(objects)
    pod = pod_of(objects, name)
    (worker,) = pod["containers"]
    (mount,) = [m for m in worker["volumeMounts"] if m["name"] == "batch-bucket"]
    args = worker["args"]
    assert args[args.index("--secrets") + 1] == mount["mountPath"] and mount["readOnly"]
    assert "aws" not in json.dumps(worker["env"]) and "envFrom" not in worker
    (volume,) = [v for v in pod["volumes"] if v["name"] == "batch-bucket"]
    assert volume["secret"] == {"secretName": "aws", "defaultMode": 0o440}
    ports = [p for rule in objects["NetworkPolicy", name]["spec"]["egress"] for p in rule["ports"]]
    assert {"protocol": "TCP", "port": 1, "endPort": 65535} in ports, "the Secret may name an endpoint"
    assert any("llm/aws" in note and "AWS_ACCESS_KEY_ID" in note for note in found.notes)


def test_a_bucket_without_a_secret_is_opened_by_the_pods_identity(
    group: Callable[..., Group], llama: str
) -> None:
    _, objects = rendered(group, llama, "bucket: gs://files/lane")
    name = name_of(objects)
    (worker,) = pod_of(objects, name)["containers"]
    assert "--secrets" not in worker["args"]
    egress = objects["NetworkPolicy", name]["spec"]["egress"]
    ports = [p["port"] for rule in egress for p in rule["ports"]]
    assert 443 in ports and 80 in ports, "the bucket, and who hands out the identity"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("bucket: /srv/files", "spec.gateway.batch.bucket"),
        ("bucket: 'az://files/lane'", "s3://BUCKET/FOLDER"),
        ("bucket: 's3://'", "is no bucket"),
        ("bucketSecret: aws", "opens nothing"),
        ("store: 'mysql://db/lane'", "postgresql://USER@HOST/NAME"),
    ],
)
def test_a_place_for_files_that_there_is_not_is_named(
    group: Callable[..., Group], llama: str, said: str, told: str
) -> None:
    with pytest.raises(InputError) as e:
        group(llama + LANE % said)
    assert told in str(e.value)


def test_prometheus_and_grafana_watch_the_lane(group: Callable[..., Group], llama: str) -> None:
    for kind in ("pod-monitor", "service-monitor"):
        found = render(group(llama + LANE % "" + f"  monitoring: {{kind: {kind}}}\n"))
        objects = {(o["kind"], o["metadata"]["name"]): o for o in found.objects}
        name = name_of(objects)
        if kind == "pod-monitor":
            monitor = objects["PodMonitor", name]["spec"]
            labels = objects["Deployment", name]["spec"]["template"]["metadata"]["labels"]
            (port,) = monitor["podMetricsEndpoints"]
        else:
            monitor = objects["ServiceMonitor", name]["spec"]
            labels = objects["Service", name]["metadata"]["labels"]
            (port,) = monitor["endpoints"]
        assert monitor["selector"]["matchLabels"].items() <= labels.items()
        assert (port["port"], port["path"]) == ("http", "/metrics")
    rules = next(o for (kind, _), o in objects.items() if kind == "PrometheusRule")
    alerts = {r.get("alert") for g in rules["spec"]["groups"] for r in g["rules"]}
    assert {"SeawallBatchLate", "SeawallBatchStands", "SeawallBatchAway"} <= alerts
    boards = [o for (kind, name), o in objects.items() if kind == "ConfigMap" and name.endswith("-dashboard")]
    for board in boards:
        for text in board["data"].values():
            assert "Batches" in [p["title"] for p in json.loads(text)["panels"] if p["type"] == "row"]
    assert boards


@pytest.mark.parametrize("by", ["keda-prometheus", "keda-gateway", "seawall"])
def test_lines_that_live_on_what_is_left_call_for_no_replica(
    group: Callable[..., Group], llama: str, by: str
) -> None:
    """Engines count lines among what they run, and their caches are full of them: the gateway tells them apart."""
    scaled_by = llama.replace("scaling: {", f"scaling: {{by: {by}, ")
    found = render(group(scaled_by + LANE % ""))
    (scaled,) = [o for o in found.objects if o["kind"] == "ScaledObject"]
    triggers = {t["name"]: t for t in scaled["spec"]["triggers"]}
    assert not triggers.keys() & {"waiting", "kv-cache"}
    asked = json.dumps(triggers["demand"]["metadata"])
    assert "vllm:" not in asked and "seawall_in_flight" not in asked
    assert "pending" in asked, "requests, and lines of a batch that would miss its window"
    without = [o for o in render(group(scaled_by)).objects if o["kind"] == "ScaledObject"]
    assert (by == "keda-gateway") != ("vllm:num_requests_running" in json.dumps(without))


def test_every_metric_that_is_watched_is_one_that_the_lane_has(
    group: Callable[..., Group], llama: str
) -> None:
    found, _ = rendered(group, llama)
    asked = set(re.findall(r"seawall_batch_[a-z_]+", json.dumps(found.objects)))
    have = {name + ("_total" if name in COUNTERS else "") for name in METRICS}
    assert asked and asked <= have


def test_every_metric_that_the_lane_has_is_on_the_dashboard(group: Callable[..., Group], llama: str) -> None:
    _, objects = rendered(group, llama)
    boards = [o for (kind, name), o in objects.items() if kind == "ConfigMap" and name.endswith("-dashboard")]
    have = {name + ("_total" if name in COUNTERS else "") for name in METRICS}
    assert boards
    for board in boards:
        for text in board["data"].values():
            shown = set(re.findall(r"seawall_batch_[a-z_]+", text))
            assert not have - shown, f"on no panel: {sorted(have - shown)}"
