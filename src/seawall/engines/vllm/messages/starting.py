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
        "engine/chat-template",
        r"(?:supplied chat template|chat template string)[^\n]{0,40}\((?P<path>[^)\n]{1,200})\)[^\n]{0,60}"
        r"(?:path-like|looks like a file path|failed to be opened|doesn't exist)",
        "the chat template {path} is not in the container",
        "mount it (a ConfigMap) at that path; vLLM's own templates are in /vllm-workspace/examples",
    ),
    Sign(
        "engine/model-files",
        r"HarmonyError: error downloading or loading vocab|failed to download or load vocab",
        "gpt-oss' vocabulary (o200k_base.tiktoken) is not in the image and cannot be downloaded",
        "put o200k_base.tiktoken and cl100k_base.tiktoken into a volume and name its folder in "
        "TIKTOKEN_ENCODINGS_BASE, or let "
        "the Pod out to openaipublic.blob.core.windows.net (a proxy's CA has to be in the image's own store)",
    ),
    Sign(
        "engine/import",
        r"Please install vllm\[(?P<extra>[\w-]+)\]",
        "the image lacks what vLLM needs for this kind of input (vllm[{extra}])",
        "an image of your own: FROM this one, pip install what vllm[{extra}] lists (audio: librosa, "
        "soundfile), of the same "
        "version",
        weight=70,
        any_level=True,
        alive=True,
    ),
    Sign(
        "engine/lora",
        r"(?P<model>\w+) does not support LoRA",
        "this vLLM serves no adapters for {model}",
        "a newer vLLM image may; else merge the adapter into the base model and serve that, without --enable-lora",
    ),
    Sign(
        "engine/model-files",
        r"AttributeError: '(?P<kind>\w*Tokenizer\w*)' object has no attribute '(?P<lacks>\w+)'",
        "the tokenizer that was chosen ({kind}) lacks what asks it ({lacks}): --tokenizer-mode, or the release "
        "of Transformers, "
        "does not fit these files",
        "--tokenizer-mode auto (or hf) for a repository in Hugging Face's form; mistral, with --config-format "
        "and --load-format "
        "mistral, only where tekken.json and params.json are; else an image whose Transformers fits them",
        certain=False,
    ),
    Sign(
        "engine/model-files",
        r"(?P<why>No tokenizer file found[^\n]{0,80}|Can't load (?:tokenizer|image processor|feature extractor"
        r"|processor|video "
        r"processor) for[^\n]{0,80}|does not appear to have a file named (?!config\.json)[^\n]{0,60}"
        r"|Couldn't instantiate the "
        r"backend tokenizer|Tokenizer class \w+ does not exist[^\n]{0,40}"
        r"|data did not match any variant of untagged enum \w+"
        r"|Unrecognized (?:processing|image processor|video processor|feature extractor)[^\n]{0,60}"
        r"|Can't instantiate a processor"
        r"|requires the (?:tiktoken|sentencepiece|protobuf|blobfile|mistral_common) library[^\n]{0,40}"
        r"|chat template is required|tokenizer has no (?:chat_template|vocab)[^\n]{0,60})",
        "the model's tokenizer or processor cannot be read: {why}",
        "is the file there (tokenizer.json, preprocessor_config.json, params.json for Mistral)? One that a newer "
        "Transformers wrote needs a newer image; --tokenizer, --tokenizer-mode",
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
        r"(?P<error>(?:FileNotFoundError|OSError|FileExistsError|EOFError|BadZipFile|UnpicklingError)[^\n]{0,80}"
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
        "engine/unsupported-model",
        r"GGUF model with architecture (?P<name>[\w.-]+) is not supported"
        r"|Architecture (?P<older>[\w.-]+) not supported",
        "the Transformers of this image cannot read a GGUF file of the architecture {name}{older}",
        "the model's safetensors (or an AWQ, FP8 checkpoint) instead of GGUF; REPO:QUANT with --hf-config-path and "
        "--tokenizer of the original model; or a newer image",
    ),
    Sign(
        "engine/unsupported-model",
        r"(?:Model architectures? \[[^\]]*\] (?:are|is) not supported|has no vLLM "
        r"implementation|model type `?[\w-]+`? but Transformers does not "
        r"recognize)[^\n]{0,160}",
        "this vLLM does not know the model's architecture",
        "pin a newer vLLM image",
    ),
    Sign(
        "engine/unsupported-model",
        r"Model architectures? \[[^\]]*\] failed to be inspected",
        "this vLLM cannot load its class for the model's architecture",
        "the first traceback above says why (a library that is missing or too old): pin a newer vLLM image",
        certain=False,
    ),
    Sign(
        "engine/remote-code",
        r"contains custom code which must be executed|requires you to execute the (?:configuration|modeling"
        r"|model) file"
        r"|(?:pass the argument|set the option) `trust_remote_code=True`",
        "the model brings its own Python code, and vLLM was not told to trust it",
        "read that code; then add --trust-remote-code (engine.extraArgs) and pin the revision",
    ),
    Sign(
        "weights/other-format",
        r"Following weights were not initialized from checkpoint: \{[^}\n]{0,80}(?P<head>score|classifier"
        r"|classification_head)",
        "the checkpoint has no head of its own for what it is to do ({head}): it was trained to answer yes or no "
        "by its "
        "words, or to write",
        '--hf-overrides \'{{"architectures": ["...ForSequenceClassification"], "classifier_from_token": ["no", '
        '"yes"], '
        "\"is_original_qwen3_reranker\": true}}' as the model's card says (Qwen3's rerankers), or a checkpoint "
        "that was "
        "converted (-seq-cls); --convert embed for embeddings",
        certain=False,
    ),
    Sign(
        "weights/other-format",
        r"There is no module or parameter named '?(?P<name>[\w.]+)"
        r"|Following weights were not initialized from checkpoint"
        r"|Unexpected key\(s\) in state_dict",
        "the weight files are not those of the model that vLLM builds ({name})",
        "is the folder one model's, whole and unmixed? A newer vLLM may know the format; seawall pull verifies files",
        certain=False,
    ),
    Sign(
        "image/platform",
        r"exec (?P<program>/\S{1,120}): exec format error",
        "the image is for another CPU architecture: {program} does not run here",
        "choose nodes by kubernetes.io/arch, or an image for this one (arm64 on GB200, GH200 and Graviton)",
    ),
    Sign(
        "engine/import",
        r"ImportError: \S{0,200}?(?:site|dist)-packages/(?P<package>(?!vllm/)[A-Za-z][\w-]*)[/.]"
        r"[^\n]{0,160}undefined symbol",
        "the compiled part of {package} was not built for the PyTorch of this image",
        "the {package} that was released for this very vLLM and PyTorch (its notes name the pair, or its own image "
        "brings "
        "both); without {package} the engine starts: take out the option that asks for it",
    ),
    Sign(
        "engine/import",
        r"ImportError: (?P<library>lib(?:cudart|cublas\w*|cudnn\w*|nvrtc|nvJitLink|cusparse\w*"
        r"|nccl)\.so\.(?P<major>\d+)): "
        r"cannot open shared object file",
        "what is installed was built for CUDA {major}, and the image has no {library}: wheels of two CUDA "
        "releases are "
        "mixed",
        "one CUDA for all: an image whose tag names CUDA {major} (-cu129, -cu130), or vLLM, PyTorch and what is "
        "beside "
        "them installed from one index of CUDA {major} wheels",
    ),
    Sign(
        "engine/import",
        r"(?:ModuleNotFoundError: No module named|ImportError: [^\n]{0,160}(?:undefined symbol"
        r"|cannot open shared object file|version `[^'\n]*' not found))[^\n]{0,120}",
        "a Python package of the image is missing or was built against another version",
        "use vLLM's own image unchanged, or install the package in a build of your own (not at start)",
    ),
)
"""In this order: an earlier sign explains a later one."""
