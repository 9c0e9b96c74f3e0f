"""The command line of one vLLM server. Flags only; what a flag costs in memory is the planner's business.

Every flag is checked against the flags of the pinned vLLM version before it is written: an unknown flag is
an error here and not a crash loop in the cluster.
"""

from __future__ import annotations

from seawall.domain.labels import HTTP_PORT, MASTER_PORT
from seawall.domain.spec import Adapter
from seawall.render.inputs import Wanted
from seawall.render.lifecycle import timing_of
from seawall.render.names import fingerprint


def model_path(wanted: Wanted) -> str:
    """Where the engine finds the weights: a folder in the Pod, or the bucket when they are streamed."""
    cache = wanted.fleet.spec.cache
    if cache.kind == "stream":
        return wanted.fleet.spec.model.source
    return f"{cache.path.rstrip('/')}/{wanted.folder}"


def adapter_path(wanted: Wanted, adapter: Adapter) -> str:
    """A folder that the loader fills. With slots its name changes with the source, so that a replica that has an
    older version loaded is seen to have one."""
    folder = f"{wanted.fleet.spec.cache.path.rstrip('/')}/{wanted.folder}-adapters/{adapter.name}"
    if wanted.fleet.spec.model.adapter_slots is None:
        return folder
    return f"{folder}-{fingerprint([adapter.source, adapter.revision])}"


def command(wanted: Wanted) -> list[str]:
    if wanted.fleet.spec.engine.kind == "sim":
        return ["seawall", "engine", "sim"]
    return ["vllm", "serve"]


def args(wanted: Wanted, *, spot: bool = False, worker: bool = False) -> list[str]:
    """Arguments after `vllm serve`, the user's own last so that they win.

    `spot` fits the drain to the cloud's notice; `worker` is a further node of a multi-node replica, which
    serves no HTTP. The simulated engine takes the same flags.
    """
    spec, plan = wanted.fleet.spec, wanted.plan
    out = [model_path(wanted)]
    out += ["--served-model-name", *wanted.fleet.served_names]
    out += _serving(wanted, spot)
    out += _parallel(wanted, worker)
    out += _memory(wanted)
    if plan.quantization not in (None, "none") and spec.model.quantization is not None:
        out += ["--quantization", str(plan.quantization)]
    if spec.model.dtype != "auto":
        out += ["--dtype", spec.model.dtype]
    if spec.model.revision and spec.cache.kind == "stream":
        out += ["--revision", spec.model.revision]
    if spec.cache.kind == "stream":
        out += ["--load-format", "runai_streamer"]
        if plan.tensor_parallel > 1:
            out += ["--model-loader-extra-config", '{"distributed":true}']
    elif not spec.model.allow_pickle and _safetensors(wanted):
        out += ["--load-format", "safetensors"]
    out += _adapters(wanted)
    out.append("--enable-prefix-caching" if spec.engine.prefix_caching else "--no-enable-prefix-caching")
    if spec.engine.enforce_eager:
        out.append("--enforce-eager")
    if spec.pool is not None and spec.pool.sleep:
        out.append("--enable-sleep-mode")
    return out + list(spec.engine.extra_args)


def _safetensors(wanted: Wanted) -> bool:
    return not wanted.fleet.spec.model.source.endswith(".gguf")


def _serving(wanted: Wanted, spot: bool) -> list[str]:
    spec, plan = wanted.fleet.spec, wanted.plan
    out = ["--port", str(HTTP_PORT)]
    out += ["--shutdown-timeout", str(timing_of(wanted.fleet, spot=spot).drain_s)]
    bound = spec.engine.max_queued_requests or plan.engine_queue_bound
    if bound:
        out += ["--max-num-queued-reqs", str(bound)]
    out += ["--enable-request-id-headers", "--enable-force-include-usage"]
    out += ["--disable-access-log-for-endpoints", "/health,/metrics"]
    return out


def _parallel(wanted: Wanted, worker: bool) -> list[str]:
    plan = wanted.plan
    out = ["--tensor-parallel-size", str(plan.tensor_parallel)]
    if plan.pipeline_parallel > 1:
        out += ["--pipeline-parallel-size", str(plan.pipeline_parallel)]
    if plan.data_parallel > 1:
        out += ["--data-parallel-size", str(plan.data_parallel)]
    if plan.expert_parallel:
        out.append("--enable-expert-parallel")
    if plan.nodes_per_replica > 1:
        # LeaderWorkerSet puts these variables first into every container's environment, so the kubelet
        # expands them here without a shell.
        out += ["--nnodes", "$(LWS_GROUP_SIZE)", "--node-rank", "$(LWS_WORKER_INDEX)"]
        out += ["--master-addr", "$(LWS_LEADER_ADDRESS)", "--master-port", str(MASTER_PORT)]
        if worker:
            out.append("--headless")
    return out


def _memory(wanted: Wanted) -> list[str]:
    spec, plan = wanted.fleet.spec, wanted.plan
    out: list[str] = []
    context = spec.traffic.max_context or plan.max_model_len
    if context:
        out += ["--max-model-len", str(context)]
    out += ["--max-num-seqs", str(spec.engine.max_num_seqs or plan.max_num_seqs)]
    out += [
        "--max-num-batched-tokens",
        str(spec.engine.max_num_batched_tokens or plan.max_num_batched_tokens),
    ]
    if spec.engine.kv_cache_memory:
        out += ["--kv-cache-memory-bytes", str(spec.engine.kv_cache_memory)]
    elif spec.hardware.gpu != "cpu":
        share = spec.engine.gpu_memory_utilization or plan.gpu_memory_utilization
        out += ["--gpu-memory-utilization", f"{share:g}"]
    if spec.engine.kv_cache_dtype != "auto":
        out += ["--kv-cache-dtype", spec.engine.kv_cache_dtype]
    return out


def _adapters(wanted: Wanted) -> list[str]:
    adapters = wanted.fleet.spec.model.adapters
    slots = wanted.fleet.spec.model.adapter_slots
    if slots is not None:
        return ["--enable-lora", "--max-loras", str(slots)]
    if not adapters:
        return []
    modules = [f"{a.name}={adapter_path(wanted, a)}" for a in adapters]
    return ["--enable-lora", "--max-loras", str(len(adapters)), "--lora-modules", *modules]
