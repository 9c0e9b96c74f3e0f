"""Refusals, before anything is written, of what cannot work: path, value, cure. Nothing here renders.

`refusals` returns every problem of a group at once, so that a person mends a spec in one go.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from seawall.decide.scale import policy_of
from seawall.decide.together import clashes
from seawall.domain.buckets import BY_SCHEME
from seawall.domain.catalog.gpus import find_gpu
from seawall.domain.spec import Fleet
from seawall.engines.vllm import environment
from seawall.engines.vllm.command import OWNED
from seawall.engines.vllm.versions import check_flag, parse_version
from seawall.render import engine_args
from seawall.render.inputs import Group, Wanted
from seawall.render.lifecycle import STOP_MARGIN_S, spot_notice_s
from seawall.render.routes import hosts, parent

_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,51}[a-z0-9])?")
_IMAGE_TAG = re.compile(r"[^@:]+(:[0-9]+/[^@:]+)?:([A-Za-z0-9_][A-Za-z0-9._-]{0,127})")
_BLOCK_CLASSES = ("gp2", "gp3", "premium-rwo", "standard-rwo", "managed-csi", "managed-csi-premium", "pd-ssd")
MAX_LOCK = 900_000
"""Largest lockfile: a ConfigMap holds 1 MiB."""


def refusals(group: Group) -> list[str]:
    """`fleet: spec.path: value and cure`, in the order of the spec; empty when everything can work."""
    out: list[str] = []
    for wanted in group.members:
        for check in (_names, _plan, _engine, _images, _storage, _spot, _scaling, _route, _heads, _vendor):
            out += [f"{wanted.name}: {text}" for text in check(wanted)]
        canary = wanted.canary
        if canary:
            out += [f"{wanted.name}: {t}" for t in (*_engine(canary), *_images(canary))]
    return list(dict.fromkeys([*out, *_together(group)]))


def _names(wanted: Wanted) -> Iterator[str]:
    if not _LABEL.fullmatch(wanted.name):
        yield (
            f"metadata.name: {wanted.name!r} names Services and Deployments; begin with a letter and stay "
            "under 54 characters"
        )
    for key, value in wanted.fleet.metadata.labels.items():
        if not re.fullmatch(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?", value):
            yield f"metadata.labels.{key}: {value!r:.80} is no label value; use letters, digits, '-', '_', '.'"
    for name in wanted.fleet.served_names:
        if not name or any(c in name for c in '"\\\n{}') or name.startswith("-"):
            yield f"spec.model.servedNames: {name!r:.80} cannot stand in a command line; use plain characters"


def _plan(wanted: Wanted) -> Iterator[str]:
    plan = wanted.plan
    if not plan.fits:
        yield f"spec.hardware: {plan.reason}"
    nodes = max(1, plan.nodes_per_replica)
    if plan.gpus_per_replica % nodes:
        yield (
            f"spec.hardware.gpusPerReplica: {plan.gpus_per_replica} GPUs do not spread evenly over {nodes} "
            "nodes; use a multiple"
        )
    if nodes > 1 and wanted.fleet.spec.hardware.spot:
        yield (
            "spec.hardware.spot: one lost spot node takes a whole multi-node replica with it; leave spot out"
        )
    if nodes > 1 and wanted.fleet.spec.engine.kind == "sim":
        yield "spec.engine.kind: the simulated engine runs on one node; use kind: vllm"


def _vendor(wanted: Wanted) -> Iterator[str]:
    hardware, gpu = wanted.fleet.spec.hardware, find_gpu(wanted.plan.gpu, near=False)
    if gpu is None or gpu.capability != 0 or not wanted.fleet.spec.engine.needs_gpu:
        return
    if hardware.resource == "nvidia.com/gpu":
        yield f"spec.hardware.resource: {gpu.name} is an AMD GPU, {hardware.resource} is NVIDIA's; write amd.com/gpu"
    if wanted.fleet.spec.engine.image is None:
        yield f"spec.engine.image: vLLM's default image is built for CUDA, {gpu.name} needs ROCm; name such an image"


def _heads(wanted: Wanted) -> Iterator[str]:
    config = wanted.fleet.spec.model.config or {}
    heads = config.get("num_attention_heads")
    tp = wanted.plan.tensor_parallel
    if isinstance(heads, int) and heads > 0 and heads % tp:
        fits = [n for n in (1, 2, 4, 8, 16) if heads % n == 0]
        yield (
            f"spec.hardware.tensorParallel: {tp} does not divide {heads} attention heads; use "
            f"{', '.join(map(str, fits))}"
        )


def _engine(wanted: Wanted) -> Iterator[str]:
    engine = wanted.fleet.spec.engine
    if engine.kind != "vllm":
        return
    version = parse_version(engine.version)
    if version is None:
        yield f"spec.engine.version: {engine.version!r} is no version; write it like 0.32.0"
        return
    ours = list(engine_args.serve(wanted).args)
    ours = ours[: len(ours) - len(engine.extra_args)]
    for word in ours:
        problem = check_flag(word, version) if word.startswith("--") else None
        if problem and problem.kind != "deprecated":
            yield f"spec.engine.version: {engine.version}: {problem.message}; use 0.32.0"
    yield from _extra(wanted, ours, version)
    if environment.PORT in engine.env:
        yield "spec.engine.env.VLLM_PORT: vLLM's workers take it for their own; leave it out, --port is set"
    for name in engine.env:
        if name == environment.API_KEY or name.endswith(("_TOKEN", "_SECRET", "_PASSWORD")):
            yield (
                f"spec.engine.env.{name}: a secret would lie readable in the Deployment; the gateway "
                "authenticates clients (gateway.keysSecret), sources have cache.tokenSecret"
            )


def _extra(wanted: Wanted, ours: list[str], version: tuple[int, int]) -> Iterator[str]:
    extra = wanted.fleet.spec.engine.extra_args
    for n, word in enumerate(extra):
        path = f"spec.engine.extraArgs[{n}]"
        if not word.startswith("-") or re.fullmatch(r"-\d+(\.\d+)?", word):
            continue
        problem = check_flag(word, version)
        if problem:
            cure = f"use {problem.instead}" if problem.instead.startswith("-") else problem.instead
            yield f"{path}: {problem.message}; {cure or 'see `vllm serve --help=all`'}"
        flag = word.split("=", 1)[0]
        if flag in ("--api-key", "--hf-token"):
            yield f"{path}: {flag} puts a secret where every reader of Pods sees it; use gateway.keysSecret"
        elif flag == "--disable-log-stats":
            yield f"{path}: {flag} switches off the metrics that scaling and probes read; leave it out"
        elif flag in OWNED:
            yield f"{path}: {flag} is set from the spec (rollout.drain, plan); leave it out"


def _images(wanted: Wanted) -> Iterator[str]:
    spec = wanted.fleet.spec
    for path, image in (
        ("engine.image", spec.engine.image),
        ("gateway.image", spec.gateway.image),
        ("gateway.storeImage", spec.gateway.store_image),
    ):
        if image is None or "@sha256:" in image:
            continue
        m = _IMAGE_TAG.fullmatch(image)
        if m is None or m[2] == "latest":
            yield f"spec.{path}: {image!r:.120} is not pinned; name a tag other than latest, or a digest"


def _storage(wanted: Wanted) -> Iterator[str]:
    spec = wanted.fleet.spec
    cache, source = spec.cache, spec.model.source
    if not spec.engine.needs_weights:
        return
    if not cache.path.startswith("/") or ".." in cache.path.split("/"):
        yield f"spec.cache.path: {cache.path!r:.80} is not an absolute path; write /models"
    if cache.kind == "pvc":
        yield from _claim(wanted)
    if cache.kind == "oci":
        if not cache.image or "@sha256:" not in cache.image:
            yield (
                f"spec.cache.image: {cache.image!r:.120} names no weights that cannot change; "
                "write repository@sha256:digest"
            )
        if spec.model.adapters:
            yield "spec.model.adapters: an image volume holds one model; use cache.kind: pvc for adapters"
    if cache.kind == "stream":
        if not source.startswith(("s3://", "gs://", "az://")):
            yield f"spec.model.source: {source!r:.120} cannot be streamed; use s3:// or gs://, or cache.kind: pvc"
        elif cache.token_secret and source.partition("://")[0] not in BY_SCHEME:
            yield (
                f"spec.cache.tokenSecret: {cache.token_secret!r:.80} cannot open {source!r:.120}: clients of this "
                "store read no file; give the engine's ServiceAccount an identity of the cloud's and leave it out"
            )
        if spec.model.adapters:
            yield "spec.model.adapters: adapters are not streamed; use cache.kind: pvc"
    if wanted.lock is None and wanted.fleet.needs_lock:
        yield (
            "spec.model.revision: nothing pins the weights; name a commit, or write a lockfile beside the spec: "
            f"seawall pull {shlex.quote(wanted.file)} --lock-only"
        )
    if wanted.lock is not None and len(wanted.lock) > MAX_LOCK:
        yield f"spec.model: its lockfile of {len(wanted.lock)} bytes is too large for a ConfigMap; use cache.kind: oci"


def _claim(wanted: Wanted) -> Iterator[str]:
    spec = wanted.fleet.spec
    cache = spec.cache
    block = cache.storage_class in _BLOCK_CLASSES
    if cache.access_mode == "ReadWriteMany" and block and not cache.claim:
        yield (
            f"spec.cache.storageClass: {cache.storage_class} is a block device, ReadWriteMany is a file system "
            "(EFS, FSx, Filestore, Azure Files); name such a class, or use kind: oci"
        )
    if cache.access_mode == "ReadOnlyMany" and not (cache.data_source or cache.claim):
        yield (
            "spec.cache.accessMode: nobody can write into a new ReadOnlyMany claim; name a filled one with "
            "claim, or its copy's origin with dataSource: snapshot/NAME"
        )
    if cache.access_mode == "ReadWriteOnce" and spec.scaling.max > 1:
        yield (
            f"spec.cache.accessMode: ReadWriteOnce mounts on one node, scaling.max is {spec.scaling.max}; use "
            "ReadWriteMany, or ReadOnlyMany with dataSource"
        )
    if cache.access_mode == "ReadWriteOnce" and wanted.plan.nodes_per_replica > 1:
        yield "spec.cache.accessMode: ReadWriteOnce mounts on one node, a replica has several; use ReadWriteMany"


def _spot(wanted: Wanted) -> Iterator[str]:
    spec = wanted.fleet.spec
    notice = spot_notice_s(wanted.fleet)
    if notice is None:
        return
    if spec.hardware.cloud in ("on-prem", "local") and not spec.hardware.node_labels:
        yield (
            f"spec.hardware.spot: {spec.hardware.cloud} has no spot nodes that we know; name their labels in "
            "nodeLabels, or leave spot out"
        )
    need = spec.rollout.pre_stop + spec.rollout.drain + STOP_MARGIN_S
    if need > notice and spec.gateway.resume == "off":
        yield (
            f"spec.rollout.drain: stopping takes {need:g} s, the spot notice is {notice:g} s and resume is off: "
            "longer streams would break; set gateway.resume: exact, or shorten drain"
        )
    if spec.scaling.by == "hpa":
        yield "spec.scaling.by: a plain HPA cannot leave the on-demand floor out; use keda-prometheus"
    if notice < 8:
        yield f"spec.hardware.spot.notice: {notice:g} s is too short to stop anything; it is 15 s or more everywhere"


def _scaling(wanted: Wanted) -> Iterator[str]:
    scaling = wanted.fleet.spec.scaling
    if scaling.policy == "slo" and scaling.by != "seawall":
        yield (
            "spec.scaling.policy: slo forecasts, and KEDA and the HPA cannot; write scaling.by: seawall, which asks "
            "our own scaler, or policy: hpa with a lower scaling.target where starts are slow"
        )
    if scaling.by == "seawall" and wanted.plan.nodes_per_replica > 1:
        yield "spec.scaling.by: our scaler reads Deployments, which replicas over nodes have not; use keda-gateway"
    yield from _schedule(wanted)
    if wanted.fleet.spec.pool is not None:
        if wanted.plan.nodes_per_replica > 1:
            yield "spec.pool: a replica over several nodes cannot take turns; leave pool out, or use fewer GPUs"
        return  # the operator scales it
    if scaling.min == 0 and scaling.by == "hpa":
        yield "spec.scaling.min: a plain HPA keeps at least 1; use by: keda-prometheus, or min: 1"
    if scaling.min == 0 and scaling.by == "none":
        yield "spec.scaling.min: without a scaler 0 stays 0; use by: keda-prometheus, or min: 1"
    if not re.fullmatch(r"https?://[^\s\"]+", scaling.prometheus):
        yield f"spec.scaling.prometheus: {scaling.prometheus!r:.120} is no URL; write http://service.namespace.svc:9090"


def _schedule(wanted: Wanted) -> Iterator[str]:
    """A schedule, and a budget, go as far as whoever scales can follow them."""
    scaling, spot = wanted.fleet.spec.scaling, wanted.fleet.spec.hardware.spot
    limits = [f"schedule[{n}].max" for n, w in enumerate(scaling.schedule) if w.max is not None]
    if scaling.gpu_hours_per_day is not None:
        limits.append("gpuHoursPerDay")
    if not scaling.schedule and not limits:
        return
    if wanted.fleet.spec.pool is not None:
        path = "schedule" if scaling.schedule else limits[0]
        yield f"spec.scaling.{path}: a pool's fleets take turns by their demand alone; leave it out"
        return
    if scaling.by in ("hpa", "none"):
        path = "schedule" if scaling.schedule else limits[0]
        yield f"spec.scaling.{path}: nobody follows it with by: {scaling.by}; write by: seawall"
        return
    if limits and scaling.by != "seawall":
        yield f"spec.scaling.{limits[0]}: KEDA has no such bound; write scaling.by: seawall, which asks our own scaler"
    if scaling.by == "keda-gateway" and spot is not None and spot.on_demand_floor:
        yield (
            "spec.scaling.schedule: beside an on-demand floor KEDA computes one number from the gateway's, and a "
            "schedule has no place in it; write by: keda-prometheus or by: seawall"
        )
    if problem := policy_of(wanted.fleet, wanted.plan).overspent():
        yield problem


def _route(wanted: Wanted) -> Iterator[str]:
    gateway = wanted.fleet.spec.gateway
    if gateway.route in ("gateway-api", "inference-pool") and not gateway.parent_gateway:
        yield (
            f"spec.gateway.parentGateway: a {gateway.route} route hangs on a Gateway; name it as namespace/name"
        )
    if gateway.tenants and not gateway.keys_secret:
        yield (
            "spec.gateway.keysSecret: tenants need keys; name the Secret whose key `keys` holds the file that "
            "`seawall keys add` writes"
        )


def _together(group: Group) -> Iterator[str]:
    fleets: list[Fleet] = [w.fleet for w in group.members]
    first = fleets[0]
    for path in ("route", "image", "parent_gateway", "keys_secret", "tls_secret"):
        values = {getattr(f.spec.gateway, path) for f in fleets} - {None}
        if len(values) > 1:
            yield (
                f"spec.gateway.{path}: the fleets of one gateway disagree ({', '.join(sorted(map(str, values)))}); "
                "write the same in each, or render them from separate files"
            )
    for fleet in fleets[1:]:
        if fleet.metadata.namespace != first.metadata.namespace:
            yield (
                f"{fleet.name}: metadata.namespace: {fleet.metadata.namespace} is not "
                f"{first.metadata.namespace}; one gateway serves one namespace: use separate files"
            )
    if sum(1 for w in group.members if w.canary_weight) > 1 and first.spec.gateway.route in (
        "gateway-api",
        "istio",
    ):
        yield "spec.rollout.canary: a route splits for one fleet at a time; finish one canary first"
    for clash in clashes(fleets):
        path = "metadata.name" if clash.kind == "fleet" else "spec.model.servedNames"
        yield f"{path}: {clash}; {clash.cure[:1].lower()}{clash.cure[1:].rstrip('.')}"
    if first.spec.gateway.route == "ingress" and "/" in (parent(group)[0] or ""):
        yield "spec.gateway.parentGateway: for an Ingress this is the class's name alone"
    for name in hosts(group):
        if not re.fullmatch(r"(\*\.)?[a-z0-9]([a-z0-9.-]{0,250}[a-z0-9])?", name):
            yield f"spec.gateway.hosts: {name!r:.80} is no host name; write llm.example.com"
