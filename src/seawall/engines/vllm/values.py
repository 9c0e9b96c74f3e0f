"""What vLLM's flags take: JSON, numbers, names from lists. Data only, no rule.

The lists were read off vLLM's own parser and registries (0.32); names that older versions had besides are kept, so
that what is called wrong was right in none. SINCE holds lower bounds: the first version that may have had a name.
"""

from __future__ import annotations

from seawall.engines.vllm.versions import Version

_JSON = """
--additional-config --allowed-headers --allowed-methods --allowed-origins
--attention-config --compilation-config --default-chat-template-kwargs --ec-transfer-config
--eplb-config --kernel-config --kv-events-config --kv-transfer-config --limit-mm-per-prompt --media-io-kwargs
--mm-processor-kwargs --override-generation-config --override-pooler-config --pooler-config --profiler-config
--reasoning-config --rope-scaling --speculative-config --structured-outputs-config --watermark-config
--weight-transfer-config
"""
_INTEGERS = """
--block-size --data-parallel-size --data-parallel-size-local --max-logprobs --max-lora-rank --max-loras --max-num-seqs
--nnodes --node-rank --pipeline-parallel-size --port --seed --shutdown-timeout --tensor-parallel-size
"""
_DTYPE = "auto half float16 bfloat16 float float32"
_KV_DTYPE = """
auto float16 bfloat16 float32 fp8 fp8_ds_mla fp8_e4m3 fp8_e5m2 fp8_inc fp8_per_token_head int4_per_token_head int8
int8_per_token_head nvfp4 nvfp4_4over6 nvfp4_ds_mla turboquant_3bit_nc turboquant_4bit_nc turboquant_k3v4_nc
turboquant_k8v4 ultraquant_4bit
"""
_QUANTIZATION = """
aqlm ascend auto-round auto_awq auto_gptq awq awq_marlin bitblas bitsandbytes compressed-tensors cpu_awq cpu_gptq
deepseek_v4_fp8 deepspeedfp experts_int8 fbgemm_fp8 fp8 fp8_per_block fp8_per_channel fp8_per_tensor fp_quant gguf
gpt_oss_mxfp4 gptq gptq_bitblas gptq_marlin gptq_marlin_24 hqq humming inc int8_per_channel_weight_only ipex marlin
modelopt modelopt_fp4 modelopt_mixed modelopt_mxfp8 moe_wna16 mxfp4 mxfp8 neuron_quant None nvfp4 nvfp4_per_token
online petit_nvfp4 ptpc_fp8 qqq quark rtn squeezellm torchao tpu_int8
"""
_TOKENIZER_MODE = """
auto slow hf mistral custom deepseek_v32 deepseek_v4 deepseek_v41 kimi_k3 kimi_audio inkling cohere grok2
"""
_LOAD_FORMAT = """
auto hf pt safetensors npcache dummy tensorizer sharded_state gguf bitsandbytes mistral runai_streamer
runai_streamer_sharded ipc_cache fastsafetensors instanttensor modelexpress remote private_weights
"""
_ALL2ALL = """
naive pplx allgather_reducescatter deepep_high_throughput deepep_low_latency deepep_v2 flashinfer_all2allv
flashinfer_nvlink_one_sided flashinfer_nvlink_two_sided mori mori_high_throughput mori_low_latency moonep nixl_ep
"""
_ATTENTION = """
FLASH_ATTN FLASH_ATTN_VLLM_V1 FLASH_ATTN_DIFFKV TRITON_ATTN TRITON_ATTN_VLLM_V1 TRITON_ATTN_DIFFKV TRITON_FLASH_ATTN
ROCM_ATTN ROCM_SEGMENTED_ATTN ROCM_FLASH ROCM_AITER_MLA ROCM_AITER_TRITON_MLA ROCM_AITER_FA ROCM_AITER_UNIFIED_ATTN
ROCM_AITER_MLA_SPARSE XPU_MLA_SPARSE TORCH_SDPA FLASHINFER FLASHINFER_VLLM_V1 TRITON_FLASHINFER FLASHINFER_MLA
TOKENSPEED_MLA FLASHINFER_MLA_SPARSE FLASHINFER_MLA_SPARSE_SM120 FLASHINFER_MLA_SPARSE_SM90 TRITON_MLA
TRITON_MLA_VLLM_V1 CUTLASS_MLA CUTLASS_MLA_VLLM_V1 FLASHMLA FLASHMLA_VLLM_V1 FLASHMLA_SPARSE FLASHMLA_SPARSE_DSV4
FLASHINFER_MLA_SPARSE_DSV4 ROCM_FLASHMLA_SPARSE_DSV4 FLASHMLA_SPARSE_DSV41 FLASHINFER_MLA_SPARSE_DSV41
FLASHMLA_MEGA_ATTN_DSV41 B12X FLASH_ATTN_MLA FLASH_ATTN_MLA_SPARSE MINIMAX_M3_SPARSE CUTLASS_MSA TRITON_MSA HPC_ATTN
AMX_MLA TURBOQUANT ULTRAQUANT FLEX_ATTENTION TREE_ATTN PALLAS PALLAS_VLLM_V1
IPEX CPU_ATTN CPU_MLA NO_ATTENTION DUAL_CHUNK_FLASH_ATTN DIFFERENTIAL_FLASH_ATTN CUSTOM AUTO MINIMAX_M3_MSA
"""
_TOOL = """
apertus cohere_command3 cohere_command4 deepseek_v3 deepseek_v31 deepseek_v32 deepseek_v4 deepseek_v41 dots ernie45
functiongemma gemma4 gigachat3 glm45 glm47 granite granite-20b-fc granite4 hermes hf hunyuan_a13b hy_v3 hy_v4 inkling
internlm jamba k2_horizon kimi_k2 kimi_k3 lfm2 ling3 llama llama3_json llama4_json llama4_pythonic longcat mimo
minicpm5 minimax minimax_m2 minimax_m3 mistral muse_glimmer olmo3 openai phi4_mini_json plamo3 poolside_v1 pythonic
qwen3_coder qwen3_json qwen3_xml seed_oss step3 step3p5 xlam
"""
_REASONING = """
GptOss cohere_command3 cohere_command4 deepseek_r1 deepseek_v3 deepseek_v4 deepseek_v41 ernie45 gemma4 glm45 glm47
glm4_moe gptoss granite granite_thinking_parser hf holo2 hunyuan_a13b hy_v3 hy_v4 identity inkling k2_horizon kimi_k2
kimi_k3 ling3 mimo minicpmv minimax_m2 minimax_m2_append_think minimax_m3 mistral muse_glimmer nemotron_v3 olmo3
openai_gptoss plamo3 poolside_v1 qwen3 seed_oss step3 step3p5
"""
_SINCE = """
deepseek_v3 0.8 llama4_json 0.8 xlam 0.9 kimi_k2 0.10 glm45 0.10 qwen3_coder 0.10 step3 0.10 openai 0.10 seed_oss 0.10
deepseek_v31 0.10 qwen3_xml 0.10 ernie45 0.10 openai_gptoss 0.10 olmo3 0.11 minimax_m2 0.11 deepseek_v32 0.11
glm47 0.13 gemma4 0.16 deepseek_v4 0.18 kimi_k3 0.20
"""

_DRAFT = """
enforce_eager num_speculative_tokens model method draft_tensor_parallel_size tensor_parallel_size quantization
moe_backend attention_backend kv_cache_dtype max_model_len revision code_revision index_share_for_mtp_iteration
disable_padded_drafter_batch disable_eagle_block_drop use_local_argmax_reduction use_heterogeneous_vocab
prompt_lookup_max prompt_lookup_min parallel_drafting num_speculative_tokens_per_batch_size
suffix_decoding_max_tree_depth suffix_decoding_max_cached_requests suffix_decoding_max_spec_factor
suffix_decoding_min_token_prob draft_load_config rejection_sample_method synthetic_acceptance_rates
synthetic_acceptance_length enable_adaptive_verification draft_sample_method dspark_draft_topk disable_by_batch_size
speculative_token_tree posterior_threshold posterior_alpha acceptance_method disable_mqa_scorer disable_logprobs
typical_acceptance_sampler_posterior_threshold target_model_config target_parallel_config draft_model_config
draft_parallel_config load_config
"""
_TRANSFER = """
kv_connector engine_id kv_buffer_device kv_buffer_size kv_role kv_rank kv_parallel_size kv_ip kv_port
kv_connector_extra_config kv_connector_module_path enable_permute_local_kv kv_load_failure_policy
"""
_METHODS = """
ngram ngram_gpu [ngram] medusa mlp_speculator draft_model suffix custom_class eagle eagle3 extract_hidden_states
dflash dspark mtp deepseek_mtp dots3_note_mtp mimo_mtp mimo_v2_mtp glm4_moe_mtp glm4_moe_lite_mtp glm_ocr_mtp
ernie_mtp nemotron_h_mtp exaone_moe_mtp exaone4_5_mtp qwen3_next_mtp qwen4_exp_mtp qwen3_5_mtp longcat_flash_mtp
pangu_ultra_moe_mtp step3p5_mtp bailing_hybrid_mtp bailing_hybrid_v3_mtp gemma4_mtp glm5_next_mtp hy_v3_mtp
hy_v4_mtp inkling_mtp kimi_k3_mtp minimax_m3_mtp arctic
"""
_CONNECTORS = """
PyNcclConnector SharedStorageConnector ExampleConnector ExampleHiddenStatesConnector LMCacheConnector
LMCacheConnectorV1 LMCacheMPConnector NixlConnector NixlPullConnector NixlPushConnector MultiConnector
HiSparseConnector MoRIIOConnector OffloadingConnector DecodeBenchConnector MooncakeConnector MooncakePipe
MooncakeStoreConnector FlexKVConnectorV1 SimpleCPUOffloadConnector HF3FSKVConnector P2pNcclConnector
LMCacheAscendConnector TPUConnector
"""

JSON = frozenset(_JSON.split())
INTEGERS = frozenset(_INTEGERS.split())
FLOATS = frozenset(("--gpu-memory-utilization", "--cpu-offload-gb", "--kv-offloading-size"))
CHOICES: dict[str, list[str]] = {
    "--dtype": _DTYPE.split(),
    "--scheduling-policy": ["fcfs", "priority"],
    "--distributed-executor-backend": ["ray", "mp", "uni", "external_launcher"],
    "--kv-cache-dtype": _KV_DTYPE.split(),
    "--quantization": _QUANTIZATION.split(),
    "--runner": ["auto", "generate", "pooling", "draft"],
    "--convert": ["auto", "none", "embed", "classify", "reward", "mm_encoder_only"],
    "--tokenizer-mode": _TOKENIZER_MODE.split(),
    "--load-format": _LOAD_FORMAT.split(),
    "--all2all-backend": _ALL2ALL.split(),
    "--data-parallel-backend": ["mp", "ray"],
    "--uvicorn-log-level": ["critical", "error", "warning", "info", "debug", "trace"],
    "--attention-backend": _ATTENTION.split(),
    "--chat-template-content-format": ["auto", "string", "openai"],
    "--prefix-caching-hash-algo": [
        "builtin",
        "sha256",
        "sha256_cbor",
        "sha256_cbor_64bit",
        "xxhash",
        "xxhash_cbor",
    ],
    "--kv-offloading-backend": ["native", "lmcache"],
    "--mm-encoder-tp-mode": ["weights", "data"],
    "--lora-dtype": ["auto", "float16", "bfloat16", "float32"],
    "--safetensors-load-strategy": ["lazy", "eager", "prefetch", "torchao", "None"],
    "--max-lora-rank": ["1", "8", "16", "32", "64", "128", "256", "320", "512"],
}
OPEN_LISTS = (
    "--quantization", "--distributed-executor-backend", "--kv-cache-dtype", "--load-format", "--tokenizer-mode",
    "--attention-backend", "--all2all-backend",
)  # fmt: skip
"""Plugins may add names to these."""
KEYS: dict[str, frozenset[str]] = {
    "--speculative-config": frozenset(_DRAFT.split()),
    "--kv-transfer-config": frozenset(_TRANSFER.split()),
}
"""JSON flags whose keys vLLM checks -> every key that some version from 0.8 to 0.33 has (extra ones are forbidden)."""
METHODS = frozenset(_METHODS.split())
"""Methods of speculative decoding."""
CONNECTORS = frozenset(_CONNECTORS.split())
"""KV connectors that some version registers; others come with kv_connector_module_path."""
GRAPH_MODES = ("NONE", "PIECEWISE", "FULL", "FULL_DECODE_ONLY", "FULL_AND_PIECEWISE")
STRUCTURED = ("auto", "xgrammar", "guidance", "outlines", "lm-format-enforcer")
PARSERS: dict[str, frozenset[str]] = {
    "--tool-call-parser": frozenset(_TOOL.split()),
    "--reasoning-parser": frozenset(_REASONING.split()),
}
SINCE: dict[str, Version] = {
    name: (int(at.split(".")[0]), int(at.split(".")[1]))
    for name, at in zip(_SINCE.split()[::2], _SINCE.split()[1::2], strict=True)
}
MEANT = {
    "deepseek": "deepseek_v3",
    "deepseek_r1": "deepseek_v3",
    "gpt-oss": "openai",
    "gpt_oss": "openai",
    "gptoss": "openai",
    "llama-3": "llama3_json",
    "llama3": "llama3_json",
    "llama3.1": "llama3_json",
    "qwen": "hermes",
    "qwen2": "hermes",
    "qwen2.5": "hermes",
    "qwen25": "hermes",
    "qwen3": "hermes",
    "qwen3-coder": "qwen3_coder",
}
"""Names of tool parsers that people write, many of them another engine's."""
