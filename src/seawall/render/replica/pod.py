"""The Pod that runs one vLLM server: container, volumes, probes, stop. Deployment and LeaderWorkerSet use it."""

from __future__ import annotations

import math
from typing import Any

from seawall.decide.route.pace import pace_of
from seawall.domain.labels import ADAPTERS, GROUP, HTTP_PORT, INSTANCE, MODEL, POOL, REPLICA, ROLE, VERSION
from seawall.domain.units import binary_quantity, decimal_quantity
from seawall.render import engine_args
from seawall.render.images import engine_image
from seawall.render.inputs import Object, Wanted
from seawall.render.lifecycle import start_budget_s, timing_of
from seawall.render.names import CONFIG_DIR, STATE_DIR, selector, short
from seawall.render.replica import placement
from seawall.render.replica.placement import NodePool
from seawall.render.replica.probe_config import SCRIPT
from seawall.render.replica.streamed import credential_env, credential_mounts, credentials_of
from seawall.render.replica.volumes import lock_name, needs_wait, pod_volumes, shm_bytes, weight_mounts
from seawall.render.replica.weights import node_pull, secret_volumes
from seawall.render.security import container_context, exactly, pod_context

STARTUP_PERIOD_S = 10
GIB = 2**30


def template(
    wanted: Wanted, pool: NodePool = "any", group: str = "stable", *, worker: bool = False
) -> Object:
    """PodTemplateSpec of one replica (of one node of it, for multi-node plans)."""
    spot = pool == "spot"
    multi = wanted.plan.nodes_per_replica > 1
    pod: dict[str, Any] = {
        "serviceAccountName": short(wanted.name, "-engine"),
        "automountServiceAccountToken": False,
        # A Service whose name begins with `vllm` would put VLLM_PORT=tcp://... into the environment, and
        # vLLM's workers die of it.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": timing_of(wanted.fleet, spot=spot).grace_s,
        "securityContext": pod_context(),
        **placement.place(wanted, pool, multi_node=multi),
    }
    inits = _init_containers(wanted)
    if inits:
        pod["initContainers"] = inits
    pod["containers"] = [container(wanted, spot=spot, worker=worker)]
    pod["volumes"] = pod_volumes(wanted)
    if wanted.fleet.spec.cache.kind == "node-local" or credentials_of(wanted) is not None:
        pod["volumes"] += secret_volumes(wanted)
    labels = {**wanted.fleet.metadata.labels, **selector(wanted), GROUP: group, POOL: pool}
    labels[INSTANCE] = wanted.name
    labels[VERSION] = wanted.fleet.spec.engine.version
    if multi:
        labels[ROLE] = "engine-worker" if worker else "engine"
        labels[REPLICA] = wanted.name
    annotations = {
        **wanted.fleet.metadata.annotations,
        MODEL: wanted.fleet.served_names[0],
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "true",
    }
    if wanted.fleet.spec.model.adapter_slots is not None:
        # Until the operator has seen an adapter on it, it has none: nothing is routed on a guess.
        annotations[ADAPTERS] = '{"life": "", "names": []}'
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod}


def container(wanted: Wanted, *, spot: bool, worker: bool) -> Object:
    serve = engine_args.serve(wanted, spot=spot, worker=worker)
    env = {**_for_probes(wanted), **credential_env(wanted), **serve.env}
    out: Object = {
        "name": "engine",
        "image": engine_image(wanted),
        "imagePullPolicy": "IfNotPresent",
        "command": list(serve.program),
        "args": list(serve.args),
        # An empty value is not stored: to say it would be a conflict with whoever else says it.
        "env": [{"name": key} | ({"value": value} if value else {}) for key, value in env.items()],
    }
    if not worker:
        out["ports"] = [{"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"}]
    out["resources"] = resources(wanted)
    out["securityContext"] = container_context()
    out["lifecycle"] = {"preStop": {"sleep": {"seconds": timing_of(wanted.fleet, spot=spot).pre_stop_s}}}
    if not worker:
        out.update(probes(wanted))
    out["volumeMounts"] = [
        {"name": "probe", "mountPath": f"{CONFIG_DIR}/probe", "readOnly": True},
        {"name": "state", "mountPath": STATE_DIR},
        {"name": "cache", "mountPath": engine_args.CACHE_DIR},
        {"name": "tmp", "mountPath": "/tmp"},
        {"name": "shm", "mountPath": "/dev/shm"},
        *weight_mounts(wanted),
        *credential_mounts(wanted),
    ]
    return out


def _for_probes(wanted: Wanted) -> dict[str, str]:
    """What the probe script asks for, and how fast the engine is planned to be: how long its silence is explained."""
    pace = pace_of(wanted.plan)
    return {
        "SEAWALL_MODEL": wanted.fleet.served_names[0],
        "SEAWALL_PROMPT_TOKEN_S": f"{pace.prompt_token_s:.3g}",
        "SEAWALL_PROMPT_PAIR_S": f"{pace.prompt_pair_s:.3g}",
        "SEAWALL_STEP_TOKENS": str(pace.step_tokens),
        "SEAWALL_CONTEXT": str(pace.context),
    }


def probes(wanted: Wanted) -> Object:
    """startup: a token within the budget. readiness: cheap, leaves early. liveness: only a dead scheduler
    dies, after two minutes of no token at all."""
    budget = start_budget_s(wanted.plan)
    return {
        "startupProbe": {
            "exec": {"command": ["python3", SCRIPT, "startup"]},
            "periodSeconds": STARTUP_PERIOD_S,
            "timeoutSeconds": 40,
            "failureThreshold": math.ceil(budget / STARTUP_PERIOD_S),
        },
        "readinessProbe": {
            "exec": {"command": ["python3", SCRIPT, "readiness"]},
            "periodSeconds": 5,
            "timeoutSeconds": 20,
            "failureThreshold": 3,
            "successThreshold": 1,
        },
        "livenessProbe": {
            "exec": {"command": ["python3", SCRIPT, "liveness"]},
            "periodSeconds": 15,
            "timeoutSeconds": 40,
            "failureThreshold": 3,
        },
    }


def resources(wanted: Wanted) -> Object:
    """GPU request = limit always. `guaranteed: false` leaves CPU open at the top so that loading may burst."""
    hardware, plan = wanted.fleet.spec.hardware, wanted.plan
    per_node = max(1, plan.gpus_per_replica // max(1, plan.nodes_per_replica))
    cpu = engine_args.cpu_cores(wanted)
    memory = hardware.memory or host_memory_bytes(wanted)
    disk = max(plan.ephemeral_bytes, 20 * GIB)
    amounts = {"ephemeral-storage": binary_quantity(disk)}
    if plan.gpu != "cpu" and wanted.fleet.spec.engine.needs_gpu:
        amounts[hardware.resource] = str(per_node)
    out = exactly(decimal_quantity(cpu), binary_quantity(memory), amounts)
    if not hardware.guaranteed:
        del out["limits"]["cpu"]
    return out


def host_memory_bytes(wanted: Wanted) -> int:
    """The plan's host memory, at least 8 GiB and room for /dev/shm, which counts into the limit."""
    floor = 4 * GIB if wanted.plan.gpu == "cpu" else 8 * GIB
    return max(wanted.plan.host_memory_bytes, floor) + shm_bytes(wanted)


def _init_containers(wanted: Wanted) -> list[Object]:
    if wanted.fleet.spec.engine.needs_weights and wanted.fleet.spec.cache.kind == "node-local":
        return node_pull(wanted)
    if not needs_wait(wanted):
        return []
    lock = f"{CONFIG_DIR}/lock/seawall.lock"
    mounts = [{"name": "probe", "mountPath": f"{CONFIG_DIR}/probe", "readOnly": True}, *weight_mounts(wanted)]
    if lock_name(wanted):
        mounts.append({"name": "lock", "mountPath": f"{CONFIG_DIR}/lock", "readOnly": True})
    wait: Object = {
        "name": "weights",
        "image": engine_image(wanted),
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", SCRIPT, "wait", engine_args.model_path(wanted), lock],
        "resources": exactly("100m", "128Mi"),
        "securityContext": container_context(),
        "volumeMounts": mounts,
    }
    return [wait]
