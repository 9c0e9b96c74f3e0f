"""What logs say when memory does not suffice: the GPU's, the KV cache's, a CPU engine's, /dev/shm.

A table only; the texts are those of vLLM, PyTorch, NCCL and the kernel.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.sign import Sign

MEMORY: tuple[Sign, ...] = (
    Sign(
        "engine/cpu-memory",
        r"Available memory on node \d+ \((?P<free>[\d.]+)/(?P<all>[\d.]+) GiB\) on (?:startup|kv cache "
        r"allocation) is less than (?:desired CPU memory utilization \([\d.]+, (?P<share>[\d.]+) GiB\)"
        r"|requested memory for kv \((?P<kv>[\d.]+)[^)]*GiB\))",
        "on this CPU the engine wants {share}{kv} GiB of memory at once, and {free} of {all} GiB are free",
        "set engine.kvCacheMemory (--kv-cache-memory-bytes) to less than what is free, or stop something; "
        "seawall plan "
        "says which context still fits into it",
    ),
    Sign(
        "engine/kv-too-small",
        r"max seq len \(?(?P<len>\d+)\)?[^\n]{0,30}?\(?(?P<needs>[\d.]+) GiB KV cache is needed, "
        r"which is larger than the available KV cache memory "
        r"\((?P<gib>[\d.]+) GiB\)[^\n]{0,80}?estimated maximum model length is (?P<fits>\d+)",
        "one request of max_model_len {len} needs {needs} GiB of KV cache, and {gib} GiB are left: {fits} tokens fit",
        "--max-model-len {fits} (spec.traffic.maxContext); for more: --kv-cache-dtype fp8, more GPUs, a higher "
        "--gpu-memory-utilization, or another --attention-backend (FlashInfer keeps a larger workspace than "
        "FLASH_ATTN)",
    ),
    Sign(
        "engine/kv-too-small",
        r"(?:max seq len \(?(?P<len>\d+)\)?[^\n]{0,120})?(?:larger than the (?:maximum number "
        r"of tokens that can be stored in KV cache(?: \((?P<has>\d+)\))?"
        r"|available KV cache memory \((?P<gib>[\d.]+) GiB\)))",
        "one request of max_model_len does not fit into the KV cache",
        "set --max-model-len lower (the log's last line names the largest), more GPUs, or "
        "--kv-cache-dtype fp8; seawall plan does the sum",
    ),
    Sign(
        "engine/no-kv-memory",
        r"No available memory for the cache blocks|Available KV cache memory(?: is|:) -[\d.]+ GiB",
        "the weights and one step's activations leave no memory for the KV cache",
        "lower --max-num-batched-tokens (and --max-num-seqs), or raise --gpu-memory-utilization; if the weights "
        "alone fill "
        "the GPU: more tensor parallelism, a larger GPU, or a quantized checkpoint (seawall plan names the cheapest)",
        any_level=True,
    ),
    Sign(
        "gpu/out-of-memory",
        r"(?:torch\.(?:cuda\.)?OutOfMemoryError|(?:CUDA|HIP|XPU|NPU|HPU) out of memory"
        r"|(?:CUDA|HIP)(?: driver)? error: out of memory|CUDART error: out of memory"
        r"|Triton Error \[\w+\]: out of memory|(?:CUDA|Cuda|HIP) failure (?:2|\d*:? ?'out of memory')"
        r"|cuMem\w{3,30} failed res=2"
        r"|CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation|hipErrorOutOfMemory"
        r"|CUBLAS_STATUS_ALLOC_FAILED|UR_RESULT_ERROR_OUT_OF_(?:DEVICE_MEMORY|RESOURCES)"
        r"|ZE_RESULT_ERROR_OUT_OF_DEVICE_MEMORY"
        r"|RESOURCE_EXHAUSTED: [^\n]{0,40}[Rr]an out of memory"
        r"|[Rr]an out of memory in memory space hbm)(?:[^\n]{0,80}Tried to allocate (?P<size>[\d.]+ [KMG]iB))?",
        "the GPU's memory ran out (CUDA, not the host's)",
        "more tensor parallelism, lower --gpu-memory-utilization or --max-num-seqs; seawall "
        "plan does the sum",
    ),
    Sign(
        "gpu/out-of-memory",
        r"NVML_SUCCESS == r INTERNAL ASSERT FAILED",
        "the GPU's memory ran out (PyTorch asks NVML for the sums only then, and was refused: a vGPU, WSL, a slice)",
        "lower --gpu-memory-utilization, --max-num-seqs or --max-num-batched-tokens; seawall plan does the sum",
        certain=False,
    ),
    Sign(
        "engine/bad-config",
        r"[Ee]xpandable[ _]segments[^\n]{0,60}(?:not (?:compatible|supported|allowed)|unsupported|conflict"
        r"|incompatible)"
        r"[^\n]{0,100}",
        "expandable segments of PyTorch's allocator do not go with what this start asks for (sleep mode, offloading)",
        "take expandable_segments:True out of PYTORCH_CUDA_ALLOC_CONF (PYTORCH_ALLOC_CONF), or start without "
        "--enable-sleep-mode or what is offloaded",
    ),
    Sign(
        "engine/shm",
        r"(?:NCCL WARN[^\n]{0,80}(?:shared memory segment|posix_fallocate)[^\n]{0,200}"
        r"|(?:creating|attaching to) shared memory segment /dev/shm[^\n]{0,80}"
        r"|/dev/shm[^\n]{0,100}No space left on device|Insufficient space in /dev/shm[^\n]{0,160}"
        r"|(?:shared_memory\.py|shm_broadcast|psm_\w+)[^\n]{0,200}(?:\n[^\n]{0,300}){0,6}?No space left on device"
        r"|Bus error[^\n]{0,60}|SIGBUS|insufficient shared memory \(shm\))",
        "/dev/shm is too small for the ranks of a replica (64 MiB in a Pod)",
        "mount an emptyDir {{medium: Memory, sizeLimit: 8Gi}} at /dev/shm",
        any_level=True,
    ),
)
"""In this order: an earlier sign explains a later one."""
