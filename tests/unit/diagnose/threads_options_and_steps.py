"""Engines whose log proves the cure: the moment, the numbers, the part and the option that it names."""

# ruff: noqa: E501 - true messages stay on one line
from __future__ import annotations

from .shapes import CORE, NOISE, Case, alive, engine, traced
from .test_catalogue import died

CASES: list[Case] = [
    (('engine/lora',), ['merge'], engine(traced(CORE,"vllm/lora/worker_manager.py","vllm/lora/peft_helper.py","ValueError: vLLM only supports modules_to_save being None."))),
    (('engine/unknown-flag',), ['--lora-modules'], died("usage: vllm [-h] [-v] {serve,chat,complete} ...\nvllm: error: unrecognized arguments: --lora-path yard1/llama-2-7b-sql-lora-test\n",2)),
    (('engine/lora',), ['newer'], engine(traced("vllm/engine/llm_engine.py","vllm/worker/model_runner.py","AssertionError: MolmoForCausalLM does not support LoRA yet."))),
    (('engine/nccl',), ['NCCL_P2P_DISABLE'], died(NOISE+"(RayWorker pid=4751) [E ProcessGroupNCCL.cpp:474] [Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=1, OpType=ALLREDUCE, NumelIn=1, NumelOut=1, Timeout(ms)=1800000) ran for 1800108 milliseconds before timing out.\n",134)),
    (('engine/model-files',), ['TIKTOKEN_ENCODINGS_BASE'], died(NOISE+traced("vllm/entrypoints/openai/serving_responses.py","vllm/entrypoints/harmony_utils.py","openai_harmony/__init__.py","openai_harmony.HarmonyError: error downloading or loading vocab file: failed to download or load vocab file"))),
    (('weights/no-model',), ['mount'], engine("huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or 'namespace/repo_name': '/root/.cache/huggingface/hub/models--Qwen--Qwen3-0.6B/snapshots/c1899de289a04d12100db370d81485cdf75e47ca'. Use `repo_type` argument if needed.")),
    (('engine/permission',), ['root'], engine(traced(CORE,"flashinfer/jit/cubin_loader.py","PermissionError: [Errno 13] Permission denied: '/usr/local/lib/python3.12/dist-packages/flashinfer_cubin/cubins/flashinfer'"))),
    (('engine/ranks',), ['tensor-parallel-size', 'nnodes'], died(NOISE+"pydantic_core._pydantic_core.ValidationError: 1 validation error for ParallelConfig\n  Value error, Tensor parallel size (2) cannot be larger than the number of available GPUs (1). [type=value_error, input_value=ArgsKwargs((), {'pipeline...'_api_process_rank': 0}), input_type=ArgsKwargs]\n    For further information visit https://errors.pydantic.dev/2.11/v/value_error\n")),
    (('engine/unknown-flag',), ['hf-overrides'], died(NOISE+traced("skyrl/inference_engines/vllm_engine.py","TypeError: AsyncEngineArgs.__init__() got an unexpected keyword argument 'rope_scaling'"))),
    (('engine/unsupported-gpu',), ['--dtype half'], engine(traced(CORE,"vllm/v1/worker/gpu_worker.py","ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU has compute capability 7.5. You can use float16 instead by explicitly setting the `dtype` flag in CLI, for example: --dtype=half."))),
    (('engine/bug',), ['newer'], engine(traced(CORE,"vllm/v1/worker/gpu_model_runner.py","vllm/v1/attention/backends/gdn_attn.py","AssertionError"))),
    (('engine/bug',), ['max-num-seqs'], engine(traced(CORE,"vllm/v1/worker/gpu_model_runner.py","vllm/model_executor/models/qwen3_next.py","vllm/model_executor/layers/mamba/ops/causal_conv1d.py","AssertionError"))),
    (('engine/exception',), ['newer'], engine(traced(CORE,"vllm/v1/worker/gpu_worker.py","vllm/v1/worker/gpu_model_runner.py","AssertionError: Do not capture num_reqs > max_num_reqs for uniform batch"))),
    (('engine/ray-no-gpu',), ['num_gpus'], engine(traced("ray/serve/_private/replica.py","vllm/executor/ray_utils.py","ValueError: Current node has no GPU available. current_node_resource={'node:10.233.87.77': 1.0, 'CPU': 4.0}. vLLM engine cannot start without GPU."))),
    (('engine/ray-no-gpu',), ['num_gpus'], died(traced("ray/serve/_private/replica.py","vllm/engine/async_llm_engine.py","torch/cuda/__init__.py","RuntimeError: No CUDA GPUs are available"))),
    (('engine/import',), ['audio', 'install'], alive("ERROR 02-21 05:10:00 [serving_transcription.py:200] ImportError: Please install vllm[audio] for audio support\n",name="vllm")),
    (('engine/import',), ['install'], died(NOISE+traced("vllm/multimodal/audio.py","ModuleNotFoundError: No module named 'librosa'"))),
    (('engine/import',), ['install'], died(NOISE+traced("pydub/audio_segment.py","pydub/utils.py","ModuleNotFoundError: No module named 'pyaudioop'"))),
    (('engine/ray-health',), ['health_check_timeout'], alive("WARNING 2025-06-25 04:39:55,101 controller 1758 -- Didn't receive health check response for replica Replica(id='rut1591v', deployment='vLLM:Qwen--Qwen3-32B', app='RayServeApp') after 10.0s, marking it unhealthy.\n",name="ray-head")),
    (('weights/offline',), ['local path'], died(NOISE+traced("vllm/transformers_utils/config.py","huggingface_hub/_snapshot_download.py","huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder for the specified revision on the local disk and outgoing traffic has been disabled. To enable repo look-ups and downloads online, pass 'local_files_only=False' as input."))),
    (('weights/unauthorized',), ['offline'], died(NOISE+"OSError: You are trying to access a gated repo.\nMake sure to have access to it at https://huggingface.co/x.\n401 Client Error. Cannot access gated repo for url https://huggingface.co/x/resolve/main/config.json. Access to model x is restricted. You must have access to it and be authenticated to access it. Please log in.\n")),
    (('engine/import',), ['newer'], died(NOISE+traced("dynamo/sdk/cli/serve_dynamo.py","dynamo/llm/components/worker.py","AttributeError: 'VllmWorker' object has no attribute 'lease'"))),
]  # fmt: skip
