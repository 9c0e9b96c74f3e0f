"""What vLLM and what it is built of say while an engine starts: its image, its model, its options, its place.

A table only; the texts are those of vLLM, PyTorch, Transformers and compilers.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.sign import Sign

STARTING: tuple[Sign, ...] = (
    Sign(
        "engine/no-nvcc",
        r"(?P<line>Could not find nvcc|nvcc: not found|nvcc: No such file|No such file or directory: '[^'\n]*nvcc'"
        r"|nvcc is not (?:found|available|installed)|CUDA_HOME(?: environment variable)? is not set|nvcc_home\.empty)",
        "the image has no CUDA compiler (nvcc), and a kernel is to be compiled at start",
        "use an image with the CUDA toolkit (vllm/vllm-openai has it) and CUDA_HOME set to it, or switch off "
        "what compiles: "
        "VLLM_USE_FLASHINFER_SAMPLER=0, VLLM_USE_DEEP_GEMM=0",
    ),
    Sign(
        "engine/no-compiler",
        r"Failed to find C compiler|cannot find -l(?:cuda|cudart|stdc\+\+)"
        r"|CalledProcessError: Command '\[[^\n]{0,80}/(?:gcc|cc|clang)'"
        r"|(?:gcc|cc1plus|x86_64-linux-gnu-gcc)[^\n]{0,40}(?:not found|No such file)"
        r"|Python\.h: No such file|No such file or directory: 'ninja'|ninja: (?:command )?not found"
        r"|Ninja is required to load",
        "the image has no C compiler, Python headers or ninja, which Triton and torch.compile need at start",
        "use an image that has gcc and python3-dev (vllm/vllm-openai has), or --enforce-eager",
    ),
    Sign(
        "engine/kernel",
        r"(?P<why>(?:ninja|nvcc|cicc|gcc|cc1plus)[^\n]{0,200}(?:exit status (?:137|-9)\b|SIGKILL|signal 9)"
        r"|FAILED: \[code=(?:137|143)\]|(?:nvcc|cicc|cc1plus|ptxas)[^\n]{0,160}(?:[Kk]illed"
        r"|died due to signal 9)"
        r"|(?:^|: )Killed\n(?:[^\n]{0,200}\n){0,4}?ninja: build stopped|ninja: build stopped: interrupted)",
        "kernels are compiled at start, and the compiler was killed ({why}): each of its jobs takes up to 8 GiB of "
        "host "
        "memory, and there is one for each core of the node",
        "MAX_JOBS=4 (memory limit / 8 GiB) in env, or a higher memory limit; keep what is compiled on a volume "
        "(FLASHINFER_WORKSPACE_BASE, VLLM_CACHE_ROOT)",
        certain=False,
        any_level=True,
    ),
    Sign(
        "engine/lora",
        r"No adapter found for (?P<path>[^\n]{1,160})",
        "there is no adapter at {path}: the path is not in the container (no adapter_config.json there), or is "
        "written "
        "with more than itself (quotes, brackets)",
        "--lora-modules NAME=PATH (or its JSON form) with the path as the container sees it: kubectl exec POD -- "
        "ls; a name "
        "on the hub needs the network",
        certain=False,
    ),
    Sign(
        "engine/lora",
        r"(?P<model>[A-Z]\w*(?:For[A-Z]\w+|Model|LM)) does not support LoRA",
        "this vLLM serves no adapters for {model}",
        "a newer vLLM image may; else merge the adapter into the base model and serve that, without --enable-lora",
    ),
    Sign(
        "engine/lora",
        r"(?P<what>[\w .+-]{2,80}) does not (?:yet )?support LoRA",
        "{what} does not go with adapters (--enable-lora)",
        "the one or the other: take that option or backend out (--moe-backend auto or triton for experts), or "
        "merge the "
        "adapter into the base model and serve that",
        certain=False,
    ),
    Sign(
        "engine/expert-parallel",
        r"(?P<why>DeepEP error[^\n]{0,80}|NVSHMEM[^\n]{0,20}(?:ERROR|error|failed|abort)[^\n]{0,80}"
        r"|nvshmem\w*_init[^\n]{0,40}fail"
        r"|IBGDA[^\n]{0,60}(?:fail|error)|deep_ep[^\n]{0,40}(?:assert|timeout)[^\n]{0,60})",
        "the exchange between experts on several GPUs fails: {why}",
        "RDMA devices in the Pods' limits and IPC_LOCK, one image and one clock of starts for all ranks (a rank "
        "that loads "
        "longer makes the others time out); --all2all-backend allgather_reducescatter goes without DeepEP",
        certain=False,
        any_level=True,
    ),
    Sign(
        "engine/kernel",
        r"(?P<error>(?:FileNotFoundError|OSError(?!: \[Errno (?:13|28|30|122)\])|FileExistsError|EOFError"
        r"|BadZipFile|UnpicklingError)[^\n]{0,80}"
        r"(?P<path>/[^'\n]{0,120}(?:\.triton|triton_cache|torchinductor|torch_compile_cache|torch_aot_compile"
        r"|cached_ops"
        r"|tvm-ffi|\.cache/vllm|\.cache/flashinfer)[^'\n]{0,160}))",
        "the folder of compiled kernels does not hold what a process has just put there: several Pods or ranks "
        "share it, "
        "or its file system (NFS, a bucket) lacks what they need",
        "TRITON_CACHE_DIR, TORCHINDUCTOR_CACHE_DIR, VLLM_CACHE_ROOT and FLASHINFER_WORKSPACE_BASE: a writable "
        "cache on a "
        "local disk (an emptyDir), for each Pod its own, and empty it once; newer PyTorch (2.10) and Triton write "
        "it in one step",
        certain=False,
    ),
    Sign(
        "engine/heads",
        r"must be divisible by tensor parallel size[^\n]{0,60}",
        "the tensor-parallel size does not divide the model's heads",
        "use a power of two that divides the heads; seawall plan",
    ),
    Sign(
        "engine/ranks",
        r"[Tt]ensor parallel size \(\d+\) (?:cannot be larger than the number of available GPUs"
        r"|exceeds available GPUs)"
        r"|World size \(\d+\) is larger than the number of|required \w+s exceeds the total number of available \w+s"
        r"|replica size \(\d+\) exceeds the number of visible \w+ devices"
        r"|Expected \d+ GPUs[^\n]{0,40} but (?:only )?found",
        "more ranks are asked for than the Pod has GPUs",
        "make the GPU limit equal to --tensor-parallel-size x --pipeline-parallel-size; over several nodes: "
        "--nnodes with "
        "--node-rank and --master-addr, or --distributed-executor-backend ray",
    ),
    Sign(
        "image/platform",
        r"exec (?P<program>/\S{1,120}): exec format error",
        "the image is for another CPU architecture: {program} does not run here",
        "choose nodes by kubernetes.io/arch, or an image for this one (arm64 on GB200, GH200 and Graviton)",
    ),
)
"""In this order: an earlier sign explains a later one."""
