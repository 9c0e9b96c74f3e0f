"""What logs say when a GPU, or the image for it, cannot do what a model's format, a kernel or an option asks for.

A table only; the texts are those of vLLM, PyTorch, Triton, FlashAttention and AITER. Each has a cure of its own: a
number format that the GPU lacks, a quantization, a kernel, an image that is older or newer than the GPU.
"""

from __future__ import annotations

from seawall.engines.vllm.messages.sign import Sign

ABILITIES: tuple[Sign, ...] = (
    Sign(
        "engine/unsupported-gpu",
        r"Bfloat16 is only supported on GPUs with compute capability[^\n]{0,60}"
        r"(?:Your (?P<gpu>[^\n]{3,60}?) GPU has compute capability (?P<has>[\d.]+))?",
        "this GPU has no bfloat16 {gpu} {has}",
        "--dtype half; families that overflow in it (Gemma 2 and 3, GLM-4-0414, gpt-oss and most of what says so "
        "in its "
        "card) are refused with half: for these --dtype float32, which takes twice the memory, or a GPU from compute "
        "capability 8.0 on",
    ),
    Sign(
        "engine/bad-config",
        r"model type '(?P<model>[\w-]+)' does not support (?:torch\.)?float16",
        "{model} overflows in float16, and vLLM refuses it: --dtype half is set, or the checkpoint or its "
        "quantization "
        "(AWQ, GPTQ) asks for float16",
        "--dtype bfloat16 on GPUs from compute capability 8.0 on, --dtype float32 on older ones; a checkpoint with "
        "another quantization where this one knows float16 only",
    ),
    Sign(
        "engine/bad-config",
        r"torch\.(?P<dtype>\w+) is not supported for quantization method (?P<method>[\w-]+)\. Supported dtypes: "
        r"\[(?P<can>[^\]\n]{1,80})\]",
        "the quantization {method} does not go with {dtype}: it knows {can}",
        "--dtype with one of those (half for torch.float16); Gemma 2 and 3 and GLM-4 overflow in float16: another "
        "checkpoint of theirs",
    ),
    Sign(
        "engine/unsupported-gpu",
        r"(?:quantization method (?P<method>[\w+ -]+?)|Quantization scheme) is not supported for the current GPU\. "
        r"(?:Minimum|Min|Required) capability: (?P<wants>\d+)\. Current capability: (?P<has>\d+)",
        "this GPU (compute capability {has}, times ten) is too old for the checkpoint's quantization {method}: "
        "it wants "
        "{wants}",
        "a checkpoint that it can run (AWQ or GPTQ from 7.5 on, FP8 from 8.0 on through Marlin and from 8.9 on "
        "by itself, "
        "NVFP4 from 10.0 on), or a newer GPU; seawall plan names the GPUs that hold it",
    ),
    Sign(
        "engine/unsupported-gpu",
        r"FlashAttention(?:-\d)? (?:only supports|requires|is only supported on) (?P<what>[^\n]{3,80})",
        "FlashAttention does not run on this GPU ({what})",
        "another --attention-backend (TRITON_ATTN, FLASHINFER; VLLM_ATTENTION_BACKEND before 0.12), also for pictures "
        "(--mm-encoder-attn-backend TORCH_SDPA); for FlashAttention 3: VLLM_FLASH_ATTN_VERSION=2",
    ),
    Sign(
        "engine/unsupported-gpu",
        r"CUDA capability (?P<has>sm_\d+\w*) is not compatible with the current PyTorch",
        "the image's PyTorch was not built for this GPU ({has})",
        "sm_100 and above (Blackwell): a newer vLLM image, with CUDA 12.8 or later; sm_70 and below (V100): vLLM "
        "up to "
        "0.8.5, or a build of your own",
    ),
    Sign(
        "engine/unsupported-gpu",
        r"out of resources?: shared memory(?:, Required: (?P<wants>\d+), Hardware limit: (?P<has>\d+))?",
        "a kernel wants more of the GPU's shared memory than it has ({wants} of {has} bytes): it was tuned for a "
        "larger "
        "GPU",
        "a newer vLLM image, which may have sizes for this GPU; another backend for that part (--attention-backend "
        "FLASH_ATTN or FLASHINFER, --moe-backend); a smaller --block-size; VLLM_FLOAT32_MATMUL_PRECISION and float32 "
        "left out; --enforce-eager where it is torch.compile's",
        certain=False,
    ),
    Sign(
        "engine/unsupported-gpu",
        r"(?P<why>[^\n:]{0,80}compute capability[^\n]{0,60}(?:not supported|at least)[^\n]{0,60}"
        r"|[^\n:]{0,80}not supported for the current GPU[^\n]{0,60}"
        r"|[^\n:]{0,80}(?:requires?|only (?:supports?|available|works?))[^\n]{0,40}compute capability[^\n]{0,40})",
        "this GPU's compute capability does not allow what is asked for: {why}",
        "leave the option or backend out that it names (--attention-backend, --moe-backend, --kv-cache-dtype), "
        "another "
        "quantization of the model, or another GPU",
        certain=False,
    ),
    Sign(
        "engine/unsupported-gpu",
        r"(?P<what>[^\n:]{0,80}(?:not supported|unsupported|not implemented)[^\n]{0,24}\bgfx\w+"
        r"|[^\n:]{0,60}requires gfx\w+[^\n]{0,40}"
        r"|hipErrorSharedObjectInitFailed)",
        "a kernel of AITER or of the image is not for this AMD GPU ({what})",
        "VLLM_ROCM_USE_AITER=0, or only the part that fails (VLLM_ROCM_USE_AITER_FP4BMM, _MLA, _MOE, _MHA =0); "
        "--attention-backend TRITON_ATTN; a newer ROCm image that is built for this GPU",
        certain=False,
    ),
    Sign(
        "engine/kernel",
        r"ptxas fatal[^\n]{0,20}Value '(?P<arch>sm_\w+)' is not defined|Unsupported gpu architecture "
        r"'(?P<compute>compute_\w+)'|nvcc fatal[^\n]{0,40}'(?P<nvcc>(?:sm|compute)_\w+)'",
        "the compiler that is called at start is older than this GPU, and does not know it ({arch}{compute}{nvcc})",
        "TRITON_PTXAS_PATH=/usr/local/cuda/bin/ptxas and CUDA_HOME=/usr/local/cuda, if the image has CUDA 12.9 "
        "(sm_120) "
        "or 13 (sm_110, sm_121) there; else an image with it (tags -cu130), which is newer than vLLM 0.14",
        certain=False,
    ),
    Sign(
        "engine/unsupported-gpu",
        r"(?:HIP error: (?P<hip>no kernel image|invalid device function)|(?P<binary>hipErrorNoBinaryForGpu))",
        "the ROCm image has no kernel for this AMD GPU ({hip}{binary}): it was not built for its gfx number, or "
        "AITER's "
        "kernels were not",
        "a newer ROCm image whose list of architectures names this GPU (rocminfo | grep gfx); "
        "VLLM_ROCM_USE_AITER=0 to see "
        "whether it is AITER; on consumer cards HSA_OVERRIDE_GFX_VERSION of the nearest one that it has",
        certain=False,
    ),
    Sign(
        "engine/unsupported-gpu",
        r"(?P<what>[^\n:]{0,80}(?:not implemented|not supported|unsupported) (?:for|on) (?:Blackwell|Hopper"
        r"|Ampere|Turing"
        r"|Volta|SM ?\d+|sm_?\d+|gfx\d+\w*)|Unsupported gpu architecture[^\n]{0,60}|ptxas fatal[^\n]{0,100}"
        r"|No compiled \w+ for[^\n]{0,100}|requires GPUs with sm\d+[^\n]{0,40}|Unsupported (?:SM|architecture"
        r"|arch)\b[^\n]{0,60}"
        r"|Arch conditional MMA instruction[^\n]{0,80}|(?:only|currently) (?:supports?|supported on) (?:SM ?\d+"
        r"|Hopper|Blackwell"
        r"|CUDA devices? with compute capability)[^\n]{0,80}|HIP error: (?:no kernel image"
        r"|invalid device function)[^\n]{0,60}"
        r"|CUDA error: no kernel image[^\n]{0,60}"
        r"|Triton Error \[\w+\]: (?:device kernel image is invalid|no kernel image)[^\n]{0,40}"
        r"|PTXASError[^\n]{0,60}|Internal Triton PTX codegen error"
        r"|(?:CUDA_ERROR_NO_BINARY_FOR_GPU|cudaErrorNoKernelImageForDevice))",
        "the image has no kernel for this GPU ({what}): it is newer than the image, or too old for it",
        "a newer GPU: a newer vLLM image (and CUDA 12.8 or later for Blackwell); an older one: another "
        "quantization or "
        "attention backend, or an image that still knows it",
        certain=False,
    ),
)
"""Behind memory, ranks and weights; an earlier sign explains a later one."""
