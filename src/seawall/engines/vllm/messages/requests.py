"""What an engine that runs answers to requests, and between engines: they are refused, and the engine goes on.

A table only; the texts are those of vLLM's API server and of its KV connectors.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.sign import Sign

REQUESTS: tuple[Sign, ...] = (
    Sign(
        "engine/chat-template",
        r"default chat template is no longer allowed|you must provide a chat template"
        r"|tokenizer\.chat_template is not set|[Cc]annot use chat template functions",
        "the model's tokenizer brings no chat template: /v1/chat/completions is refused with 400",
        "--chat-template FILE, mounted (vLLM's own are in /vllm-workspace/examples); is the model an instruct "
        "one, and is "
        "chat_template.jinja among its files? Base models answer /v1/completions",
        weight=45,
        certain=False,
        any_level=True,
        request=True,
    ),
    Sign(
        "engine/tool-choice",
        r"\\?\"auto\\?\" tool choice requires|tool choice requires --enable-auto-tool-choice"
        r"|tool_choice=[^\n]{0,40} requires --tool-call-parser",
        "requests bring tools, and the engine was started without a parser for them: they are refused with 400",
        "--enable-auto-tool-choice and --tool-call-parser NAME of the model's family (spec.engine.extraArgs); "
        "some need "
        "--chat-template too",
        weight=45,
        certain=False,
        any_level=True,
        request=True,
    ),
    Sign(
        "engine/multimodal-limit",
        r"(?:image|video|audio) item with length (?P<has>\d+), which exceeds the pre-allocated encoder cache size "
        r"(?P<cache>\d+)|At most (?P<most>\d+) (?P<kind>image|video|audio)\(s\) may be provided",
        "requests bring larger or more pictures than the engine made room for ({has}{most} {kind} {cache})",
        "--limit-mm-per-prompt for the count and size, --max-num-batched-tokens above the longest item, or "
        "--mm-processor-kwargs that shrink pictures",
        weight=45,
        certain=False,
        any_level=True,
        request=True,
    ),
    Sign(
        "engine/context",
        r"maximum context length is (?P<most>\d+) tokens\. However, (?:you requested|your request has) (?P<has>\d+)",
        "requests are longer ({has} tokens) than the engine's context of {most}: they are refused with 400",
        "a larger --max-model-len (spec.traffic.maxContext; seawall plan says whether it fits), or clients that "
        "send less",
        weight=40,
        certain=False,
        any_level=True,
        request=True,
    ),
    Sign(
        "engine/no-such-model",
        r"The model `(?P<name>[^`\n]{1,120})` does not exist",
        "requests name the model {name}, which this engine does not serve: they are refused with 404",
        "--served-model-name has to be what clients send (GET /v1/models lists it); an adapter has to be loaded: "
        "--lora-modules",
        weight=40,
        certain=False,
        any_level=True,
        request=True,
    ),
    Sign(
        "engine/nixl",
        r"(?P<what>WAITING_FOR_REMOTE_KVS|[Ff]ailed to (?:pull|receive|load) (?:remote )?KV|KV transfer[^\n]{0,60}"
        r"(?:timed out|failed|aborted)|Releasing expired KV blocks)",
        "requests wait for KV blocks of the prefill engine that do not come ({what})",
        "both sides of one image (vLLM, NIXL and the routing sidecar of one release), the same model, "
        "tensor-parallel size and "
        "block size; VLLM_NIXL_SIDE_CHANNEL_HOST=the Pod's IP and its port open between the Pods; UCX_TLS and RDMA "
        "devices "
        "alike on both; the prefill engine's log at that moment",
        weight=78,
        certain=False,
        any_level=True,
        alive=True,
    ),
    Sign(
        "engine/ray-health",
        r"Didn't receive health check response for replica Replica\((?P<replica>[^)\n]{1,160})\)[^\n]{0,40}"
        r"after (?P<time>[\d.]+)s",
        "Ray Serve gets no health answer of {replica} within {time} s and replaces it: a busy engine answers late",
        "a longer health_check_timeout_s (and health_check_period_s) of the deployment, fewer requests at "
        "once per replica "
        "(max_ongoing_requests); if its load is low, the engine hangs: its own log",
        weight=80,
        certain=False,
        any_level=True,
        alive=True,
    ),
    Sign(
        "engine/nixl",
        r"NIXL agent engine ID mismatch|Remote NIXL agent[^\n]{0,40}mismatch",
        "the decode engine asked another prefill engine than it meant: all of them give out one address (NIXL)",
        "VLLM_NIXL_SIDE_CHANNEL_HOST=the Pod's own IP (status.podIP) in every Pod, and "
        "VLLM_NIXL_SIDE_CHANNEL_PORT of its own where several engines share one address",
        certain=False,
        any_level=True,
        alive=True,
    ),
)
"""`request`: told only of programs that run, and never before a cause."""
