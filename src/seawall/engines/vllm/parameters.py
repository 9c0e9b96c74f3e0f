"""Names of a model's parameters that a checkpoint has and vLLM's model has not, or the other way round.

An exception that names a parameter is about the weights, wherever it was raised; the name tells what the checkpoint is:
quantized by whom, saved by whom. A table.
"""

from __future__ import annotations

import re

from seawall.engines.vllm.raised import Raised

_PARAMETER = re.compile(
    r"KeyError: ['\"](?P<name>(?:[\w-]+\.)*\w*(?:layers?|blocks?|h)\.\d+\.[\w.-]+|[\w.]+\.(?:weight"
    r"|bias)(?:_\w+)?)['\"]"
)
"""Names with a layer's number in them, or that end with weight or bias."""

_CURES = (
    (
        r"absmax|quant_map|quant_state|nested_absmax|\.SCB$",
        "it is quantized with bitsandbytes: --quantization bitsandbytes --load-format bitsandbytes; "
        "--tensor-parallel-size 1 where that is refused for a checkpoint that is quantized already",
    ),
    (
        r"(?:^|\.)layers\.\d+\.(?:attention\.w[qkvo]|feed_forward\.w\d|attention_norm|ffn_norm)|tok_embeddings",
        "these are Mistral's (Meta's) own files (consolidated*.safetensors): --tokenizer-mode mistral --config-format "
        "mistral --load-format mistral; or the repository's files in Hugging Face's form",
    ),
    (
        r"lora_[AB]|base_layer|modules_to_save",
        "it was saved with its adapter (PEFT) around it: merge and save it again (merge_and_unload), or serve the base "
        "with --enable-lora",
    ),
    (
        r"_orig_mod|(?:^|\.)module\.|_fsdp_wrapped",
        "it was saved out of a wrapper (torch.compile, DDP, FSDP): save the plain model again",
    ),
    (
        r"experts\b",
        "the experts are named or joined otherwise than this vLLM's model expects: a newer vLLM image (or the one that "
        "the checkpoint's card names); without --enable-expert-parallel; a checkpoint that Transformers 5 saved has "
        "them joined: save it with the release that this vLLM asks for",
    ),
    (
        r"weight_scale|scale_inv|input_scale|q?zeros|qweight|g_idx|weight_packed|[kv]_scale|weight_shape|_bias$",
        "the checkpoint is quantized in a layer that this vLLM's model keeps plain: a newer vLLM image, or one "
        "that was "
        "quantized with that layer in `ignore` (gates, routers and heads stay plain)",
    ),
)


def names_parameter(raised: Raised) -> bool:
    """Whether the exception is that a parameter of the model is not there."""
    return _PARAMETER.match(raised.line) is not None


def cure_of_parameter(raised: Raised) -> str:
    """What a parameter's name tells about the checkpoint, and what to do; empty: nothing."""
    m = _PARAMETER.match(raised.line)
    if m is None:
        return ""
    return next((do for pattern, do in _CURES if re.search(pattern, m["name"])), "")
