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
