"""How far a starting vLLM has come, from what it has logged since its start. Text in, a few words out.

The lines are those of vLLM 0.9 to 0.33. What is not recognised changes nothing: the last stage that was stays.
"""

from __future__ import annotations

import re

FIRST = "importing vLLM"
"""Before the first line: Python reads some thousand files, for 5 to 30 s."""

_STAGES: tuple[tuple[str, str], ...] = (
    (r"API server version|non-default args|Resolved architecture", "reading the model's configuration"),
    (r"Initializing a V1 LLM engine", "starting the engine"),
    (r"Starting to load model|Loading model (?:weights|from scratch)", "loading weights"),
    (r"checkpoint shards:\s+\d+% Completed \| (\d+)/(\d+)", "weights {0} of {1}"),
    (r"Loading (?:model )?weights took|Model loading took", "profiling memory"),
    (r"torch_compile_cache|Dynamo bytecode|Compiling a graph|Warming up model for the compilation", "compiling"),
    (r"torch\.compile takes|Available KV cache memory|KV cache size:|Warming up done", "reserving the KV cache"),
    (r"Capturing CUDA graph[^\r\n|]*(?:\|[^\r\n|]*\|)?\s*(\d+)/(\d+)", "CUDA graphs {0} of {1}"),
    (r"Graph capturing finished|init engine \(profile", "starting the server"),
    (r"Application startup complete|Uvicorn running on", "server started"),
)  # fmt: skip


def stage(text: str) -> str:
    """The stage that the log's last telling line means."""
    best, at = FIRST, -1
    for pattern, words in _STAGES:
        found = list(re.finditer(pattern, text))
        if found and found[-1].start() > at:
            best, at = words.format(*found[-1].groups()), found[-1].start()
    return best
