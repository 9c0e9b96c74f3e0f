"""What vLLM refuses of its options and packages once it has read them, and files that it looks for in vain.

A table only; the texts are those of vLLM, pydantic and Python.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.sign import Sign

REFUSALS: tuple[Sign, ...] = (
    Sign(
        "engine/bad-config",
        r"Quantization method specified in the model config \((?P<is>[\w-]+)\) does not match[^\n]{0,80}"
        r"\((?P<asked>[\w-]+)\)",
        "--quantization {asked} is set, and the checkpoint is quantized with {is}",
        "leave --quantization out: vLLM reads it from the checkpoint; or a checkpoint that is quantized with {asked}",
    ),
    Sign(
        "engine/bad-config",
        r"[Uu]nknown quantization(?: method)?[:=] ?'?(?P<name>[\w.-]+)"
        r"|(?P<here>[\w-]+) quantization is currently not supported in (?P<where>\w+)",
        "this vLLM knows no quantization {name}{here} {where}",
        "its spelling; a newer vLLM image (some were taken out again: fp6, aqlm, marlin, deepspeedfp; they have "
        "another "
        "checkpoint); on other vendors' devices a checkpoint of a kind that they have",
        certain=False,
    ),
    Sign(
        "engine/bad-config",
        r"[Tt]arget and draft model should have the same vocabulary size[^\n]{0,120}",
        "the draft model's vocabulary is another than the model's: they cannot check each other",
        "a draft of the same family and release (compare vocab_size in both config.json), or another method (ngram, "
        "suffix, the model's own MTP layers)",
    ),
    Sign(
        "engine/bad-config",
        r"(?P<why>No common block size for[^\n]{0,60}|page size is not divisible by the maximum page size[^\n]{0,40}"
        r"|attention backends share no supported KV cache block size[^\n]{0,40}"
        r"|[Bb]lock[ _]size[^\n]{0,60}not supported by[^\n]{0,60})",
        "the model's kinds of layers cannot share one size of KV cache blocks: {why}",
        "leave --block-size and --mamba-block-size out (or a multiple of 16 that all take); --kv-cache-dtype "
        "auto; another "
        "--attention-backend; --no-enable-prefix-caching for models with a state; a newer vLLM image",
        certain=False,
    ),
    Sign(
        "engine/bad-config",
        r"Only one platform plugin can be activated",
        "two packages in the image each bring a platform of their own to vLLM",
        "VLLM_PLUGINS names the one that is to be loaded; uninstall the other (or take vLLM's image for this device "
        "unchanged)",
    ),
    Sign(
        "engine/bad-config",
        r"numactl is required for NUMA binding|NUMA binding was requested|doesn't support auto CPU binding"
        r"|(?:Failed to|Cannot) (?:set|get|bind)[^\n]{0,30}(?:NUMA|mempolicy|memory policy)|set_mempolicy[^\n]{0,60}",
        "binding to CPUs or NUMA nodes is asked for and cannot be had in this container",
        "start without --numa-bind (VLLM_CPU_OMP_THREADS_BIND=nobind on CPU engines), or numactl in the image and "
        "CAP_SYS_NICE for the container; --numa-bind-nodes where the topology cannot be read",
        certain=False,
    ),
    Sign(
        "container/segfault",
        r"requires? (?P<isa>AVX512\w*|AVX2|AMX\w*)|(?P<lacks>AVX512\w*|AVX2|AMX\w*) (?:is )?(?:not (?:supported"
        r"|available)|required)",
        "this CPU lacks {isa}{lacks}, which the image was built for",
        "an image for this CPU (vLLM's CPU images choose AVX2 or AVX512 by themselves from 0.17 on), or nodes "
        "that have it "
        "(lscpu)",
        certain=False,
    ),
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
        "engine/bad-config",
        r"validation errors? for \w*(?:Config"
        r"|Args)\b(?:\n[^\n]{0,200}){0,3}?\n[^\n]{0,160}?\b(?:Value error|Assertion failed), (?P<why>[^\n\[]{5,240})"
        r"|(?P<quantization>Unknown quantization method: \S+"
        r"|Quantization method specified in the model config[^\n]{0,160})",
        "vLLM refuses its configuration: {why}{quantization}",
        "change what the message names; where it is as it should be, a newer vLLM image; seawall lint and "
        "seawall plan "
        "check the same before",
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
        "change what the message names; where it is as it should be, a newer vLLM image; seawall lint and "
        "seawall plan "
        "check the same before",
    ),
    Sign(
        "gpu/not-visible",
        r"No platform detected, vLLM is running on UnspecifiedPlatform",
        "the container sees no GPU",
        "ask for nvidia.com/gpu in limits; is the device plugin running? kubectl -n kube-system get pods | grep "
        "nvidia",
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
