"""What vLLM refuses of its options and packages once it has read them, and files that it looks for in vain.

A table only; the texts are those of vLLM, pydantic and Python.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.sign import Sign

REFUSALS: tuple[Sign, ...] = (
    Sign(
        "engine/bad-config",
        r"`?limit_mm_per_prompt`? is only supported for multimodal models",
        "this vLLM takes the model for one of text only, and limits for pictures are set (limit_mm_per_prompt)",
        "leave --limit-mm-per-prompt out; if the model does take pictures, a newer vLLM image knows it as multimodal",
    ),
    Sign(
        "engine/bad-config",
        r"LoRA rank (?P<rank>\d+) is greater than max_lora_rank (?P<most>\d+)",
        "the adapter's rank {rank} is above --max-lora-rank ({most})",
        "--max-lora-rank {rank} (the largest rank of all adapters)",
    ),
    Sign(
        "engine/bad-config",
        r"[Hh]ybrid KV cache manager (?:is disabled|is not supported)[^\n]{0,120}"
        r"|(?P<who>\w+) does not support (?:the )?(?:HMA|hybrid (?:memory allocator|KV cache))[^\n]{0,60}",
        "the model keeps more than one kind of cache (hybrid), and the manager for it is off: {who} a KV connector "
        "that "
        "knows one kind only switches it off, or --disable-hybrid-kv-cache-manager",
        "--no-disable-hybrid-kv-cache-manager, with a connector that knows hybrid models (NIXL, newer LMCache); "
        "else without "
        "--kv-transfer-config",
        certain=False,
    ),
    Sign(
        "engine/bad-config",
        r"(?P<why>Model Runner V2[^\n]{0,160}|V2 [Mm]odel [Rr]unner[^\n]{0,100}(?:not|only)[^\n]{0,80})",
        "vLLM's second model runner does not do what this model or an option asks for: {why}",
        "VLLM_USE_V2_MODEL_RUNNER=0 takes the first one; a newer vLLM image may do it",
        certain=False,
    ),
    Sign(
        "engine/bad-config",
        r"(?P<why>Could not match a profile in manifest|Detected 0 compatible profile"
        r"|[Nn]o compatible profiles? (?:found"
        r"|detected)|[Uu]nknown profiles? provided)",
        "NVIDIA's NIM image has no build of this model for these GPUs, or not the profile that is named: {why}",
        "list-model-profiles in the image shows those that fit; NIM_MODEL_PROFILE to one of them (a vllm- profile of "
        "the GPUs' number and memory), or without it; GPUs in limits that a profile is made for",
        certain=False,
    ),
    Sign(
        "engine/import",
        r"requires?:? `?(?P<package>(?!Python\b)[A-Za-z][\w.-]{1,40})`? ?\(?(?P<version>(?:>=|==|<=|<|>"
        r"|~=) ?\d[\w.,<>=]*)"
        r"|(?P<needed>[a-z][\w-]{1,40}(?:[<>=!~]=?[\w.]+,?)+) is required for a normal functioning",
        "a package of the image has another version than is asked for: {package} {version}{needed}",
        "an image that brings it (mostly a newer vLLM; for transformers above all), or install "
        "{package}{version}{needed} in "
        "a build of your own",
    ),
    Sign(
        "engine/bad-config",
        r"validation errors? for \w*(?:Config"
        r"|Args)\b(?:\n[^\n]{0,200}){0,3}?\n[^\n]{0,160}?\b(?:Value error|Assertion failed), (?P<why>[^\n\[]{5,240})"
        r"|(?P<quantization>Unknown quantization method: \S+"
        r"|Quantization method specified in the model config[^\n]{0,160})",
        "vLLM refuses its configuration: {why}{quantization}",
        "change what the message names; seawall lint and seawall plan check the same before",
    ),
    Sign(
        "engine/bad-config",
        r"(?:ValueError|AssertionError|NotImplementedError): "
        r"(?P<refusal>(?!Method ')[^\n]{0,120}?(?:(?:is|are) not supported (?:for|by|with) this model"
        r"|(?:is|are) not supported (?:together )?with|should have the same|(?:is )?(?:not compatible"
        r"|incompatible) with"
        r"|cannot be used (?:with|together)"
        r"|is only supported (?:on|for|with)|is disabled but|is greater than max_|(?:is|are) not divisible by"
        r"|currently (?:only )?(?:requires|supports)|requires (?:--|`|the |expert|tensor|data|chunked|prefix"
        r"|enforce|setting)"
        r"|does not (?:yet )?support|(?:not|un)(?: yet)? ?(?:supported|implemented)(?: yet)?\.?$"
        r"|must be (?:set|enabled|disabled|one of"
        r"|a multiple|divisible"
        r"|at least|less than|greater than|smaller|equal)|cannot be (?:enabled|disabled|set|combined)"
        r"|[Pp]lease (?:set|use|specify|disable|enable|pass|increase|decrease|reduce|lower))[^\n]{0,160})",
        "vLLM refuses its configuration: {refusal}",
        "change what the message names (or leave that option out); where the options are as they should be, "
        "this release "
        "lacks it: a newer vLLM image first. seawall lint and seawall plan check the same before",
        weight=80,
        certain=False,
    ),
    Sign(
        "engine/bad-config",
        r"validation errors? for \w+\n(?:[^\n]{0,20}\] ?)?(?P<field>[A-Za-z][\w.]{1,80})\n[^\n]{0,100}?"
        r"(?P<wrong>Input should be[^\n\[]{3,200}|Extra inputs are not permitted|Unexpected keyword argument"
        r"|Field required)[^\n]{0,40}(?:input_value=(?P<given>[^\n,\]]{1,60}))?",
        "vLLM refuses its configuration: {field}: {wrong} {given}",
        "change what the message names; seawall lint and seawall plan check the same before",
    ),
    Sign(
        "gpu/not-visible",
        r"No platform detected, vLLM is running on UnspecifiedPlatform",
        "the container sees no GPU",
        "ask for nvidia.com/gpu in limits; is the device plugin running? kubectl -n kube-system get pods | grep nvidia",
        any_level=True,
    ),
    Sign(
        "engine/no-file",
        r"FileNotFoundError: \[Errno 2\] No such file or directory: '(?P<path>/[^'\n]{1,200})'",
        "there is no {path} in the container",
        "mount what it is in (a ConfigMap, a Secret, a volume) at that path, or correct the path: kubectl exec "
        "POD -- ls; did "
        "what fills it run before?",
        weight=80,
        certain=False,
    ),
)
"""In this order: an earlier sign explains a later one."""
