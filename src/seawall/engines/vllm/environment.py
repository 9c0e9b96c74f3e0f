"""Environment variables of vLLM that we set, look for, or refuse."""

from __future__ import annotations

ALLOW_LONGER = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
"""`1`: a context longer than the model's own is not refused."""
API_KEY = "VLLM_API_KEY"
CPU_CACHE_GIB = "VLLM_CPU_KVCACHE_SPACE"
"""The cache's size as older versions took it; it would override --kv-cache-memory-bytes."""
CPU_THREADS_BIND = "VLLM_CPU_OMP_THREADS_BIND"
CACHE_ROOT = "VLLM_CACHE_ROOT"
"""Compiled kernels and graphs; without it they lie under the home folder."""
DEV_MODE = "VLLM_SERVER_DEV_MODE"
"""Opens /sleep, /pause, /collective_rpc and the like, without a key."""
LORA_UPDATES = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
"""Opens /v1/load_lora_adapter and its opposite."""
LIKE_FLAGS = frozenset(
    {"VLLM_API_KEY", "VLLM_PORT", "VLLM_DCP_Q_REPLICATE", "VLLM_ATTENTION_BACKEND", "VLLM_ALL2ALL_BACKEND"}
)
"""Variables that are called like a flag and are read all the same, or were; no other flag has one."""
NO_STATS = "VLLM_NO_USAGE_STATS"
OWN_CORE_PROCESS = "VLLM_ENABLE_V1_MULTIPROCESSING"
"""`0`: the engine core lives in its caller's process, and on a CPU the worker in the core's."""
PORT = "VLLM_PORT"
"""The port of vLLM's workers, not of its API; a Service named `vllm` sets it by accident."""
READY_TIMEOUT_S = "VLLM_ENGINE_READY_TIMEOUT_S"
"""How long the API server waits for its engine before it gives up; 600 s."""
RESPONSES_STORE = "VLLM_ENABLE_RESPONSES_API_STORE"
"""`1`: the server keeps responses in its memory, for good, so that `previous_response_id` can name them."""
TARGET_DEVICE = "VLLM_TARGET_DEVICE"
KEEP_ALIVE_ON_ENGINE_DEATH = "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH"
"""`1`: the API server outlives its engine and answers 500."""
_INTEGERS = """
VLLM_ALLOW_INSECURE_SERIALIZATION VLLM_ALLREDUCE_USE_SYMM_MEM VLLM_AUDIO_FETCH_TIMEOUT VLLM_BATCH_INVARIANT
VLLM_BLOCKSCALE_FP8_GEMM_FLASHINFER VLLM_COMPUTE_NANS_IN_LOGITS VLLM_CONFIGURE_LOGGING VLLM_CPU_KVCACHE_SPACE
VLLM_CPU_NUM_OF_RESERVED_CPU VLLM_DEBUG_WORKSPACE VLLM_DISABLE_LOG_LOGO VLLM_DISABLE_SHARED_EXPERTS_STREAM
VLLM_DP_MASTER_PORT VLLM_DP_RANK VLLM_DP_RANK_LOCAL VLLM_DP_SIZE VLLM_ENABLE_CUDAGRAPH_GC
VLLM_ENABLE_INDUCTOR_COORDINATE_DESCENT_TUNING VLLM_ENABLE_INDUCTOR_MAX_AUTOTUNE VLLM_ENABLE_RESPONSES_API_STORE
VLLM_ENABLE_V1_MULTIPROCESSING VLLM_ENGINE_READY_TIMEOUT_S VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS
VLLM_HTTP_TIMEOUT_KEEP_ALIVE VLLM_IMAGE_FETCH_TIMEOUT VLLM_KEEP_ALIVE_ON_ENGINE_DEATH VLLM_LOG_MODEL_INSPECTION
VLLM_MAX_AUDIO_CLIP_FILESIZE_MB VLLM_MAX_N_SEQUENCES VLLM_MEDIA_LOADING_THREAD_COUNT VLLM_MEDIA_URL_ALLOW_REDIRECTS
VLLM_MLA_DISABLE VLLM_MOE_USE_DEEP_GEMM VLLM_MOONCAKE_BOOTSTRAP_PORT VLLM_MQ_MAX_CHUNK_BYTES_MB
VLLM_MSGPACK_ZERO_COPY_THRESHOLD VLLM_NIXL_SIDE_CHANNEL_PORT VLLM_RINGBUFFER_WARNING_INTERVAL VLLM_SERVER_DEV_MODE
VLLM_TRACE_FUNCTION VLLM_USE_DEEP_GEMM VLLM_USE_DEEP_GEMM_E8M0 VLLM_USE_FLASHINFER_SAMPLER VLLM_USE_RUST_FRONTEND
VLLM_USE_TRITON_AWQ VLLM_USE_V1 VLLM_USE_V2_MODEL_RUNNER VLLM_VIDEO_FETCH_TIMEOUT VLLM_XGRAMMAR_CACHE_MB
"""
INTEGERS = frozenset(_INTEGERS.split())
"""Variables of which vLLM 0.8 to 0.33 makes a number (`int(...)` in vllm/envs.py), switches among them: `true` ends it
with `invalid literal for int()`. Others are compared with words and take `true` and `1`."""
CHOICES: dict[str, tuple[str, ...]] = {
    "VLLM_WORKER_MULTIPROC_METHOD": ("spawn", "fork"),
    "VLLM_KV_CACHE_LAYOUT": ("NHD", "HND", "LBNHC", "LBHNC", "LHBNC", "BLHNC", "BLNHC", "BHLNC"),
    "VLLM_DEEP_GEMM_WARMUP": ("skip", "full", "relax"),
    "VLLM_MARLIN_INPUT_DTYPE": ("int8", "fp8"),
    "VLLM_LOGGING_LEVEL": ("CRITICAL", "FATAL", "ERROR", "WARN", "WARNING", "INFO", "DEBUG", "NOTSET"),
}
"""Variables that take one of a few words, capitals or not."""
