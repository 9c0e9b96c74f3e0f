"""What is wanted: the `Fleet`, the one spec that every verb reads. Plain frozen dataclasses, no I/O.

`config/` turns YAML into these (strictly: unknown keys are refused) and back; the camelCase names of the
YAML are made from the snake_case names here. Sizes are bytes, times are seconds, lengths are tokens;
YAML may write `200Gi`, `30s`, `16k`. `None` means "planned": `seawall plan` says what was chosen and why.
The docstring under a field is its description in `seawall schema` and in the reference page.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Len

from seawall.domain.labels import APP
from seawall.domain.units import DIGITS, Bytes, Seconds, Tokens

API_VERSION = "seawall.dev/v1alpha1"

Name = Annotated[str, Len(1, 63)]
Count = Annotated[int, Ge(0), DIGITS]
Positive = Annotated[int, Ge(1), DIGITS]
Fraction = Annotated[float, Gt(0), Le(1)]


def camel(name: str) -> str:
    """snake_case -> camelCase: the one rule that maps Python names to YAML names."""
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


class Strict:
    """Base of all spec classes: pydantic refuses unknown keys and reads camelCase."""

    __pydantic_config__: ClassVar[Any] = {
        "extra": "forbid",
        "alias_generator": camel,
        "validate_by_name": False,
        "validate_by_alias": True,
        "use_attribute_docstrings": False,  # `seawall schema` switches it on for itself
    }


@dataclass(frozen=True, kw_only=True)
class Metadata(Strict):
    name: Name
    """DNS label; names the fleet, its objects, and (by default) the model that clients ask for."""
    namespace: Name = "default"
    """The Kubernetes namespace of its objects."""
    labels: dict[str, str] = field(default_factory=dict)
    """Labels that every rendered object gets."""
    annotations: dict[str, str] = field(default_factory=dict)
    """Annotations that every rendered object gets."""


@dataclass(frozen=True, kw_only=True)
class Adapter(Strict):
    """A LoRA adapter, served under its own model name."""

    name: Name
    """The model name that clients ask for."""
    source: str
    """Where it is, as for a model: hf://, s3://, file://..."""
    revision: str | None = None
    """Commit, tag or branch of its source."""


Quantization = Literal[
    "none", "fp8", "int8", "awq", "gptq", "mxfp4", "nvfp4", "bitsandbytes", "gguf", "compressed-tensors"
]


@dataclass(frozen=True, kw_only=True)
class Model(Strict):
    source: str
    """`hf://org/name`, `s3://`, `gs://`, `https://`, `file://`, `oci://`, `pypi://package==version#path`,
    or `model://name` from the registry."""
    revision: str | None = None
    """Commit, tag or version. A lockfile pins it together with the hash of every file."""
    quantization: Quantization | None = None
    """None: as the checkpoint says. Otherwise what vLLM is told to use."""
    allow_quantizations: list[Quantization] = field(default_factory=list)
    """What the planner may choose from when `quantization` is left out and the model does not fit."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Number format of the computation. auto: as the checkpoint says."""
    served_names: list[str] = field(default_factory=list)
    """Names that clients may use in `model`. Default: the fleet's name."""
    adapters: list[Adapter] = field(default_factory=list)
    adapter_slots: Positive | None = None
    """`--max-loras`: adapters are loaded and unloaded while replicas run, by the operator, at most so many. None:
    adapters are part of the start-up command, and changing them is a rolling update."""
    licence: str | None = None
    """SPDX name, for people; nothing is decided by it."""
    allow_pickle: bool = False
    """Accept pickle weights (.bin, .pt), which can run code when loaded."""
    config: dict[str, Any] | None = None
    """The model's config.json, inline, for planning without a network."""


@dataclass(frozen=True, kw_only=True)
class EngineSpec(Strict):
    kind: Literal["vllm", "sim"] = "vllm"
    """What a replica runs: vllm, or sim, the simulated vLLM."""
    version: str = "0.32.0"
    """vLLM version: which flags exist, what their defaults are, and which image is used."""
    image: str | None = None
    """Pinned by tag or digest, never `latest`. Default: vllm/vllm-openai:v<version>."""
    extra_args: list[str] = field(default_factory=list)
    """Further `vllm serve` flags, checked against the version's flags when rendering."""
    env: dict[str, str] = field(default_factory=dict)
    """Environment variables of the engine."""
    max_num_seqs: Positive | None = None
    """`--max-num-seqs`: requests that are computed at once. Default: planned."""
    max_num_batched_tokens: Positive | None = None
    """`--max-num-batched-tokens`: tokens of one step. Default: planned."""
    gpu_memory_utilization: Fraction | None = None
    """Share of the GPU's memory that vLLM takes. Default: the version's own."""
    kv_cache_dtype: Literal["auto", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2", "nvfp4"] = "auto"
    """auto: what a quantized checkpoint was calibrated for, else the model's own dtype."""
    kv_cache_memory: Bytes | None = None
    """The cache's size, set by hand. Default: what is left beside the weights."""
    prefix_caching: bool = True
    """Keep the cache of prompts that begin alike."""
    enforce_eager: bool = False
    """No compilation and no CUDA graphs: starts sooner, decodes slower."""
    max_queued_requests: Positive | None = None
    """`--max-num-queued-reqs`: waiting plus running. Default: from the plan."""

    @property
    def needs_weights(self) -> bool:
        """Whether it reads model files; the simulated engine makes its answers up."""
        return self.kind != "sim"

    @property
    def needs_gpu(self) -> bool:
        """Whether it computes on the GPU that the plan names."""
        return self.kind != "sim"


@dataclass(frozen=True, kw_only=True)
class Toleration(Strict):
    key: str | None = None
    """The taint's key. None: any."""
    operator: Literal["Exists", "Equal"] = "Exists"
    """Exists, or Equal to `value`."""
    value: str | None = None
    """The taint's value, with Equal."""
    effect: Literal["NoSchedule", "NoExecute", "PreferNoSchedule"] | None = None
    """The taint's effect. None: any."""


@dataclass(frozen=True, kw_only=True)
class Spot(Strict):
    on_demand_floor: Count = 1
    """Replicas that stay on on-demand nodes whatever happens to spot."""
    notice: Seconds | None = None
    """Seconds between the cloud's notice and the loss of the node. Default: the cloud's own."""


@dataclass(frozen=True, kw_only=True)
class Hardware(Strict):
    gpu: str = "auto"
    """A catalogue name such as H100-80GB, `cpu`, or `auto`: the cheapest that holds the SLO."""
    gpus_per_replica: Positive | None = None
    """GPUs of one replica. Default: planned."""
    tensor_parallel: Positive | None = None
    """`--tensor-parallel-size`. Default: planned."""
    pipeline_parallel: Positive | None = None
    """`--pipeline-parallel-size`. Default: planned."""
    data_parallel: Positive | None = None
    """`--data-parallel-size`. Default: 1."""
    expert_parallel: bool = False
    """Spread a mixture's experts over the GPUs."""
    gpus_per_node: Positive | None = None
    """GPUs of one node; a replica that needs more spans nodes. Default: the GPU's usual number."""
    cloud: Literal["gke", "eks", "karpenter", "aks", "on-prem", "local"] = "on-prem"
    """Whose node labels, taints, spot notice and storage classes hold."""
    spot: Spot | None = None
    """Run replicas beyond a floor on spot nodes. None: on demand only."""
    spare_gpus: bool = True
    """There are free GPUs for one more replica during a rollout. False: replace in place."""
    node_labels: dict[str, str] = field(default_factory=dict)
    """Your own node labels instead of the GPU-feature-discovery ones."""
    tolerations: list[Toleration] = field(default_factory=list)
    """Further tolerations of the Pods, beside those for GPU and spot nodes."""
    runtime_class: str | None = None
    """RuntimeClass of the Pods, such as nvidia."""
    priority_class: str | None = None
    """PriorityClass of the Pods."""
    cpu: Annotated[float, Gt(0)] | None = None
    """CPU cores of one replica."""
    memory: Bytes | None = None
    """Host memory of one replica."""
    guaranteed: bool = True
    """Guaranteed QoS: CPU and memory requests equal limits, init containers too."""
    resource: str = "nvidia.com/gpu"
    """The extended resource that a GPU is asked for by."""


@dataclass(frozen=True, kw_only=True)
class Slo(Strict):
    ttft: Seconds = 2.0
    """Time to first token, 95th percentile."""
    tpot: Seconds = 0.06
    """Time per output token, 95th percentile."""
    availability: Annotated[float, Gt(0), Le(0.99999)] = 0.999
    """Share of requests that must succeed within the latency objectives."""


@dataclass(frozen=True, kw_only=True)
class Traffic(Strict):
    max_context: Tokens | None = None
    """`--max-model-len`. Default: the model's own limit, or what fits."""
    prompt_tokens: Tokens = 1024
    """Mean prompt length, for planning and simulation."""
    output_tokens: Tokens = 256
    """Mean answer length, for planning and simulation."""
    rate: Annotated[float, Gt(0)] | None = None
    """Expected requests per second, for `plan` and `simulate`."""
    slo: Slo = field(default_factory=Slo)
    """What clients may expect; plans, scaling and alerts are made for it."""


@dataclass(frozen=True, kw_only=True)
class ScheduleWindow(Strict):
    """Other bounds, from one moment to another, again and again."""

    start: str
    """When it opens, as cron in scaling.timezone (minute, hour, day, month, weekday): `0 8 * * 1-5`."""
    end: str
    """When it closes, alike: `0 18 * * 1-5`."""
    min: Count = 0
    """Replicas at least while it is open. Of several open windows the highest counts."""
    max: Positive | None = None
    """Replicas at most while it is open; of several the lowest counts, and min before max. By `seawall up` and
    by: seawall only: KEDA knows no such bound."""


@dataclass(frozen=True, kw_only=True)
class Scaling(Strict):
    min: Count = 1
    """Replicas at least; 0: none while nobody asks."""
    max: Positive = 1
    """Replicas at most."""
    target: Annotated[float, Gt(0)] | None = None
    """Running + waiting + queued requests per replica. Default: 0.7 x the plan's saturating concurrency."""
    policy: Literal["hpa", "slo"] = "hpa"
    """hpa: the HPA's arithmetic; slo: as many as hold the latency objectives."""
    by: Literal["keda-prometheus", "keda-gateway", "seawall", "hpa", "none"] = "keda-prometheus"
    """Who scales on Kubernetes: KEDA on Prometheus, KEDA on the gateway's own numbers, KEDA on our own decision (a
    scaler beside the gateway; policy: slo works there, too), or a plain HPA."""
    tls_secret: str | None = None
    """With by: seawall: Secret of tls.crt, tls.key and ca.crt with which scaler and KEDA know each other; its name is
    SERVICE.NAMESPACE.svc. None: the network policy alone keeps others out."""
    prometheus: str = "http://prometheus-operated.monitoring.svc:9090"
    """Where KEDA and `seawall advise` ask."""
    prometheus_secret: str | None = None
    """Secret whose key `token` is the bearer token that this Prometheus asks for."""
    idle_after: Seconds = 300.0
    """With min 0: scale to zero after so long without a request."""
    up_window: Seconds = 0.0
    """The least demand of so long counts when scaling up."""
    down_window: Seconds = 300.0
    """The greatest demand of so long counts when scaling down."""
    polling_interval: Seconds = 15.0
    """Time between two looks at the demand."""
    schedule: list[ScheduleWindow] = field(default_factory=list)
    """Times at which other bounds hold, such as more replicas in office hours."""
    timezone: str = "UTC"
    """The time zone of the schedule, and of the day of gpuHoursPerDay: Europe/Berlin."""
    gpu_hours_per_day: Annotated[float, Gt(0)] | None = None
    """GPU-hours (replica-hours, where there are no GPUs) that a day may cost: growth is slowed down before they are
    spent, and stops then; min, the schedule's min and one replica stay. By `seawall up` and by: seawall only."""


@dataclass(frozen=True, kw_only=True)
class PoolSpec(Strict):
    """A place that several fleets share, by turns: `seawall up` or the operator loads whoever has work.

    Fleets of one namespace that name the same pool share it. Set scaling.min: 0, so that a fleet may leave it.
    """

    name: Name
    """The pool's name; fleets that name the same share it."""
    capacity: Positive
    """GPUs that all its fleets together may hold; replicas, where there are no GPUs. The same in each fleet."""
    priority: Annotated[int, Ge(0), Le(9), DIGITS] = 5
    """0 is served first, and never waits for a higher number. Equals take turns."""
    sleep: bool = False
    """Put replicas to sleep (vLLM's sleep mode, level 1: weights in host memory) instead of stopping them. Needs
    CUDA or ROCm, and on Kubernetes GPUs that Pods share (time-slicing): a sleeping Pod keeps its claim."""
    residence: Seconds = 120.0
    """A fleet that is ready stays at least so long, unless a higher priority needs the room."""
    asleep_for: Seconds = 3600.0
    """Asleep for so long, a replica is stopped."""


@dataclass(frozen=True, kw_only=True)
class CanaryStep(Strict):
    weight: Annotated[int, Ge(1), Le(100), DIGITS]
    """Percent of requests that the canary gets."""
    hold: Seconds = 300.0
    """How long this step is watched before the next."""


@dataclass(frozen=True, kw_only=True)
class CandidateSpec(Strict):
    """What the canary side runs where it differs from the fleet. It is planned like the fleet itself."""

    source: str | None = None
    """Another model. None: the fleet's."""
    revision: str | None = None
    """Another revision."""
    image: str | None = None
    """Another engine image."""
    version: str | None = None
    """vLLM version of `image`."""
    extra_args: list[str] | None = None
    """Other `vllm serve` flags, instead of the fleet's."""
    replicas: Positive = 1
    """Replicas of the canary side."""
    weight: Annotated[int, Ge(0), Le(100), DIGITS] | None = None
    """Percent of requests that it gets now. Default: the first step's weight."""


@dataclass(frozen=True, kw_only=True)
class Canary(Strict):
    candidate: CandidateSpec | None = None
    """Rendered as a second Deployment beside the fleet's. None: `seawall rollout` makes it when it is due."""
    steps: list[CanaryStep] = field(default_factory=lambda: [CanaryStep(weight=w) for w in (5, 25, 50)])
    """Shares of the traffic, rising; each is judged before the next."""
    sticky_header: str | None = None
    """Requests with the same value of this header go to the same side."""
    shadow: bool = False
    """Copy requests to the canary, discard its answers, compare outputs at temperature 0."""
    max_error_rate_increase: Fraction = 0.01
    """More errors than the stable side by so much end it."""
    max_latency_ratio: Annotated[float, Gt(1)] = 1.25
    """Latency over the stable side's by so much ends it."""
    confidence: Annotated[float, Gt(0.5), Le(0.9999)] = 0.95
    """How sure a verdict must be."""


@dataclass(frozen=True, kw_only=True)
class RolloutSpec(Strict):
    max_surge: Positive = 1
    """Replicas that may start before an old one stops."""
    drain: Seconds = 120.0
    """`--shutdown-timeout`: how long a stopped replica may go on decoding its streams."""
    pre_stop: Seconds = 15.0
    """Between "stop routing here" and SIGTERM: longer than the slowest router needs to notice."""
    canary: Canary | None = None
    """Send a share of requests to a changed fleet first. None: replace at once."""


@dataclass(frozen=True, kw_only=True)
class Cache(Strict):
    """Where weights live on Kubernetes."""

    kind: Literal["pvc", "oci", "stream", "node-local", "host-path"] = "pvc"
    """pvc: a shared volume; oci: an image volume; stream: straight from a bucket; node-local: each node's disk;
    host-path: what lies there."""
    storage_class: str | None = None
    """StorageClass of the volume. Default: the cloud's shared one."""
    access_mode: Literal["ReadWriteMany", "ReadOnlyMany", "ReadWriteOnce"] = "ReadWriteMany"
    """How many nodes mount the volume."""
    size: Bytes | None = None
    """Default: 1.2 x the weights."""
    bandwidth: Bytes | None = None
    """Bytes per second one replica reads from it. Default: the storage class's, from the catalogue."""
    path: str = "/models"
    """Where the weights are mounted."""
    claim: str | None = None
    """An existing claim to use instead of making one."""
    data_source: str | None = None
    """The source of a ReadOnlyMany claim: the pre-populated claim or snapshot to clone."""
    image: str | None = None
    """With kind oci: the image that carries the weights, by digest."""
    token_secret: str | None = None
    """Secret that opens the source, mounted as files: its key `token` (HF_TOKEN) for hf://, `credentials` (as
    `aws configure` writes it) for s3://, `key.json` (a service account's) for gs://."""


@dataclass(frozen=True, kw_only=True)
class TenantSpec(Strict):
    name: Name
    """Whom keys are made for: `seawall keys add NAME`."""
    weight: Annotated[float, Gt(0)] = 1.0
    """Share under contention (deficit round robin on tokens)."""
    models: list[str] = field(default_factory=list)
    """Models it may use. Empty: all."""
    requests_per_minute: Positive | None = None
    """More get 429."""
    tokens_per_minute: Positive | None = None
    """More get 429, prompt and answer counted."""
    token_quota: Positive | None = None
    """Tokens in all, until the quota is raised."""
    priority: Annotated[int, Ge(0), Le(9), DIGITS] = 5
    """0 is served first."""


@dataclass(frozen=True, kw_only=True)
class BatchSpec(Strict):
    store: str | None = None
    """Where results are kept: `postgresql://USER@HOST/NAME`, for several gateways. Default: SQLite beside the files."""
    store_secret: str | None = None
    """Secret of the store, on Kubernetes: its key `address`, with the password."""
    bucket: str | None = None
    """Where files and results are kept: `s3://BUCKET/FOLDER` or `gs://BUCKET/FOLDER`. Default: the volume."""
    bucket_secret: str | None = None
    """Secret of the bucket, on Kubernetes: its keys are variables (AWS_ACCESS_KEY_ID, ...). Default: the Pod's own
    identity."""
    secret: str | None = None
    """Secret, on Kubernetes: its key `secret`, a long random value, is what the lane and its gateways know each other
    by. Default: the gateway's name with `-batch`."""
    volume: Bytes = 50 * 2**30
    """The volume of files and results, on Kubernetes."""
    storage_class: str | None = None
    """StorageClass of that volume. Default: the cluster's."""
    max_file: Bytes = 2**30
    """The largest file that may be uploaded."""
    max_lines: Positive = 1_000_000
    """Lines of one batch."""
    files: Positive = 1000
    """Files that one tenant may have."""
    space: Bytes = 20 * 2**30
    """Bytes of all files of one tenant."""
    batches: Positive = 100
    """Batches of one tenant that are not over."""
    retention: Seconds = 30 * 86_400.0
    """Files and what is known of batches are kept for so long, where nothing else is said of a file."""
    price: Annotated[float, Ge(0)] = 0.5
    """What a token costs here, as a share of prompt_price and completion_price."""


@dataclass(frozen=True, kw_only=True)
class Gateway(Strict):
    replicas: Positive = 2
    """Gateway Pods."""
    image: str | None = None
    """The gateway's image, built from the Containerfile."""
    max_queued: Positive | None = None
    """Requests that may wait in the gateway. More get 429 with Retry-After. Default: 60 s of the fleet's work."""
    max_queued_tokens: Positive | None = None
    """Prompt tokens that may wait in the gateway. Default: no bound of its own."""
    max_in_flight: Positive | None = None
    """Requests in flight per replica. Default: the engine's max_num_seqs."""
    queue_timeout: Seconds = 60.0
    """A queued request's deadline when the client sets none."""
    first_byte_timeout: Seconds | None = None
    """Without an answer for so long a replica is taken for hung. Default: by evidence (docs/reference/liveness.md); no
    answer that a healthy replica is at work on is ended."""
    headers_after: Seconds = 10.0
    """A stream's status and headers go out when the engine answers, and after so long in the queue at the latest."""
    keep_for: Seconds = 600.0
    """Answers to requests with an Idempotency-Key, and responses in the background, are kept for so long after they
    end, for clients that come again (docs/reference/reattach.md). 0s: nothing is kept, the header means nothing."""
    keep_memory: Bytes = 64 * 2**20
    """Memory of each gateway process for what is kept of this fleet. Over it those answers go that ended first."""
    hedge_after: Seconds | None = None
    """A stream without a first token for so long is sent to a second replica, too; the first token wins."""
    stall_timeout: Seconds | None = None
    """A stream without a data event for so long is taken for hung and resumed elsewhere. Default: by evidence."""
    retries: Count = 3
    """Attempts at other replicas before a request fails."""
    resume: Literal["exact", "best-effort", "off"] = "exact"
    """exact: continue a broken stream token for token, or fail it; best-effort: continue it in any case; off: fail
    it."""
    keeper: bool = True
    """A small process beside the gateway holds its connections: what runs outlives a gateway that dies
    (docs/reference/keeper.md)."""
    http2: bool = True
    """Clients may speak HTTP/2, over TLS or by prior knowledge; false: HTTP/1.1 alone. Where a gateway serves several
    fleets all must have it."""
    truth_budget: Annotated[float, Ge(0), Le(0.1)] = 0.01
    """Share of each replica's time that is spent on asking it what its weights must answer
    (docs/reference/truth.md). 0: no replica is asked, and one that answers wrongly is not found."""
    session_header: str = "x-session-id"
    """Requests with the same value of this header prefer one replica."""
    sessions: Literal["auto", "header", "off"] = "auto"
    """What makes a session. auto: also `prompt_cache_key`, `previous_response_id`, `user` and known agents' headers;
    header: session_header only; off: nothing."""
    store: str | None = None
    """What several gateways share their limits, load, suspicions and kept answers through: `valkey://HOST:6379/0`,
    `redis://`, `rediss://`; `+sentinel` and `+cluster` behind the scheme; `managed`: a small one is rendered. None:
    each gateway keeps its own."""
    store_secret: str | None = None
    """Secret of the store, on Kubernetes: its keys `password`, `address` where `store` is left out, and `ca.crt`."""
    store_image: str | None = None
    """Image of the store that is rendered, with `valkey-server` in its path. None: Valkey's own."""
    tenants: list[TenantSpec] = field(default_factory=list)
    """Empty: no API key is asked for."""
    keys_file: str | None = None
    """File of hashed API keys (`seawall keys add`), watched and reloaded. On Kubernetes: from keys_secret."""
    keys_secret: str | None = None
    """Secret whose key `keys` is the keys file, on Kubernetes."""
    prompt_price: Annotated[float, Ge(0)] | None = None
    """USD per million prompt tokens, for the cost in audit lines and usage reports."""
    completion_price: Annotated[float, Ge(0)] | None = None
    """USD per million completion tokens."""
    aliases: dict[str, str] = field(default_factory=dict)
    """Other model names -> this fleet's name or an adapter's."""
    route: Literal["gateway-api", "istio", "inference-pool", "ingress", "service"] = "service"
    """How clients outside reach the gateway."""
    hosts: list[str] = field(default_factory=list)
    """Host names of that route."""
    parent_gateway: str | None = None
    """namespace/name of the Gateway (or Istio gateway) to attach to."""
    tls_secret: str | None = None
    """Secret with the route's certificate."""
    max_body: Bytes = 32 * 2**20
    """The largest request body, decoded where it comes compressed."""
    memory: Bytes | None = None
    """Memory of one gateway process and all that it holds: bodies, queues, records. Over what it leaves for them large
    requests get 503. Default: its control group's limit, else 1Gi; on Kubernetes the limit follows from the spec."""
    max_head: Bytes = 32 * 2**10
    """The largest head of a request: its first line and its headers."""
    idle_timeout: Seconds = 620.0
    """A client's connection without a request is closed after so long: longer than what stands in front keeps it."""
    batch: BatchSpec | None = None
    """The batch lane: files of requests, answered on what interactive traffic leaves (docs/how-to/batch.md). None:
    there is none."""
    allow_fields: list[str] = field(default_factory=list)
    """Fields of requests that pass although tenants are listed: of those that give power over an engine (`priority`,
    `chat_template`, `kv_transfer_params`, `prompt_embeds`, ...: docs/reference/gateway.md) none does by default."""
    refuse_fields: list[str] = field(default_factory=list)
    """Further fields that no request may have."""
    media_hosts: list[str] | None = None
    """Hosts from which engines may fetch images, audio and video that requests name by URL (`*`: from any). Default:
    none where tenants are listed, else any. `file:` is never read."""
    cache_per_tenant: bool = True
    """Where tenants are listed: none can tell another's prompts by how soon they are answered. A system prompt that
    they share is then computed once per tenant."""
    allowed_origins: list[str] = field(default_factory=list)
    """Web pages of these origins (`https://chat.example.org`; `*`: of any) may use the gateway from a browser."""


@dataclass(frozen=True, kw_only=True)
class Monitoring(Strict):
    enabled: bool = True
    """Render monitors, rules and the dashboard."""
    kind: Literal["pod-monitor", "service-monitor"] = "pod-monitor"
    """Which of the Prometheus operator's kinds is rendered."""
    labels: dict[str, str] = field(default_factory=dict)
    """Labels that your Prometheus selects monitors and rules by."""
    scraped_by: dict[str, str] = field(default_factory=lambda: {APP: "prometheus"})
    """Labels of the Pods that may read metrics, in the namespace of scaling.prometheus. Empty: any Pod there."""
    dcgm: bool = True
    """Show GPU metrics of NVIDIA's exporter in the dashboard."""
    dashboard: bool = True
    """Render the Grafana dashboard."""


@dataclass(frozen=True, kw_only=True)
class FleetSpec(Strict):
    model: Model
    """What is served."""
    engine: EngineSpec = field(default_factory=EngineSpec)
    """What serves it."""
    hardware: Hardware = field(default_factory=Hardware)
    """Where it is served."""
    traffic: Traffic = field(default_factory=Traffic)
    """What is expected of it."""
    scaling: Scaling = field(default_factory=Scaling)
    """How many replicas there are."""
    rollout: RolloutSpec = field(default_factory=RolloutSpec)
    """How replicas are replaced."""
    cache: Cache = field(default_factory=Cache)
    """Where its weights lie on Kubernetes."""
    gateway: Gateway = field(default_factory=Gateway)
    """How requests reach it."""
    monitoring: Monitoring = field(default_factory=Monitoring)
    """How it is watched."""
    pool: PoolSpec | None = None
    """A place that it shares with other fleets by turns. None: it has its own."""


@dataclass(frozen=True, kw_only=True)
class Fleet(Strict):
    """One model served by N replicas."""

    metadata: Metadata
    """The fleet's name, and the namespace of its objects."""
    spec: FleetSpec
    """What is wanted."""
    api_version: Literal["seawall.dev/v1alpha1"] = "seawall.dev/v1alpha1"
    """Always seawall.dev/v1alpha1."""
    kind: Literal["Fleet"] = "Fleet"
    """Always Fleet."""

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def served_names(self) -> tuple[str, ...]:
        """Model names that reach the base model: the spec's, else the fleet's own name."""
        return tuple(self.spec.model.served_names) or (self.metadata.name,)

    @property
    def needs_lock(self) -> bool:
        """Only a lockfile can say which weights a cluster downloads: the source moves, and no revision is named."""
        spec = self.spec
        source = spec.model.source
        commit = re.search(r"@[0-9a-f]{40}$", source)
        moving = source.startswith("hf://") and not commit and not spec.model.revision
        return moving and spec.cache.kind in ("pvc", "node-local") and spec.engine.needs_weights
