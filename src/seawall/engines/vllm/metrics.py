"""Metrics of vLLM that we read, by their series names in PromQL. A test holds them against the catalogue of versions.

Counters end in `_total`; a histogram stands here by its base name (`_bucket`, `_sum`, `_count` follow it).
"""

from __future__ import annotations

PREFIX = "vllm:"

RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
WAITING_BY_REASON = "vllm:num_requests_waiting_by_reason"
KV_USAGE = "vllm:kv_cache_usage_perc"
"""Share of the KV cache in use, 0 to 1."""
SLEEP_STATE = "vllm:engine_sleep_state"
CACHE_CONFIG = "vllm:cache_config_info"

PROMPT_TOKENS = "vllm:prompt_tokens_total"
GENERATION_TOKENS = "vllm:generation_tokens_total"
PREEMPTIONS = "vllm:num_preemptions_total"
FINISHED = "vllm:request_success_total"
REJECTIONS = "vllm:admission_rejections_total"
PREFIX_QUERIES = "vllm:prefix_cache_queries_total"
PREFIX_HITS = "vllm:prefix_cache_hits_total"

TOKENS_PER_STEP = "vllm:iteration_tokens_total"
"""A histogram with one observation per step of the scheduler."""
STEPS = f"{TOKENS_PER_STEP}_count"
TTFT = "vllm:time_to_first_token_seconds"
TPOT = "vllm:request_time_per_output_token_seconds"
PREFILL_S = "vllm:request_prefill_time_seconds_sum"
PREFILLED_TOKENS = "vllm:request_prefill_kv_computed_tokens_sum"
"""Prompt tokens that were computed, not found in the prefix cache."""

MARKS = (STEPS, GENERATION_TOKENS, PROMPT_TOKENS, KV_USAGE, RUNNING, WAITING, PREEMPTIONS)
"""Written by the engine after a step, and by nothing else: signs of life (`decide.route.evidence`). A prefill moves
only the use of the KV cache (seen on 0.32). FINISHED is not one: an API server alone can raise it."""
