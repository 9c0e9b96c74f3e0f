"""What vLLM's flags take: JSON, numbers, names from lists. Data only, no rule.

The lists were read off vLLM's own parser and registries (0.32); names that older versions had besides are kept, so
that what is called wrong was right in none. SINCE holds lower bounds: the first version that may have had a name.
"""

from __future__ import annotations

from seawall.engines.vllm.versions import Version

_JSON = """
--additional-config --attention-config --compilation-config --default-chat-template-kwargs --ec-transfer-config
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

JSON = frozenset(_JSON.split())
INTEGERS = frozenset(_INTEGERS.split())
FLOATS = frozenset(("--gpu-memory-utilization", "--cpu-offload-gb", "--kv-offloading-size"))
CHOICES: dict[str, list[str]] = {
    "--dtype": _DTYPE.split(),
    "--scheduling-policy": ["fcfs", "priority"],
    "--distributed-executor-backend": ["ray", "mp", "uni", "external_launcher"],
    "--kv-cache-dtype": _KV_DTYPE.split(),
    "--quantization": _QUANTIZATION.split(),
}
OPEN_LISTS = ("--quantization", "--distributed-executor-backend", "--kv-cache-dtype")
"""Plugins may add names to these."""
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
