"""The stories of causes in an engine, its weights and its answers; `stories.py` tells them. Text only."""

from __future__ import annotations

TEXT = """
engine/hung
  vLLM's HTTP server and its engine are two processes: /health may say 200 while the scheduler stands still. The
  sign is requests that run and statistics of steps that do not move between two looks. One long step of a
  prefill moves nothing either, so it is called likely only where a gateway's asks for one token stay unanswered.
engine/start-stands
  Nothing has died: the processes of one engine wait for each other, and write so every 10 or 60 s. The last line
  that says something else names the stage: GPUs that do not reach each other, kernels that compile, weights that
  are read, ranks on other nodes that have not joined.
engine/stood-still
  vLLM 0.33 and later write the stacks of all threads when no step has ended for 12 s (`--watchdog-config`, which
  Seawall sets). A long prefill on a slow device is written, too; a deadlock in a collective or a kernel that
  hangs is what to look for.
truth/template
  Chats become other token ids than the fleet's template makes of them, and prompts without a template are answered
  as known: another --chat-template, or another tokenizer_config.json beside its weights.
truth/revision
  Every known prompt is answered otherwise, and sensibly: another revision, tokenizer, rope setting or quantization
  than the fleet's. When all replicas are said to be so, the fingerprint is older than the fleet: seawall fingerprint.
truth/weights
  What it says makes no sense any more, or only prompts that meet a damaged place are answered otherwise: a corrupted
  shard, a blob rewritten under its hash's name, memory that lost bits. seawall pull --check reads every byte.
truth/numeric
  NaN or infinity in its logits, or all answers away by little more than rounding: another dtype, kernel or driver, or a
  GPU that computes wrongly (its Xid errors tell).
truth/unclear
  One known prompt was answered otherwise, twice. It gets nothing new until others have been asked, in a second or two.
weights/job-failed
  The Job that fills the volume failed, so there are no weights to serve.
engine/shm
  NCCL and the ranks of a replica exchange data through /dev/shm, and a Pod has 64 MiB of it. The signs are a
  failing posix_fallocate, `No space left on device` from shared_memory, a bus error, or exit status 135
  (SIGBUS) without a word.
engine/no-kv-memory
  After the weights, the profile run measures the activations of the largest step (--max-num-batched-tokens,
  --max-num-seqs, images); what is left of --gpu-memory-utilization is the KV cache. A negative number means
  that the first two took it all: shrink the step or raise the share before buying GPUs.
engine/unknown-flag
  vLLM's parser ends with status 2 at the first argument that it does not know, behind its usage text. A removed
  or misspelled flag, a flag and its value in one item, a value behind a switch, or a program name that the
  image's entrypoint adds already.
engine/peer-unreachable
  An engine that shares its cache or its state (LMCache, Mooncake, etcd, NATS) connects to that service at start and
  ends when it does not answer: the Service has another name or namespace, it is not up yet, or a policy is between.
engine/nixl
  Prefill and decode hand the KV cache over through NIXL, whose UCX backend needs memory that may be pinned (IPC_LOCK,
  memlock), a device or a network of its own, and the same NIXL on both sides. A replica that cannot register its cache
  ends at start; one whose peer was restarted ends at the next transfer.
engine/cuda-fault
  The driver ended the context because a kernel read or wrote outside its memory (illegal memory access, launch
  failure). CUDA reports it late, at another call than the one that did it. When the same request, or the same batch
  shape, gives the same error on another node, it is software.
engine/chat-template
  --chat-template names a file; an image has none but vLLM's own examples. vLLM takes a text with a slash for a path
  and ends when it cannot open it.
engine/exception
  The log ends with an exception that this catalogue does not know. Its own words are quoted: of all processes that
  print a traceback, those of the one that raised it, not of the ones that only lost it.
weights/waiting
  The Pod's own init container looks whether all files of the lockfile are on the volume, and says which are not. Until
  they are, vLLM is not started. The Job that loads them is the one to look at.
engine/connector
  The log's traceback ends in the code that moves the KV cache (LMCache, Mooncake, NIXL, offloading). Connectors know
  fewer models and layouts than vLLM does: hybrid models, MLA, another block size or version on the other side.
engine/speculative
  The log's traceback passes through the draft's code: another vocabulary, a layout of weights that this vLLM does not
  know, or a combination (pipeline parallelism, async scheduling) that drafts do not allow.
engine/lora
  The log's traceback ends in vLLM's LoRA code: the adapter's rank, its target modules or its file do not fit.
engine/quantization
  The log's traceback ends in the code of a quantization: this GPU, this tensor-parallel size or this vLLM cannot run
  the checkpoint's format.
engine/cuda-graphs
  While CUDA graphs are captured a GPU's stream takes kernels only: who allocates, waits or compiles there breaks the
  capture. Without graphs the same start works, and slower.
engine/no-peer-access
  Kernels that sum over the GPUs of a replica read each other's memory through NVLink or PCIe. In virtual machines, with
  IOMMU or ACS on, and on consumer cards that way is shut; NCCL takes another one, vLLM's own kernels cannot.
engine/multimodal
  A model's processor (Transformers) turns pictures, video and sound into tokens, and vLLM reserves places for them by a
  count of its own. When the two are of different age, or a cache holds what was dropped, the counts differ.
engine/not-implemented
  vLLM reached a place that its authors left open: a model, a device and an option that are each known, and not
  together. Newer releases fill such places; until then one of the three has to go.
engine/request-fails
  An exception in the API server ends one request with 500, and the engine goes on: something in those requests, or a
  bug for their kind. Which they are stands in the access log beside it.
engine/parallel
  The log's traceback ends where ranks of one replica talk or wait: process groups, Ray, all-reduce, all-to-all. Is it
  one node or several, and does it go without the special ways (custom all-reduce, DeepEP)?
engine/structured-output
  Structured outputs and tools are compiled into a grammar that masks tokens. A schema that the backend cannot compile,
  or a token that it does not expect, fails the request, and in some versions the engine.
engine/kernel
  The log's traceback ends in a compiler or a kernel (Triton, FlashInfer, DeepGEMM, torch.compile): it was not made for
  this GPU, cannot be compiled in this image, or was given a shape that it does not know.
engine/bug
  The log's traceback ends in vLLM's own code with an error that no configuration should bring about (TypeError,
  AttributeError): a path of the code that this model or option takes and nobody had tried.
engine/model-files
  The log's traceback ends where the model's own files are read: its configuration, tokenizer or processor.
engine/died
  The engine process is gone and says only that. The first error above it, often of another process (Worker,
  EngineCore), is the cause.
"""
"""A cause's name at the margin, its story indented."""
