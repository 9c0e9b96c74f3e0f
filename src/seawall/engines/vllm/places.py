"""Which part of an engine an exception comes from, by the files of its traceback, and what that part's failures mean.

vLLM raises a thousand different messages while it starts; where one was raised says what kind it is of. A table;
forbidden here: single messages (those are `messages/`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from seawall.engines.vllm.parameters import names_parameter
from seawall.engines.vllm.raised import Raised


@dataclass(frozen=True)
class Place:
    """A part of the engine or a package beneath it, and what an exception there means."""

    id: str
    files: str
    """Pattern of the file that raised, or of the last file on the way that is no library's."""
    names: str
    """Pattern of the exception's name."""
    what: str
    do: str
    anywhere: bool = False
    """Whether a file on the way counts as well as the one that raised: what a draft or an adapter brings about."""
    itself: bool = False
    """Whether only the file that raised counts: one that most exceptions pass through on their way."""


_REFUSAL = r"ValueError|AssertionError|NotImplementedError|ValidationError|ArgumentTypeError"
_MISFIT = r"ImportError|AttributeError|TypeError|NameError"
PLACES: tuple[Place, ...] = (
    Place(
        "engine/unsupported-model",
        r"models/auto/configuration_auto",
        r"KeyError|ValueError",
        "the Transformers of this image does not know the model's kind",
        "a newer vLLM image (it brings a newer Transformers); --trust-remote-code where the repository brings "
        "the code",
    ),
    Place(
        "engine/bad-config",
        r"vllm/(?:config/|engine/arg_utils|platforms/|entrypoints/openai/cli_args|v1/engine/utils|utils/argparse)",
        _REFUSAL,
        "vLLM refuses its configuration",
        "change what the message names; where it is as it should be, a newer vLLM image; seawall lint and "
        "seawall plan "
        "check the same before",
    ),
    Place(
        "engine/connector",
        r"lmcache|mooncake|nixl|kvbm|mori_?io|vllm/distributed/(?:kv_transfer|ec_transfer|kv_events)"
        r"|vllm/v1/(?:simple_)?kv_offload",
        r"\w+",
        "the KV connector (--kv-transfer-config) fails",
        "the same tensor-parallel size (TP), block size and image on both sides? Does this connector know this "
        "model's cache (hybrid models: many do not) and this vLLM's version? Start once "
        "without --kv-transfer-config to see that it is this; a newer image of the connector and vLLM together",
        anywhere=True,
    ),
    Place(
        "engine/speculative",
        r"vllm/v1/(?:worker/\S{0,40})?spec_decode|/\w*(?:eagle|eagle3|medusa|mlp_speculator|dflash|_mtp)\w*\.py"
        r"|speculators/",
        r"\w+",
        "the draft model (--speculative-config) cannot be used with this model or this vLLM",
        "a draft made for this very model and vLLM's version, with its vocabulary; start once without "
        "--speculative-config "
        "to see that it is this; a newer vLLM image",
        anywhere=True,
    ),
    Place(
        "engine/lora",
        r"vllm/lora/|peft/",
        r"\w+",
        "a LoRA adapter cannot be used with this model",
        "its rank against --max-lora-rank, its target modules, and the base model that it was trained on: "
        "adapter_config.json; or merge it into the base model and serve that; a newer vLLM image",
        anywhere=True,
    ),
    Place(
        "weights/other-format",
        r"vllm/model_executor/(?:model_loader/|models/|parameter|layers/(?:linear|fused_moe/layer"
        r"|vocab_parallel_embedding))",
        r"KeyError|ValueError|AssertionError|RuntimeError|IndexError",
        "the weight files are not those of the model that vLLM builds",
        "is the folder one model's, whole and unmixed, and does this vLLM know its quantization? A newer vLLM may; "
        "seawall pull verifies files",
    ),
    Place(
        "engine/quantization",
        r"vllm/model_executor/layers/quantization/|compressed_tensors|bitsandbytes"
        r"|vllm/model_executor/layers/fused_moe/",
        r"\w+",
        "the checkpoint's quantization cannot be used here",
        "another checkpoint of the model (FP8, AWQ), another backend (--moe-backend, --linear-backend) or a "
        "newer image; "
        "tensor parallelism that splits its groups unevenly is refused, too: a smaller --tensor-parallel-size "
        "(with experts: "
        "--enable-expert-parallel)",
    ),
    Place(
        "engine/kernel",
        r"flashinfer|deep_gemm|triton/|tilelang|cutlass|cuda/bindings|torch/(?:_inductor|_dynamo)|aiter"
        r"|flash_attn|flash_mla"
        r"|vllm/(?:compilation|vllm_flash_attn|third_party|kernels|_aiter_ops|ir/)|vllm/v1/attention"
        r"|vllm/model_executor/(?:kernels|warmup)|cpp_extension",
        r"\w+",
        "a kernel cannot be compiled or run on this GPU",
        "another --attention-backend or --moe-backend, VLLM_USE_FLASHINFER_SAMPLER=0, --enforce-eager to see "
        "whether it "
        "is the compiler; a writable cache folder and nvcc of the GPU's age; a newer vLLM image, or the one before",
    ),
    Place(
        "engine/import",
        r"(?:site|dist)-packages/(?!vllm/)|vllm/transformers_utils|vllm/tokenizers",
        _MISFIT,
        "Python packages of the image do not go together",
        "use vLLM's own image unchanged; a package installed at start (transformers above all) may be newer than this "
        "vLLM, or too old for the model",
    ),
    Place(
        "engine/model-files",
        r"transformers/|tokenizers/|mistral_common|vllm/(?:transformers_utils|tokenizers|renderers|multimodal)",
        r"\w+",
        "the model's own files (configuration, tokenizer, processor) cannot be read by this image",
        "are all of them there (tokenizer.json, preprocessor_config.json)? A newer image knows newer ones; "
        "--tokenizer-mode, --trust-remote-code",
    ),
    Place(
        "engine/structured-output",
        r"vllm/v1/structured_output|xgrammar|llguidance|outlines|lmformatenforcer",
        r"\w+",
        "a grammar or JSON schema of a request (structured output, tools) cannot be compiled or followed",
        "find the request (its id stands above) and simplify its schema; another backend: "
        '--structured-outputs-config \'{"backend": "guidance"}\' (xgrammar, outlines); a newer vLLM image',
    ),
    Place(
        "engine/parallel",
        r"vllm/distributed/|vllm/v1/executor|torch/distributed|vllm/v1/worker/ubatch|/ray/",
        r"AssertionError|RuntimeError|ValueError|KeyError|IndexError|TimeoutError|NotImplementedError|\w*Dist\w+Error",
        "the ranks of a replica cannot work together",
        "--disable-custom-all-reduce, another --all2all-backend or --distributed-executor-backend (mp, ray); "
        "take out one kind of parallelism at a time to see which it is; the same image and options on all nodes; "
        "a newer vLLM image",
        itself=True,
    ),
    Place(
        "engine/bug",
        r"vllm/v1/(?:core|engine/(?!utils)|sample|outputs|request|spec_decode|metrics)",
        r"AssertionError|KeyError|IndexError|OverflowError|RuntimeError|StopIteration",
        "vLLM's own bookkeeping of requests fails: a bug of this version, mostly with one option or kind of request",
        "a newer vLLM image, or the one before; take out what is new in this start (prefix caching, async scheduling, "
        "speculative decoding, a connector) one by one; the request whose id stands above",
        itself=True,
    ),
    Place(
        "engine/not-implemented",
        r"/vllm/",
        r"NotImplementedError",
        "this vLLM cannot do yet what the model together with this device or these options asks for",
        "a newer vLLM image; else leave out the option that the words name, or take another backend of that part",
        itself=True,
    ),
    Place(
        "engine/bug",
        r"/vllm/",
        r"TypeError|AttributeError|NameError|UnboundLocalError|ZeroDivisionError",
        "vLLM's own code fails: a bug of this version, mostly for this model or option",
        "look for these words among vLLM's issues; a newer vLLM image, or the one before",
    ),
)
"""In this order; the file that raised is looked at first, then the ones that led to it."""
_PLAIN = re.compile(
    r"/lib/python3[^/]*/[^/]+\.py$|/lib/python3[^/]*/(?!site-|dist-)|torch/(?!_inductor|_dynamo)|pydantic|<frozen"
)
"""Files that raise for others: the standard library, PyTorch's modules, pydantic."""


_NAMES = (
    ("DeepGEMM", "deep_gemm"),
    ("FlashInfer", "flashinfer"),
    ("FlashAttention", "flash_attn"),
    ("FlashMLA", "flash_mla"),
    ("AITER", "aiter"),
    ("Triton", "triton"),
    ("torch.compile", "torch/_inductor|torch/_dynamo|vllm/compilation"),
    ("LMCache", "lmcache"),
    ("Mooncake", "mooncake"),
    ("NIXL", "nixl"),
    ("Transformers", "transformers/"),
)
"""What people call the packages that files are of."""


_QUANTIZES = re.compile(r"\bquant_(?:method|config)\b|quantization")
"""What an exception's words have that is about a quantization, in whichever file."""
_IMPORTED = "engine/import"
_OTHER_WEIGHTS = "weights/other-format"
_STEP = Place(
    "engine/bug",
    r"gpu_model_runner|gpu_worker|cuda_?graph|vllm/v1/worker/",
    r"AssertionError|IndexError|KeyError|RuntimeError|ValueError",
    "vLLM's own code fails while a step of the model is tried out",
    "take back what shapes a step (--max-num-batched-tokens, --max-num-seqs (to one of the graphs' sizes), "
    "--block-size, parallelism) to the "
    "defaults; "
    "--enforce-eager tells whether it is the graphs; a newer vLLM image, or the one before",
)
"""A model's code that was reached by running it, not by loading its weights."""
_LOADS = re.compile(r"model_loader|weight_utils|reload/")


def place_of(raised: Raised) -> Place | None:
    """The part that raised it; None when no file tells."""
    if raised.importing:
        return next(place for place in PLACES if place.id == _IMPORTED)
    place = _by_file(raised)
    if (
        place is not None
        and place.id in ("weights/other-format", "engine/bug")
        and _QUANTIZES.search(raised.line)
    ):
        return next(place for place in PLACES if place.id == "engine/quantization")
    if names_parameter(raised) and (place is None or not place.anywhere):
        return next(place for place in PLACES if place.id == _OTHER_WEIGHTS)
    ran = any(re.search(_STEP.files, f) for f in raised.files)
    if place is not None and place.id == _OTHER_WEIGHTS and ran:
        loads = any(_LOADS.search(f) for f in raised.files)
        return place if loads or not re.fullmatch(_STEP.names, raised.name) else _STEP
    own = any("/vllm/" in f for f in raised.files[-1:])
    compiles = any("vllm/compilation/" in f and "cuda_graph" not in f for f in raised.files[-2:])
    asserts = own and not compiles and raised.name == "AssertionError"
    if place is not None and place.id == "engine/kernel" and ran and asserts:
        return _STEP
    if (
        place is None
        and ran
        and any(re.search(r"vllm/(?:model_executor/)?models/", f) for f in raised.files[-1:])
    ):
        return _STEP if re.fullmatch(_STEP.names, raised.name) else None
    return place


def _by_file(raised: Raised) -> Place | None:
    telling = [f for f in reversed(raised.files) if not _PLAIN.search(f)]
    for place in PLACES:
        if place.anywhere and any(re.search(place.files, file) for file in telling[:6]):
            return place
    for n, file in enumerate(telling[:3]):
        for place in PLACES:
            if (
                (n == 0 or not place.itself)
                and re.search(place.files, file)
                and re.fullmatch(place.names, raised.name)
            ):
                return place
    return None


def package_of(raised: Raised) -> str:
    """The package's name, for people, nearest to what raised it; empty: none of those that have one."""
    for file in list(reversed(raised.files))[:3]:
        for name, pattern in _NAMES:
            if re.search(pattern, file):
                return name
    return ""
