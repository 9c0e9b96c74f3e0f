"""What is decided: plans, scale decisions and their reasons. Plain frozen data; shells act on it.

Memory is GiB per GPU (as vLLM prints it), times are seconds, lengths are tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How long one engine step takes. The planner's roofline and `seawall bench`'s calibration file both
    have this form, and the simulator reads it:

        step_s = base_s + kv_tokens_read * kv_token_s + max(
            prefill_tokens * prefill_token_s + prefill_pairs * prefill_pair_s + decode_seqs * decode_seq_s,
            weight_read_s)
    """

    base_s: float
    """Scheduling, sampling and launch overhead of one step."""
    prefill_token_s: float
    """Compute of one prompt token."""
    decode_seq_s: float
    """Compute of one running sequence's next token."""
    weight_read_s: float
    """Reading all weights once."""
    kv_token_s: float
    """Reading one cached token's keys and values."""
    prefill_pair_s: float = 0.0
    """Attention of one prompt token to one token before it: what makes long prompts grow with their square."""
    source: str = "roofline estimate"

    @property
    def told(self) -> str:
        """Where the numbers come from, and the cure where nobody has measured them."""
        if "estimate" in self.source:
            return f"speed is a {self.source}; measure it with `seawall bench --calibrate`"
        return f"speed was measured: {self.source}"

    def step_s(
        self, prefill_tokens: float, decode_seqs: float, kv_tokens_read: float, prefill_pairs: float = 0.0
    ) -> float:
        """Seconds of one engine step that prefills, decodes and reads so much."""
        compute = (
            prefill_tokens * self.prefill_token_s
            + prefill_pairs * self.prefill_pair_s
            + decode_seqs * self.decode_seq_s
        )
        return self.base_s + max(compute, self.weight_read_s) + kv_tokens_read * self.kv_token_s


@dataclass(frozen=True, kw_only=True)
class StartupBudget:
    """Where the time goes before a replica serves; `total_s` has the safety factor in it."""

    image_s: float
    weights_s: float
    load_s: float
    """Reading into the GPU, compiling, capturing graphs."""
    total_s: float


@dataclass(frozen=True, kw_only=True)
class RejectedChoice:
    """A choice that the planner looked at and did not take."""

    choice: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one fleet needs and what each replica will hold."""

    fleet: str
    model: str
    fits: bool
    reason: str
    """One sentence: why it fits, or what is missing and the cure."""
    verdict: str = "fits"
    """fits; tight (nearer than the forecast is sure of); refused (max_model_len too long); oom; unknown (the
    architecture or the GPU is a guess); invalid (the split)."""
    gpu: str
    gpus_per_replica: int
    tensor_parallel: int
    pipeline_parallel: int = 1
    data_parallel: int = 1
    expert_parallel: bool = False
    decode_context_parallel: int = 1
    nodes_per_replica: int = 1
    quantization: str | None = None
    converted: bool = False
    """The checkpoint is not in this format by its own word: the engine has to be told."""
    dtype: str = "bfloat16"
    weights_bytes: int = 0
    """Bytes of the weights as they are loaded: all files but drafts."""
    parameters: int = 0
    active_parameters: int = 0
    """Parameters that one token passes through, input embedding included."""
    parameters_range: tuple[int, int] = (0, 0)
    """Wide where the architecture is not known; else both are `parameters`."""
    weights_gib_per_gpu: float = 0.0
    activation_gib_per_gpu: float = 0.0
    non_torch_gib_per_gpu: float = 0.0
    cuda_graph_gib_per_gpu: float = 0.0
    kv_cache_gib_per_gpu: float = 0.0
    kv_cache_gib_range: tuple[float, float] = (0.0, 0.0)
    """What the cache may be, by the known error of forecasts of this kind."""
    kv_cache_tokens: int = 0
    """Tokens of KV cache, as vLLM prints them."""
    kv_cache_tokens_range: tuple[int, int] = (0, 0)
    unsure: tuple[str, ...] = ()
    """Why the range is as wide as it is: GiB per GPU and the reason, the largest first."""
    kv_cache_blocks: int = 0
    needed_kv_gib_per_gpu: float = 0.0
    """What one request of max_model_len takes."""
    kv_bytes_per_token: int = 0
    """Per GPU."""
    block_size: int = 16
    max_model_len: int = 0
    max_model_len_limit: int = 0
    """The largest that vLLM would accept here."""
    max_concurrency: float = 0.0
    """Requests of max_model_len that the KV cache holds at once, as vLLM prints it."""
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    gpu_memory_utilization: float = 0.92
    saturating_concurrency: int = 0
    scaling_target: float = 1.0
    engine_queue_bound: int = 0
    """--max-num-queued-reqs: waiting plus running."""
    gateway_queue_bound: int = 0
    startup: StartupBudget = field(
        default_factory=lambda: StartupBudget(image_s=0, weights_s=0, load_s=0, total_s=600)
    )
    host_memory_bytes: int = 0
    shm_bytes: int = 0
    ephemeral_bytes: int = 0
    volume_bytes: int = 0
    timing: Timing = field(
        default_factory=lambda: Timing(
            base_s=0.002, prefill_token_s=2e-5, decode_seq_s=2e-5, weight_read_s=0.01, kv_token_s=1e-8
        )
    )
    ttft_s: float = 0.0
    tpot_s: float = 0.0
    tokens_per_s: float = 0.0
    """Output tokens per second of one replica at saturation."""
    bound: str = ""
    """Which bound binds: compute, memory bandwidth, KV capacity or max_num_seqs."""
    usd_per_hour: float | None = None
    """Per replica, on demand."""
    usd_per_million_tokens: float | None = None
    prices_as_of: str | None = None
    rejected: tuple[RejectedChoice, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ScaleDecision:
    """How many replicas there should be, why, and when to look again."""

    replicas: int
    reason: str
    next_look_s: float
