"""Where an engine runs in a cluster: its folders in the Pod, its port, its node's notice.

The flags are `engines/vllm/command.py`'s, as on one machine. Each is checked against those of the pinned vLLM version
before it is written (`refusals.py`): an unknown flag is an error there and not a crash loop in the cluster.
"""

from __future__ import annotations

from seawall.domain.labels import HTTP_PORT, MASTER_PORT
from seawall.domain.spec import Adapter
from seawall.engines.vllm import environment
from seawall.engines.vllm.command import EnginePlace, NodeFlags, ServeCommand, serve_command
from seawall.render.inputs import Wanted
from seawall.render.lifecycle import start_budget_s, timing_of
from seawall.render.names import fingerprint

CACHE_DIR = "/var/cache/engine"
STACKS_DIR = "/tmp/stacks"
"""On the Pod's own scratch volume, which outlives its containers."""
NODES = NodeFlags(
    count="$(LWS_GROUP_SIZE)",
    rank="$(LWS_WORKER_INDEX)",
    address="$(LWS_LEADER_ADDRESS)",
    port=MASTER_PORT,
)
"""LeaderWorkerSet puts these variables first into every container's environment, so the kubelet expands them here
without a shell."""


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


def serve(wanted: Wanted, *, spot: bool = False, worker: bool = False) -> ServeCommand:
    """The engine's command in a Pod, as `seawall up` starts it but for what this place explains.

    `spot` fits the drain to the cloud's notice; `worker` is a further node of a multi-node replica, which
    serves no HTTP.
    """
    spec, plan = wanted.fleet.spec, wanted.plan
    sim = spec.engine.kind == "sim"
    place = EnginePlace(
        program=("seawall", "engine", "sim") if sim else ("vllm", "serve"),
        model=model_path(wanted),
        port=HTTP_PORT,
        drain_s=timing_of(wanted.fleet, spot=spot).drain_s,
        ready_s=start_budget_s(plan),
        streamed=spec.cache.kind == "stream",
        adapters={a.name: adapter_path(wanted, a) for a in spec.model.adapters},
        cores=round(cpu_cores(wanted)),
        nodes=NODES if plan.nodes_per_replica > 1 else None,
        headless=worker,
        env=_caches(sim),
        stacks=STACKS_DIR,
    )
    return serve_command(wanted.fleet, plan, place)


def cpu_cores(wanted: Wanted) -> float:
    """CPU cores of one Pod: the spec's, else what an engine on a CPU or beside its GPUs needs."""
    hardware, plan = wanted.fleet.spec.hardware, wanted.plan
    per_node = max(1, plan.gpus_per_replica // max(1, plan.nodes_per_replica))
    return hardware.cpu or (4.0 if plan.gpu == "cpu" else 4.0 + 2.0 * per_node)


def _caches(sim: bool) -> dict[str, str]:
    """Every cache on a volume: the root file system is read-only."""
    home = {"HOME": CACHE_DIR, "USER": "engine"}
    if sim:
        return home
    return {
        **home,
        environment.CACHE_ROOT: f"{CACHE_DIR}/vllm",
        "XDG_CACHE_HOME": f"{CACHE_DIR}/xdg",
        "TRITON_CACHE_DIR": f"{CACHE_DIR}/triton",
        "TORCHINDUCTOR_CACHE_DIR": f"{CACHE_DIR}/inductor",
    }
