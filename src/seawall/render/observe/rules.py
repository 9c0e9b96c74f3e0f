"""The PrometheusRule of a fleet: objectives, queue, cache, hung engines, replicas, scaler, weights, GPUs."""

from __future__ import annotations

import math
import re

from seawall.domain.labels import (
    BATCH_DEADLINE_SECONDS,
    BATCH_LATE_SECONDS,
    BATCH_LINES,
    BATCH_LINES_LEFT,
    BATCH_LINES_LIMIT,
    FLEET,
    IN_FLIGHT_REQUESTS,
    QUEUED_REQUESTS,
    REPLICA_ANSWERS_WRONGLY,
    REPLICA_UP,
    REQUESTS_ADMITTED_TOTAL,
    REQUESTS_REJECTED_TOTAL,
    RESUMED_STREAMS_TOTAL,
    STORE_ROUND_SECONDS,
    STORE_UP,
    TRUTH_DISAGREE,
)
from seawall.engines.vllm import metrics as vllm
from seawall.render.demand import engine_labels, gateway_labels, quoted
from seawall.render.inputs import Object, Wanted
from seawall.render.lifecycle import progress_deadline_s
from seawall.render.names import fleet_meta
from seawall.render.observe.alerts import Alert
from seawall.render.observe.objectives import burn_alerts, recording_rules
from seawall.render.replica.weights import job_pattern, needs_loader
from seawall.render.replica.workload import halves, scaled

HUNG_S = 180


def prometheus_rule(wanted: Wanted) -> Object:
    metadata = fleet_meta(wanted, wanted.name, "monitoring")
    metadata["labels"].update(wanted.fleet.spec.monitoring.labels)
    groups = [
        {"name": f"seawall.{wanted.name}.objectives", "interval": "30s", "rules": recording_rules(wanted)},
        {
            "name": f"seawall.{wanted.name}.alerts",
            "interval": "30s",
            "rules": [alert.rule(wanted) for alert in alerts(wanted)],
        },
    ]
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": metadata,
        "spec": {"groups": groups},
    }


def alerts(wanted: Wanted) -> list[Alert]:
    out = [*burn_alerts(wanted), *_traffic(wanted), *_engines(wanted), *_replicas(wanted), *_scaler(wanted)]
    if wanted.fleet.spec.gateway.store or wanted.fleet.spec.gateway.store_secret:
        out += _store(wanted)
    if wanted.fleet.spec.gateway.batch is not None:
        out += _batches(wanted)
    if needs_loader(wanted):
        out.append(_weights(wanted))
    if wanted.fleet.spec.monitoring.dcgm and wanted.plan.gpu != "cpu":
        out += _gpus(wanted)
    return out


def _store(wanted: Wanted) -> list[Alert]:
    """The store is shared by all fleets of the namespace's gateways: each of its metrics is a gateway's."""
    gateways = f"namespace={quoted(wanted.namespace)}"
    return [
        Alert(
            name="SeawallStoreAway",
            expr=f"min({STORE_UP}{{{gateways}}}) == 0",
            wait="2m",
            severity="warning",
            summary=f"{wanted.name}: a gateway cannot reach the shared store",
            why="Requests are served, and none waits. But each such gateway goes by its share of limits and places, "
            "and kept answers are found only where they were made.",
            do="seawall status says why. Is the store's Pod running, and its Secret's password the one that gateways "
            "have? Does its NetworkPolicy let them in?",
        ),
        Alert(
            name="SeawallStoreSlow",
            expr=f"max({STORE_ROUND_SECONDS}{{{gateways}}}) > 0.3 and min({STORE_UP}{{{gateways}}}) == 1",
            wait="10m",
            severity="warning",
            summary=f"{wanted.name}: a round with the shared store takes {{{{ $value | humanizeDuration }}}}",
            why="Limits and places are agreed later than they could be: tenants get their rate in bursts, and a "
            "replica may get a request more than it should.",
            do="Is the store's CPU at its limit, or is it in another zone? A round is a few small commands.",
        ),
    ]


def _batches(wanted: Wanted) -> list[Alert]:
    """The lane is shared by all fleets beside its gateway."""
    lane = f"namespace={quoted(wanted.namespace)}"
    done = f"sum(increase({BATCH_LINES}_total{{{lane}}}[15m]))"
    return [
        Alert(
            name="SeawallBatchLate",
            expr=f"max by (tenant) ({BATCH_LATE_SECONDS}{{{lane}}}) > 0",
            wait="15m",
            severity="warning",
            summary=f"{wanted.name}: a batch of {{{{ $labels.tenant }}}} is expected "
            "{{ $value | humanizeDuration }} after its window",
            why="Its lines go before others already. What has no answer when the window ends stands in the file of "
            "errors as batch_expired.",
            do="seawall batch status says how fast it goes and why. Is scaling.max reached, or do interactive requests "
            "take all places? More replicas, or a longer window for the rest of its lines.",
        ),
        Alert(
            name="SeawallBatchStands",
            expr=f"sum({BATCH_LINES_LEFT}{{{lane}}}) > 0 and {done} == 0 "
            f"and min({BATCH_DEADLINE_SECONDS}{{{lane}}}) < 21600",
            wait="15m",
            severity="warning",
            summary=f"{wanted.name}: batches have lines left, and none was done for a quarter of an hour",
            why="A window ends within six hours. While no replica serves, or interactive requests take all, lines "
            "wait; for a batch in need a replica is started.",
            do="seawall batch status gives the reason. seawall status: does a replica serve? The lane's own log says "
            "whether its store or its volume failed.",
        ),
        Alert(
            name="SeawallBatchAway",
            expr=f"absent({BATCH_LINES_LIMIT}{{{gateway_labels(wanted)}}})",
            wait="10m",
            severity="warning",
            summary=f"{wanted.name}: nobody hears of the batch lane",
            why="Uploads and batches are answered with 503. Nothing is lost: what was begun goes on when it is back.",
            do="Is its Pod running, is its volume bound, does its Secret exist? Its log names what it cannot do.",
        ),
    ]


def pods(wanted: Wanted) -> str:
    """Names of the fleet's engine Pods, as an anchored RE2: a fleet `a` does not match Pods of `a-b`."""
    names = "|".join(re.escape(h.name).replace("\\-", "-") for h in halves(wanted))
    tail = "[0-9]+(-[0-9]+)?" if wanted.plan.nodes_per_replica > 1 else "[a-z0-9]{6,10}-[a-z0-9]{5}"
    return f"({names}|{wanted.name}-canary)-{tail}"


def _traffic(wanted: Wanted) -> list[Alert]:
    tags = gateway_labels(wanted)
    bound = wanted.fleet.spec.gateway.max_queued or wanted.plan.gateway_queue_bound or 100
    half = max(1, math.ceil(bound / 2))
    admitted = f"sum(increase({REQUESTS_ADMITTED_TOTAL}{{{tags}}}[15m]))"
    return [
        Alert(
            name="SeawallQueueGrows",
            expr=f"sum({QUEUED_REQUESTS}{{{tags}}}) > {half} and deriv(sum({QUEUED_REQUESTS}{{{tags}}})[10m:1m]) > 0",
            wait="5m",
            severity="warning",
            summary=f"{wanted.name}: {{{{ $value }}}} requests wait in the gateway and the queue grows",
            why=f"More arrives than leaves. At {bound} waiting requests the gateway answers 429.",
            do="Is the fleet at scaling.max? Raise it. Are replicas Pending? kubectl get pods, then seawall diagnose. "
            "Is the scaler blind? See SeawallScalerBlind.",
        ),
        Alert(
            name="SeawallRequestsRejected",
            expr=f"sum(rate({REQUESTS_REJECTED_TOTAL}{{{tags}}}[5m])) > "
            f"0.01 * sum(rate({REQUESTS_ADMITTED_TOTAL}{{{tags}}}[5m]))",
            wait="5m",
            severity="warning",
            summary=f"{wanted.name}: more than 1% of requests are refused with 429",
            why="The queue is full or a tenant is over its limit (label reason). Clients are told when to retry.",
            do=f"By reason: sum by (reason) (rate({REQUESTS_REJECTED_TOTAL}[5m])). queue_full: add capacity. "
            "Tenant limits: tell the tenant, or raise the limit in the spec.",
        ),
        Alert(
            name="SeawallStreamsBreak",
            expr=f"sum(increase({RESUMED_STREAMS_TOTAL}{{{tags}}}[15m])) > 20 and "
            f"sum(increase({RESUMED_STREAMS_TOTAL}{{{tags}}}[15m])) > 0.02 * {admitted}",
            wait="0m",
            severity="warning",
            summary=f"{wanted.name}: {{{{ $value }}}} streams had to be resumed in 15 minutes",
            why="Clients saw a pause, not an error: replicas die or are stopped faster than streams finish.",
            do="kubectl get events for evictions and OOMKilled; spot reclaims are normal, restarts are not.",
        ),
    ]


def _engines(wanted: Wanted) -> list[Alert]:
    tags = engine_labels(wanted)
    return [
        Alert(
            name="SeawallEngineHung",
            expr=f"({vllm.RUNNING}{{{tags}}} + {vllm.WAITING}{{{tags}}}) > 0 "
            f"and rate({vllm.STEPS}{{{tags}}}[{HUNG_S // 60}m]) == 0",
            wait="1m",
            severity="critical",
            summary="{{ $labels.pod }} has requests and makes no progress",
            why="/health still answers 200. The gateway resumes its streams elsewhere; liveness restarts it.",
            do="kubectl exec POD -- py-spy dump --pid 1, if you want the cause; then kubectl delete pod. Xid errors "
            "on its GPU? See SeawallGpuXid.",
        ),
        Alert(
            name="SeawallKvCachePressure",
            expr=f"avg({vllm.KV_USAGE}{{{tags}}}) > 0.95",
            wait="10m",
            severity="warning",
            summary=f"{wanted.name}: KV caches are {{{{ $value | humanizePercentage }}}} full",
            why="Requests wait inside engines, and running ones are preempted and computed again.",
            do="Prompts longer than planned? Lower scaling.target or maxContext, or use kvCacheDtype: fp8.",
        ),
        Alert(
            name="SeawallPreemptions",
            expr=f"sum by (pod) (rate({vllm.PREEMPTIONS}{{{tags}}}[10m])) > 0.2",
            wait="10m",
            severity="warning",
            summary="{{ $labels.pod }} preempts {{ $value }} requests per second",
            why="Each preempted request is computed again: throughput falls as load rises.",
            do="Lower engine.maxNumSeqs or scaling.target until it stops; seawall plan shows what the cache holds.",
        ),
        Alert(
            name="SeawallEngineRestarts",
            expr="sum by (pod) (increase(kube_pod_container_status_restarts_total{"
            f'namespace={quoted(wanted.namespace)},pod=~{quoted(pods(wanted))},container="engine"}}[1h])) > 2',
            wait="0m",
            severity="warning",
            summary="{{ $labels.pod }} restarted {{ $value }} times in an hour",
            why="A crash loop: the Pod serves in between, and breaks its streams each time.",
            do="kubectl logs POD -c engine --previous; OOMKilled in kubectl describe pod means hardware.memory.",
        ),
    ]


def _replicas(wanted: Wanted) -> list[Alert]:
    where = f"namespace={quoted(wanted.namespace)}"
    wait = f"{math.ceil(progress_deadline_s(wanted.plan) / 60)}m"
    names = "|".join(h.name for h in halves(wanted))
    # The leaders of a LeaderWorkerSet are one StatefulSet of the same name.
    kind = "deployment" if wanted.plan.nodes_per_replica == 1 else "statefulset"
    want = "kube_deployment_spec_replicas" if kind == "deployment" else "kube_statefulset_replicas"
    tags = f"{where},{kind}=~{quoted(names)}"
    out = [
        Alert(
            name="SeawallReplicasMissing",
            expr=f"kube_{kind}_status_replicas_available{{{tags}}} < {want}{{{tags}}}",
            wait=wait,
            severity="warning",
            summary=f"{{{{ $labels.{kind} }}}} has fewer replicas than wanted for longer than a start takes",
            why="Capacity is missing. The start-up budget of the plan has passed.",
            do="kubectl get pods; Pending: no GPU node fits (seawall diagnose names the reason); not ready: "
            "kubectl logs -c engine; Init: the weights are not complete yet.",
        )
    ]
    none_ready = f"sum({REPLICA_UP}{{{gateway_labels(wanted)}}}) == 0"
    out.append(
        Alert(
            name="SeawallNoReplica",
            expr=f"({none_ready} or absent({REPLICA_UP}{{{gateway_labels(wanted)}}})) "
            f"and on () sum({QUEUED_REQUESTS}{{{gateway_labels(wanted)}}}) > 0",
            wait="2m" if wanted.fleet.spec.scaling.min else wait,
            severity="critical",
            summary=f"{wanted.name}: requests wait and no replica serves",
            why="The gateway holds requests until their deadline; then they fail.",
            do=f"kubectl get pods -l {FLEET}={wanted.name}; seawall diagnose {wanted.name}",
        )
    )
    if wanted.fleet.spec.gateway.truth_budget:
        out += _answers(wanted)
    return out


def _answers(wanted: Wanted) -> list[Alert]:
    tags = gateway_labels(wanted)
    return [
        Alert(
            name="SeawallReplicaAnswersWrongly",
            expr=f"max by (replica, kind) ({REPLICA_ANSWERS_WRONGLY}{{{tags}}}) > 0",
            wait="0m",
            severity="critical",
            summary="{{ $labels.replica }} answers wrongly ({{ $labels.kind }}), though it looks healthy",
            why="Its answers to known prompts are not those of the fleet's weights. While enough others are right it "
            "gets nothing new; what it said before stays said.",
            do=f"seawall diagnose {wanted.name} names what is wrong, with the evidence. template: its chat template; "
            "revision: --revision, --quantization; weights: seawall pull --check, then kubectl delete pod; numeric: "
            "Xid errors of its GPU. If it is right and the fingerprint is old: seawall fingerprint.",
        ),
        Alert(
            name="SeawallReplicasDisagree",
            expr=f"max({TRUTH_DISAGREE}{{{tags}}}) > 0",
            wait="5m",
            severity="critical",
            summary=f"{wanted.name}: replicas answer the same prompts differently, and nothing says which is right",
            why="One at least answers wrongly. There is no fingerprint to go by, so all of them serve.",
            do="Make the right answers from verified weights (seawall fingerprint FLEET.yaml), render and apply again: "
            "who is wrong is then taken out.",
        ),
    ]


def _scaler(wanted: Wanted) -> list[Alert]:
    half = scaled(wanted)
    if half is None or wanted.fleet.spec.scaling.by == "none":
        return []
    where = f"namespace={quoted(wanted.namespace)}"
    blind = f"absent({QUEUED_REQUESTS}{{{gateway_labels(wanted)}}})"
    if wanted.fleet.spec.scaling.by != "hpa":
        # KEDA says which namespace it means in its own label; whether Prometheus keeps it depends on the monitor.
        for label in ("namespace", "exported_namespace"):
            tags = f"{label}={quoted(wanted.namespace)},scaledObject={quoted(half.name)}"
            blind += f" or sum(increase(keda_scaler_detail_errors_total{{{tags}}}[10m])) > 10"
    hpa = f"{where},horizontalpodautoscaler={quoted(half.name)}"
    seen = f"sum({IN_FLIGHT_REQUESTS}{{{gateway_labels(wanted)}}}) > 0"
    return [
        Alert(
            name="SeawallScalerBlind",
            expr=blind,
            wait="5m",
            severity="critical",
            summary=f"{wanted.name}: the scaler does not see demand",
            why="The count of replicas is frozen, or falls back; it follows load no longer.",
            do="kubectl describe scaledobject "
            + half.name
            + "; is the gateway scraped? Does spec.scaling.prometheus "
            "name your Prometheus?",
        ),
        Alert(
            name="SeawallAtMaximum",
            expr=f"kube_horizontalpodautoscaler_status_desired_replicas{{{hpa}}} >= "
            f"kube_horizontalpodautoscaler_spec_max_replicas{{{hpa}}} and on () {seen}",
            wait="30m",
            severity="warning",
            summary=f"{wanted.name} has been at its maximum of replicas for half an hour",
            why="More load would queue and then be refused.",
            do="Raise scaling.max if there are GPUs; seawall simulate shows what the next replica brings.",
        ),
    ]


def _weights(wanted: Wanted) -> Alert:
    jobs = f"namespace={quoted(wanted.namespace)},job_name=~{quoted(job_pattern(wanted))}"
    return Alert(
        name="SeawallWeightsFailed",
        expr=f"kube_job_status_failed{{{jobs}}} > 0 "
        f"unless on (namespace, job_name) kube_job_status_succeeded{{{jobs}}} > 0",
        wait="1m",
        severity="critical",
        summary="{{ $labels.job_name }} could not load the weights",
        why="New replicas wait for weights that do not come; running ones go on serving.",
        do="kubectl logs job/NAME: it says what is wrong (token, disk full, hash). Correct it, delete the Job, apply "
        "again: it goes on where it stopped.",
    )


def _gpus(wanted: Wanted) -> list[Alert]:
    tags = f"namespace={quoted(wanted.namespace)},pod=~{quoted(pods(wanted))}"
    # The exporter says `hostname` from 4.8.3 on, and said `Hostname` before.
    name = "GPU {{ $labels.gpu }} of {{ or $labels.hostname $labels.Hostname }}"
    return [
        Alert(
            name="SeawallGpuXid",
            expr=f"DCGM_FI_DEV_XID_ERRORS{{{tags}}} > 0",
            wait="0m",
            severity="critical",
            summary=f"{name} reported Xid {{{{ $value }}}} under {{{{ $labels.pod }}}}",
            why="13, 31, 43 and 45 are faults of the program; 48, 63, 64, 74, 79, 94, 95 are faults of the hardware.",
            do="Hardware: kubectl cordon the node and delete the Pod; it starts elsewhere. Reset or replace the GPU.",
        ),
        Alert(
            name="SeawallGpuHot",
            expr=f"DCGM_FI_DEV_GPU_TEMP{{{tags}}} > 87",
            wait="5m",
            severity="warning",
            summary=f"{name} is at {{{{ $value }}}} °C",
            why="Near 90 °C clocks fall: this replica becomes slower than its plan.",
            do="Look at DCGM_FI_DEV_SM_CLOCK and the node's cooling; move the Pod if it throttles.",
        ),
        Alert(
            name="SeawallGpuMemoryFaults",
            expr=f"DCGM_FI_DEV_ROW_REMAP_FAILURE{{{tags}}} > 0 or DCGM_FI_DEV_ECC_DBE_VOL_TOTAL{{{tags}}} > 0",
            wait="0m",
            severity="critical",
            summary=f"{name} has memory that can no longer be trusted",
            why="Uncorrectable errors: wrong tokens or a crash are next.",
            do="kubectl cordon the node, delete the Pod, and have the GPU replaced.",
        ),
        Alert(
            name="SeawallGpuMemoryFull",
            expr=f"DCGM_FI_DEV_FB_FREE{{{tags}}} < 256",
            wait="10m",
            severity="warning",
            summary=f"{name} has {{{{ $value }}}} MiB left",
            why="vLLM takes its share at start; what is missing now is somebody else's, or a leak. An out-of-memory "
            "error in a graph or a sampler is near.",
            do="nvidia-smi on the node: who else uses it? Lower engine.gpuMemoryUtilization by 0.02.",
        ),
    ]
