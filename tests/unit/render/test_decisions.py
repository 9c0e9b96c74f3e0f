"""What a fleet becomes: the choices that a schema cannot judge."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import click
import pytest

from seawall.decide.scale import keda_metrics
from seawall.decide.scale.formula import FormulaError
from seawall.decide.scale.keda import Fallback
from seawall.domain.catalog.clouds import CLOUDS
from seawall.render.everything import render
from seawall.render.inputs import Group, Object, Rendering
from seawall.render.lifecycle import timing_of


def objects(group: Group) -> dict[tuple[str, str], Object]:
    return {(o["kind"], o["metadata"]["name"]): o for o in render(group).objects}


def pod(obj: Object) -> Any:
    return obj["spec"]["template"]["spec"]


SPOT = "  hardware: {gpu: H100-80GB, cloud: gke, spot: {onDemandFloor: 2}}\n"
PLAIN = "  hardware: {gpu: H100-80GB, cloud: gke}\n"


def spot(llama: str) -> str:
    return llama.replace(PLAIN, SPOT).replace("min: 2", "min: 3")


def test_a_spot_fleet_keeps_a_floor_on_demand_and_scales_the_rest(
    group: Callable[..., Group], llama: str
) -> None:
    found = objects(group(spot(llama)))
    floor, rest = found["Deployment", "llama-70b-floor"], found["Deployment", "llama-70b-spot"]
    assert floor["spec"]["replicas"] == 2
    assert "replicas" not in rest["spec"]
    scaler = found["ScaledObject", "llama-70b-spot"]["spec"]
    assert (scaler["minReplicaCount"], scaler["maxReplicaCount"]) == (1, 4)
    terms = [
        pod(o)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
            "nodeSelectorTerms"
        ][0]
        for o in (floor, rest)
    ]
    operators = [
        e["operator"] for t in terms for e in t["matchExpressions"] if e["key"] == "cloud.google.com/gke-spot"
    ]
    assert operators == ["NotIn", "In"]
    # Two replicas take 180 requests off the demand that the spot half is sized for.
    assert "- 180, 0)" in scaler["triggers"][0]["metadata"]["query"]
    # The whole stop fits into the notice; on-demand replicas take their time.
    assert pod(rest)["terminationGracePeriodSeconds"] <= CLOUDS["gke"].spot_notice_s
    assert pod(floor)["terminationGracePeriodSeconds"] == 15 + 120 + 15


def test_without_spare_gpus_an_old_replica_makes_room(group: Callable[..., Group], llama: str) -> None:
    text = llama.replace("cloud: gke", "cloud: gke, spareGpus: false")
    rolling = objects(group(text))["Deployment", "llama-70b"]["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 0, "maxUnavailable": 1}
    rolling = objects(group(llama))["Deployment", "llama-70b"]["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 1, "maxUnavailable": 0}


def test_scale_to_zero_lets_the_last_replica_go_after_idling(group: Callable[..., Group], llama: str) -> None:
    text = llama.replace("{min: 2, max: 6}", "{min: 0, max: 2, idleAfter: 10m}")
    spec = objects(group(text))["ScaledObject", "llama-70b"]["spec"]
    assert spec["minReplicaCount"] == 0
    assert spec["cooldownPeriod"] == 600
    # At zero no engine is scraped: every guard must say 0 then, not "no data".
    for trigger in spec["triggers"][1:]:
        assert trigger["metadata"]["query"].endswith("or vector(0)")


def test_triggers_sum_and_never_take_missing_data_for_zero(rendering: Rendering) -> None:
    for obj in rendering.objects:
        if obj["kind"] != "ScaledObject":
            continue
        for trigger in obj["spec"]["triggers"]:
            data = trigger["metadata"]
            assert trigger["metricType"] == "AverageValue"
            assert "metricName" not in data
            if trigger["type"] == "prometheus":
                assert data["ignoreNullValues"] == "false"
                assert "avg(" not in data["query"]
                assert f'namespace="{rendering.group.namespace}"' in data["query"]
            elif trigger["type"] == "metrics-api":
                assert data["aggregationType"] == "sum"
            else:
                # Blind, our own scaler gives no number; a clock is never blind.
                assert trigger["type"] in ("external-push", "cron")


def test_a_prometheus_that_asks_for_a_token_gets_it(
    group: Callable[..., Group], llama: str, valid: Callable[..., None]
) -> None:
    text = llama.replace("max: 6}", "max: 6, prometheusSecret: prom}")
    found = objects(group(text))
    login = found["TriggerAuthentication", "llama-70b-prometheus"]
    valid(login)
    assert login["spec"]["secretTargetRef"][0]["name"] == "prom"
    for trigger in found["ScaledObject", "llama-70b"]["spec"]["triggers"]:
        assert trigger["authenticationRef"]["name"] == login["metadata"]["name"]
        assert trigger["metadata"]["authModes"] == "bearer"


def test_two_models_share_one_gateway(group: Callable[..., Group], llama: str) -> None:
    other = llama.replace("llama-70b", "small").replace("Llama-3.1-70B", "Llama-3.1-8B")
    found = objects(group(llama + "---\n" + other))
    gateways = [name for kind, name in found if kind == "Deployment" and "gateway" in name]
    assert gateways == ["seawall-gateway"]
    args = pod(found["Deployment", "seawall-gateway"])["containers"][0]["args"]
    assert args[:2] == ["/etc/seawall/fleets/llama-70b.yaml", "/etc/seawall/fleets/small.yaml"]
    assert set(found["ConfigMap", "seawall-gateway-fleets"]["data"]) == {"llama-70b.yaml", "small.yaml"}


CANARY = (
    "  rollout: {canary: {candidate: {version: 0.31.0, weight: 10, replicas: 2}}}\n"
    "  gateway: {route: gateway-api, parentGateway: infra/web}\n"
)


def test_a_canary_is_a_second_deployment_with_its_share(group: Callable[..., Group], llama: str) -> None:
    found = objects(group(llama + CANARY))
    canary = found["Deployment", "llama-70b-canary"]
    assert canary["spec"]["replicas"] == 2
    assert pod(canary)["containers"][0]["image"] == "vllm/vllm-openai:v0.31.0"
    assert pod(found["Deployment", "llama-70b"])["containers"][0]["image"] == "vllm/vllm-openai:v0.32.0"
    labels = found["Service", "llama-70b-canary"]["metadata"]["labels"]
    assert labels["seawall.dev/canary-weight"] == "10"
    (rule,) = found["HTTPRoute", "llama-70b-gateway"]["spec"]["rules"]
    assert [ref["weight"] for ref in rule["backendRefs"]] == [90, 10]


def test_a_candidate_with_other_weights_loads_them_beside_the_old(
    group: Callable[..., Group], llama: str
) -> None:
    text = llama + CANARY.replace("version: 0.31.0", "revision: def456")
    found = objects(group(text))
    jobs = [o for (kind, _), o in found.items() if kind == "Job"]
    folders = {pod(o)["containers"][0]["args"][2] for o in jobs}
    assert folders == {"/models/llama-70b", "/models/llama-70b-canary"}
    assert "/models/llama-70b-canary" in pod(found["Deployment", "llama-70b-canary"])["containers"][0]["args"]


def test_other_weights_are_another_job(group: Callable[..., Group], llama: str) -> None:
    def name(text: str) -> str:
        return next(name for kind, name in objects(group(text)) if kind == "Job")

    assert name(llama) != name(llama.replace("abc123", "def456"))
    assert name(llama) == name(llama.replace("max: 6", "max: 7"))


def test_a_replica_of_two_nodes_is_one_group(group: Callable[..., Group], llama: str) -> None:
    plan = {"nodes_per_replica": 2, "gpus_per_replica": 16, "tensor_parallel": 8, "pipeline_parallel": 2}
    spec = objects(group(llama, **plan))["LeaderWorkerSet", "llama-70b"]["spec"]["leaderWorkerTemplate"]
    assert spec["size"] == 2
    leader, worker = (spec[t]["spec"]["containers"][0] for t in ("leaderTemplate", "workerTemplate"))
    assert leader["resources"]["limits"]["nvidia.com/gpu"] == "8"
    assert "--headless" in worker["args"] and "--headless" not in leader["args"]
    assert "readinessProbe" in leader and "readinessProbe" not in worker


def test_host_folders_cost_the_namespace_its_restriction(group: Callable[..., Group], llama: str) -> None:
    def level(text: str) -> str:
        labels = objects(group(text))["Namespace", "llm"]["metadata"]["labels"]
        return str(labels["pod-security.kubernetes.io/enforce"])

    assert level(llama) == "restricted"
    assert level(llama + "  cache: {kind: host-path}\n") == "privileged"


def test_a_default_namespace_is_not_ours_to_label(group: Callable[..., Group], llama: str) -> None:
    assert ("Namespace", "default") not in objects(group(llama.replace(", namespace: llm", "")))


@pytest.mark.parametrize(
    ("cloud", "pre_stop", "drain"),
    list(itertools.product(["gke", "eks", "aks", "karpenter"], [0, 15, 60], [1, 120, 900])),
)
def test_a_stop_on_spot_always_fits_the_notice(
    cloud: str, pre_stop: int, drain: int, group: Callable[..., Group], llama: str
) -> None:
    text = llama.replace(PLAIN, SPOT).replace("cloud: gke", f"cloud: {cloud}").replace("onDemandFloor: 2", "")
    fleet = group(text + f"  rollout: {{preStop: {pre_stop}s, drain: {drain}s}}\n").first.fleet
    timing = timing_of(fleet, spot=True)
    assert timing.grace_s <= CLOUDS[cloud].spot_notice_s
    assert timing.grace_s > timing.pre_stop_s + timing.drain_s
    assert timing.drain_s >= 1


def command_line(words: list[str], args: list[str]) -> None:
    """Our own verbs take the arguments that we render; click says what it does not know."""
    import importlib

    command: click.Command = importlib.import_module(f"seawall.cli.{words[0]}").command
    for word in words[1:]:
        assert isinstance(command, click.Group)
        command = command.commands[word]
    command.make_context(words[-1], list(args))


def test_our_verbs_understand_what_we_render(rendering: Rendering) -> None:
    for obj in rendering.objects:
        if obj["kind"] in ("Deployment", "Job"):
            for container in pod(obj)["containers"]:
                if container["command"][0] == "seawall":
                    command_line(container["command"][1:], container["args"])


@pytest.mark.parametrize("by", ["keda-prometheus", "keda-gateway"])
def test_whoever_is_blind_keeps_at_least_what_runs(by: str, group: Callable[..., Group], llama: str) -> None:
    text = re.sub(r"scaling: \{", f"scaling: {{by: {by}, ", llama)
    scaled = next(o for o in render(group(text)).objects if o["kind"] == "ScaledObject")["spec"]
    assert scaled["fallback"]["behavior"] == "currentReplicasIfHigher"


def test_our_scalers_silence_is_arithmetic_and_blind_nothing_is_said(
    group: Callable[..., Group], llama: str
) -> None:
    """The rendered formula and fallback, by KEDA's own rules for triggers that have failed too often."""
    text = re.sub(r"scaling: \{", "scaling: {by: seawall, policy: slo, ", llama)
    spec = next(o for o in render(group(text)).objects if o["kind"] == "ScaledObject")["spec"]
    said, modifiers = spec["fallback"], spec["advanced"]["scalingModifiers"]
    fallback = Fallback(said["replicas"], said["failureThreshold"], said["behavior"])
    names = {f"s{n}-{t['type']}": t["name"] for n, t in enumerate(spec["triggers"])}

    def value_m(**told_m: int) -> int:
        values = {key: told_m.get(name) for key, name in names.items()}
        health = {
            key: keda_metrics.Health(0, "Happy")
            if v is not None
            else keda_metrics.Health(5, keda_metrics.FAILING)
            for key, v in values.items()
        }
        given = [(key, -1000 if v is None else v) for key, v in values.items()]
        return keda_metrics.composite_value_m(modifiers["formula"], given, names, fallback, health, "1")

    assert value_m(decided=7000, demand=900_000) == 7000, "our word counts"
    target = next(t["metadata"]["threshold"] for t in spec["triggers"] if t["name"] == "demand")
    assert value_m(demand=round(20_000 * float(target))) == pytest.approx(20_000, abs=100), (
        "then the arithmetic"
    )
    with pytest.raises(FormulaError):
        value_m()  # an error, by which the HPA changes nothing
