"""The tables behind `versions.py`: flags and metrics of every vLLM version, as compact text. Data only.

Read off the real packages, not remembered: the 0.32 list is the argument parser of `vllm serve` itself
(`vllm serve --help=all`), to which 0.33 only added; the version in which a flag or metric came or went was found
by reading the parsers and metric loggers of the last patch release of every minor version from 0.8 to 0.33. "0.8"
means "0.8 or earlier".
"""

# First line of a group: the version the flags came with. `|` parts aliases; `!` a switch (also `--no-...`),
# `+` takes several values, `?` takes one or none, nothing: takes one.
FLAGS = """
0.8  --additional-config --allow-credentials! --allowed-headers --allowed-local-media-path --allowed-methods
      --allowed-origins --api-key+ --block-size --chat-template --chat-template-content-format
      --code-revision --collect-detailed-traces+ --compilation-config|-cc --config --config-format
      --cpu-offload-gb --data-parallel-size|-dp --disable-cascade-attn! --disable-chunked-mm-input!
      --disable-custom-all-reduce! --disable-fastapi-docs! --disable-log-stats! --disable-sliding-window!
      --disable-uvicorn-access-log! --distributed-executor-backend --download-dir --dtype
      --enable-auto-tool-choice! --enable-chunked-prefill! --enable-expert-parallel|-ep! --enable-lora!
      --enable-prefix-caching! --enable-prompt-tokens-details! --enable-request-id-headers!
      --enable-server-load-tracking! --enable-sleep-mode! --enable-ssl-refresh! --enforce-eager!
      --fully-sharded-loras! --generation-config --gpu-memory-utilization|--device-memory-utilization
      --help|-h --hf-config-path --hf-overrides --hf-token? --host --ignore-patterns+ --kv-cache-dtype
      --kv-transfer-config --limit-mm-per-prompt --load-format --long-prefill-token-threshold --lora-dtype
      --lora-modules+ --max-cpu-loras --max-log-len --max-logprobs --max-lora-rank --max-loras
      --max-model-len --max-num-batched-tokens --max-num-seqs --max-parallel-loading-workers --middleware
      --mm-processor-kwargs --model --model-impl --model-loader-extra-config --num-gpu-blocks-override
      --otlp-traces-endpoint --override-generation-config --pipeline-parallel-size|-pp --port
      --prefix-caching-hash-algo --quantization|-q --ray-workers-use-nsight! --reasoning-parser
      --response-role --return-tokens-as-token-ids! --revision --root-path --scheduler-cls
      --scheduling-policy --seed --served-model-name+ --show-hidden-metrics-for-version
      --skip-tokenizer-init! --speculative-config|-sc --ssl-ca-certs --ssl-cert-reqs --ssl-certfile
      --ssl-keyfile --tensor-parallel-size|-tp --tokenizer --tokenizer-mode --tokenizer-revision
      --tool-call-parser --tool-parser-plugin --trust-remote-code! --use-tqdm-on-load! --uvicorn-log-level
      --worker-cls --worker-extension-cls
0.9  --api-server-count|-asc --data-parallel-address|-dpa --data-parallel-backend|-dpb
      --data-parallel-rank|-dpn --data-parallel-rpc-port|-dpp --data-parallel-size-local|-dpl
      --data-parallel-start-rank|-dpr --disable-hybrid-kv-cache-manager! --enable-eplb!
      --enable-force-include-usage! --enable-prompt-embeds! --headless! --kv-events-config --log-config-file
      --media-io-kwargs --pt-load-map-location
0.10  --async-scheduling! --convert --data-parallel-hybrid-lb|-dph! --decode-context-parallel-size|-dcp
      --default-mm-loras --enable-log-outputs! --enable-log-requests! --enable-tokenizer-info-endpoint!
      --eplb-config --exclude-tools-when-tool-choice-none! --h11-max-header-count
      --h11-max-incomplete-event-size --interleave-mm-strings! --io-processor-plugin --kv-cache-memory-bytes
      --kv-sharing-fast-prefill! --log-error-stack! --logits-processors+ --logprobs-mode --mamba-cache-dtype
      --mamba-ssm-cache-dtype --mm-encoder-tp-mode --mm-processor-cache-gb --runner
      --safetensors-load-strategy --skip-mm-profiling! --tool-server --uds
0.11  --aggregate-engine-logging! --all2all-backend --allowed-media-domains+ --cudagraph-capture-sizes+
      --data-parallel-external-lb|-dpe! --dbo-decode-token-threshold --dbo-prefill-token-threshold
      --dcp-kv-cache-interleave-size --disable-nccl-for-dp-synchronization! --ec-transfer-config
      --enable-dbo! --enable-mm-embeds! --expert-placement-strategy --kv-offloading-backend
      --kv-offloading-size --mamba-block-size --master-addr --master-port --max-cudagraph-capture-size
      --mm-encoder-attn-backend --mm-processor-cache-type --mm-shm-cache-max-object-size-mb --nnodes|-n
      --node-rank|-r --pooler-config --reasoning-parser-plugin --stream-interval --structured-outputs-config
      --tokens-only! --trust-request-chat-template! --video-pruning-rate
0.12  --cp-kv-cache-interleave-size --kv-cache-metrics! --kv-cache-metrics-sample --optimization-level
      --prefill-context-parallel-size|-pcp
0.13  --attention-backend --attention-config|-ac --cudagraph-metrics! --enable-layerwise-nvtx-tracing!
      --profiler-config
0.14  --allow-deprecated-quantization! --default-chat-template-kwargs --enable-log-deltas!
      --enable-logging-iteration-details! --enable-mfu-metrics! --enable-offline-docs!
      --enable-return-routed-experts! --enable-tower-connector-lora! --ubatch-size
0.15  --mamba-cache-mode --mm-encoder-only! --ssl-ciphers
0.16  --disable-access-log-for-endpoints --enable-flashinfer-autotune! --kernel-config
      --specialize-active-lora! --weight-transfer-config
0.17  --cpu-offload-params+ --enable-elastic-ep! --fail-on-environ-validation! --language-model-only!
      --moe-backend --offload-backend --offload-group-size --offload-num-in-group --offload-params+
      --offload-prefetch-step --performance-mode
0.18  --dcp-comm-backend --distributed-timeout-seconds --enable-ep-weight-filter! --gdn-prefill-backend
      --grpc! --shutdown-timeout
0.19  --kv-cache-dtype-skip-layers+ --lora-target-modules+ --mm-tensor-ipc --reasoning-config
      --renderer-num-workers --scheduler-reserve-full-isl!
0.20  --enable-flash-late-interaction! --enable-mamba-cache-stochastic-rounding! --ir-op-priority
      --mamba-backend --mamba-cache-philox-rounds --numa-bind! --numa-bind-cpus+ --numa-bind-nodes+
0.21  --fingerprint-mode --fingerprint-value --mm-encoder-attn-dtype --mm-encoder-fp8-scale-path
      --mm-encoder-fp8-scale-save-margin --mm-encoder-fp8-scale-save-path --safetensors-prefetch-block-size
      --safetensors-prefetch-num-threads
0.22  --cpu-distributed-timeout-seconds --data-parallel-multi-port-external-lb|-dpm!
      --data-parallel-supervisor-port --dp-supervisor-probe-failure-threshold
      --dp-supervisor-probe-interval-s --dp-supervisor-probe-timeout-s --enable-cumem-allocator!
      --enable-mixed-moe-lora-format! --linear-backend --quantization-config --spec-method --spec-model
      --spec-tokens --use-fp64-gumbel!
0.24  --device-ids --diffusion-config|-dc --jit-monitor-verbose! --prefill-schedule-interval --watermark
0.25  --enable-per-request-metrics! --jit-monitor-mode --mm-ipc-gpu-memory-gb --model-class-overrides
0.26  --enable-moe-shared-loras! --max-num-scheduled-tokens --prefix-match-unit
0.27  --cohere-format --cohere-is-reasoning-model! --enable-fault-tolerance! --fault-tolerance-config
      --kda-prefill-backend --mamba-ssu-algorithm --mm-hasher-algorithm --replayssm-buffer-len
      --use-replayssm! --video-pruning-method
0.28  --ec-manager-config --mm-device-do-normalize! --mm-processor-device --return-sampling-mask!
0.29  --dcp-q-replicate! --enable-batch-sharded-sampling! --enable-trace-replay! --max-num-queued-reqs
      --max-num-queued-tokens --per-request-spec-decode-metrics --prefix-cache-retention-interval
      --sse-keep-alive-interval
0.30  --dp-sync-interval --elastic-ep-max-dp-size --enable-nccl-comm-suspend! --enable-scale-out!
      --engram-config --kda-decode-backend --sparse-indexer-topk-backend --watermark-config
0.31  --anthropic-disabled-thinking-effort --aux-output-config --enable-mamba-shared-prefix-checkpoint!
      --log-level --logging-config --long-prefill-token-threshold-adaptive! --max-lora-cls-labels
      --max-num-active-seqs --sleep-preserve-parameter-names+ --swa-bounded-replay! --tool-strict-level
      --trust-request-mm-kwargs!
0.32  --custom-histogram-buckets --enable-hc-sp! --enable-shm-tensor-arena! --grpc-port
      --sleep-mode-offload-cudagraph!
0.33  --monokernel! --sleep-mode-backend --watchdog-config
"""

# flag, version it went with, what to write instead.
REMOVED = """
--calculate-kv-scales!            0.28  put the scales into the checkpoint
--cuda-graph-sizes+               0.13  --cudagraph-capture-sizes
--device                          0.10  nothing: the platform is detected
--disable-async-output-proc!      0.11  nothing: it is gone with the V0 engine
--disable-frontend-multiprocessing! 0.19  nothing: the V1 engine always runs in its own process
--disable-log-requests!           0.17  nothing: request logging is off by default (--enable-log-requests turns it on)
--disable-mm-preprocessor-cache!  0.13  --mm-processor-cache-gb 0
--enable-bf16x3-router-gemm!      0.30  nothing
--enable-lora-bias!               0.11  nothing: LoRA biases are no longer supported
--enable-mamba-fine-grained-prefix-cache! 0.31  nothing
--enable-multimodal-encoder-data-parallel! 0.13  --mm-encoder-tp-mode data
--enable-prompt-adapter!          0.10  nothing: prompt adapters are no longer supported
--enable-reasoning!               0.10  --reasoning-parser alone
--engine-use-ray!                 0.8   nothing
--eplb-log-balancedness!          0.12  --eplb-config
--eplb-step-interval              0.12  --eplb-config
--eplb-window-size                0.12  --eplb-config
--expand-tools-even-if-tool-choice-none! 0.10  nothing: it is the default
--guided-decoding-backend         0.11  --structured-outputs-config
--guided-decoding-disable-additional-properties! 0.11  --structured-outputs-config
--guided-decoding-disable-any-whitespace! 0.11  --structured-outputs-config
--guided-decoding-disable-fallback! 0.11  --structured-outputs-config
--logits-processor-pattern        0.17  --logits-processors
--long-lora-scaling-factors       0.10  nothing
--lora-extra-vocab-size           0.12  nothing
--max-context-len-to-capture      0.8   --cudagraph-capture-sizes
--max-long-partial-prefills       0.27  nothing: chunked prefill schedules partial prefills itself
--max-num-partial-prefills        0.27  nothing: chunked prefill schedules partial prefills itself
--max-prompt-adapter-token        0.10  nothing: prompt adapters are no longer supported
--max-prompt-adapters             0.10  nothing: prompt adapters are no longer supported
--max-seq-len-to-capture          0.11  --cudagraph-capture-sizes
--multi-step-stream-outputs       0.10  nothing: it is gone with the V0 engine
--num-lookahead-slots             0.12  nothing
--num-redundant-experts           0.12  --eplb-config
--num-scheduler-steps             0.10  nothing: the V1 engine schedules asynchronously (--async-scheduling)
--num-speculative-tokens          0.9   --speculative-config
--override-attention-dtype        0.28  nothing
--override-neuron-config          0.10  --additional-config
--override-pooler-config          0.12  --pooler-config
--preemption-mode                 0.11  nothing: the V1 engine always recomputes
--prompt-adapters+                0.10  nothing: prompt adapters are no longer supported
--qlora-adapter-name-or-path      0.10  --enable-lora
--rope-scaling                    0.11  --hf-overrides
--rope-theta                      0.11  --hf-overrides
--scheduler-delay-factor          0.11  nothing: it is gone with the V0 engine
--speculative-model               0.9   --speculative-config
--swap-space                      0.18  --kv-offloading-size
--task                            0.13  --runner (and --convert)
--tokenizer-pool-extra-config     0.10  nothing
--tokenizer-pool-size             0.10  nothing
--tokenizer-pool-type             0.10  nothing
--use-gpu-for-pooling-score!      0.18  nothing
--use-v2-block-manager!           0.10  nothing: it is the only one
--worker-use-ray!                 0.8   --distributed-executor-backend ray
"""

# flag, version it was deprecated in, what to write instead.
DEPRECATED = """
--disable-cascade-attn  0.32  nothing: it has no effect (announced to go in 0.33, which still takes it)
--log-config-file       0.32  --logging-config.pylogging_config_file (announced to go in 0.33, which still takes it)
--mamba-cache-mode      0.32  nothing: prefix caching decides (announced to go in 0.33, which still takes it)
"""

# name without `vllm:` and without a counter's `_total`, type (g, c, h), first version, [version it went with].
METRICS = """
admission_rejections c 0.32
cache_config_info g 0.8
corrupted_requests c 0.11
cpu_cache_usage_perc g 0.8 0.9
cpu_prefix_cache_hit_rate g 0.8 0.9
diffusion_num_canvas_positions c 0.24
diffusion_num_committed_tokens c 0.24
diffusion_num_denoising_steps c 0.24
e2e_request_latency_seconds h 0.8
engine_sleep_state g 0.11
estimated_flops_per_gpu c 0.17
estimated_read_bytes_per_gpu c 0.17
estimated_write_bytes_per_gpu c 0.17
external_prefix_cache_hits c 0.11
external_prefix_cache_queries c 0.11
generation_tokens c 0.8
gpu_cache_usage_perc g 0.8 0.12
gpu_prefix_cache_hit_rate g 0.8 0.9
gpu_prefix_cache_hits c 0.8 0.12
gpu_prefix_cache_queries c 0.8 0.12
inter_token_latency_seconds h 0.10
iteration_tokens_total h 0.8
kv_block_idle_before_evict_seconds h 0.12
kv_block_lifetime_seconds h 0.12
kv_block_reuse_gap_seconds h 0.12
kv_cache_usage_perc g 0.9
lora_requests_info g 0.8
mm_cache_hits c 0.11
mm_cache_queries c 0.11
model_execute_time_milliseconds h 0.8 0.9
model_forward_time_milliseconds h 0.8 0.9
num_preemptions c 0.8
num_requests_kv_fetch_by_stage g 0.32
num_requests_running g 0.8
num_requests_swapped g 0.8 0.9
num_requests_waiting g 0.8
num_requests_waiting_by_reason g 0.20
prefix_cache_hits c 0.9
prefix_cache_queries c 0.9
prompt_tokens c 0.8
prompt_tokens_by_source c 0.16
prompt_tokens_cached c 0.16
prompt_tokens_cached_by_source c 0.32
prompt_tokens_recomputed c 0.16 0.20
request_decode_time_seconds h 0.8
request_generation_tokens h 0.8
request_inference_time_seconds h 0.8
request_max_num_generation_tokens h 0.8
request_num_preemptions h 0.30
request_params_max_tokens h 0.8
request_params_n h 0.8
request_prefill_kv_computed_tokens h 0.13
request_prefill_time_seconds h 0.8
request_prompt_tokens h 0.8
request_queue_time_seconds h 0.8
request_success c 0.8
request_time_per_output_token_seconds h 0.11
rl_weight_update_operation_duration_seconds h 0.32
rl_weight_update_operations_in_flight g 0.32
sleep_mode_operation_duration_seconds h 0.32
sleep_mode_operations_in_flight g 0.32
spec_decode_draft_acceptance_rate g 0.8 0.10
spec_decode_efficiency g 0.8 0.10
spec_decode_num_accepted_tokens c 0.8
spec_decode_num_accepted_tokens_per_pos c 0.8
spec_decode_num_draft_tokens c 0.8
spec_decode_num_drafts c 0.8
spec_decode_num_emitted_tokens c 0.8 0.10
time_in_queue_requests h 0.8 0.9
time_per_output_token_seconds h 0.8 0.15
time_to_first_token_seconds h 0.8
tool_call_parser_invocations c 0.24
watermark_requests c 0.32
websocket_connection_duration_seconds h 0.18
websocket_connections c 0.18
websocket_connections_active g 0.18
"""
