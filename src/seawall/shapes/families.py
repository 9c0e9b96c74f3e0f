"""Which architectures are known, and what theirs always do though no config says it, by `model_type`. Data only.

A name belongs into KNOWN when its parameters were counted against its own class or its published size, and its cache
against vLLM's. Everything else goes by the general formula, and says so.
"""

from __future__ import annotations

KNOWN = frozenset({
    "llama", "llama4", "llama4_text", "mistral", "mistral3", "mistral4", "ministral", "ministral3",
    "mixtral", "pixtral", "qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "qwen2_5_omni", "qwen3",
    "qwen3_moe", "qwen3_next", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "qwen3_5_text",
    "qwen3_5_moe_text", "qwen2_vl_text", "qwen2_5_vl_text", "qwen3_vl_text", "qwen3_vl_moe_text", "gemma",
    "gemma2", "gemma3", "gemma3_text", "gemma3n", "gemma3n_text", "gemma4", "gemma4_text", "phi", "phi3",
    "phi3small", "phimoe", "phi4mm", "phi4_multimodal", "gpt_oss", "kimi_linear", "deepseek_v2", "deepseek_v3",
    "deepseek_v32", "deepseek", "kimi_k2", "kimi_k25", "kimi_vl", "glm", "glm4", "glm4_moe",
    "glm4_moe_lite", "glm5", "glm_moe_dsa", "glm4v", "glm4v_moe", "granite", "granitemoe",
    "granitemoeshared", "granitemoehybrid", "llava", "llava_next", "llava_onevision", "cohere", "cohere2",
    "cohere2_vision", "falcon", "falcon_h1", "stablelm", "starcoder2", "olmo", "olmo2", "olmo3", "olmoe",
    "exaone", "exaone4", "minimax_m2", "minimax_m3", "minimax_m3_vl",
    "deepseek_v4", "deepseek_ref", "kimi_k3", "mimo", "mimo_v2_flash", "step3p5", "step3p7", "nemotron-nas",
    "internlm2", "internlm3", "baichuan",
    "gpt2", "gpt_neox", "gptj", "gpt_bigcode", "bloom", "opt", "mpt", "smollm3", "nemotron", "nemotron_h",
    "jamba", "bamba", "mamba", "mamba2", "falcon_mamba", "hunyuan_v1_dense", "hunyuan_v1_moe", "ernie4_5",
    "ernie4_5_moe", "dots1", "seed_oss", "apertus", "lfm2", "lfm2_moe", "internvl_chat", "idefics3",
    "smolvlm", "mllama", "arcee", "cwm", "axk1", "cohere2_moe", "exaone_moe", "flex_olmo", "granite_swa",
    "granitemoe_swa", "hy_v3", "hyperclovax", "jais2", "laguna", "mellum", "minicpm", "minicpm3", "olmo_hybrid",
    "vaultgemma", "afmoe", "bailing_moe", "bailing_moe_v2", "bailing_hybrid", "bailing_moe_v2_5",
    "bailing_moe_linear", "minimax_m1", "solar_open", "longcat_flash", "muse_glimmer",
    "ernie4_5_vl_moe", "ernie4_5_moe_vl", "glm_ocr", "qwen3_omni_moe", "step3_text", "step3_vl", "nanbeige",
    "paddleocr_vl", "gemma4_unified", "aria",
})  # fmt: skip
CACHE_ONLY_READ = frozenset({"solar_open", "aria", "paddleocr_vl"})
"""Architectures whose parameters were counted, and whose cache was read but not held against vLLM's own layers."""
TIED_BY_DEFAULT = frozenset({
    "gemma", "gemma2", "gemma3", "gemma3_text", "gemma3n", "gemma3n_text", "gemma4", "gemma4_text", "gpt2",
    "gpt_bigcode", "cohere", "cohere2", "bloom", "falcon", "opt", "mpt", "smollm3", "starcoder2",
    "cohere2_vision", "lfm2", "lfm2_moe", "whisper", "bert", "roberta", "xlm-roberta", "modernbert", "nomic_bert",
    "embedding_gemma2", "embedding_gemma2_text",
})  # fmt: skip
UNGATED = frozenset({
    "phi", "gpt2", "gpt_neox", "gptj", "gpt_bigcode", "bloom", "opt", "mpt", "falcon", "starcoder2",
    "nemotron", "nemotron_h", "apertus", "whisper", "bert", "roberta", "xlm-roberta", "arcee", "jais2",
})  # fmt: skip
MULTIMODAL = frozenset({
    "llama4", "mistral3", "pixtral", "gemma3", "gemma3n", "gemma4", "llava", "llava_next", "llava_onevision",
    "kimi_vl", "qwen2_vl", "qwen2_5_vl", "qwen2_5_omni", "qwen3_vl", "qwen3_vl_moe", "glm4v", "glm4v_moe",
    "internvl_chat", "idefics3", "smolvlm", "mllama", "phi4mm", "phi4_multimodal", "kimi_k25", "kimi_k3",
    "cohere2_vision", "minimax_m3_vl",
})  # fmt: skip
ENCODERS = frozenset(
    {
        "bert",
        "roberta",
        "xlm-roberta",
        "modernbert",
        "nomic_bert",
        "gte",
        "new",
        "embedding_gemma2",
        "embedding_gemma2_text",
    }
)
"""Types that attend in both directions, keep no cache, and have no head."""
