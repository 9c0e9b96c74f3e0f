"""Environment variables of vLLM that we set, look for, or refuse."""

from __future__ import annotations

API_KEY = "VLLM_API_KEY"
CACHE_ROOT = "VLLM_CACHE_ROOT"
"""Compiled kernels and graphs; without it they lie under the home folder."""
DEV_MODE = "VLLM_SERVER_DEV_MODE"
"""Opens /sleep, /pause, /collective_rpc and the like, without a key."""
LORA_UPDATES = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
"""Opens /v1/load_lora_adapter and its opposite."""
PORT = "VLLM_PORT"
"""Of its workers, not of its API; a Service named `vllm` sets it by accident."""
READY_TIMEOUT_S = "VLLM_ENGINE_READY_TIMEOUT_S"
"""How long the API server waits for its engine before it gives up; 600 s."""
TARGET_DEVICE = "VLLM_TARGET_DEVICE"
KEEP_ALIVE_ON_ENGINE_DEATH = "VLLM_KEEP_ALIVE_ON_ENGINE_DEATH"
"""`1`: the API server outlives its engine and answers 500."""
