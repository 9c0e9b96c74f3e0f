"""Who waits for vLLM sees how far it is, and how long it usually takes here."""

from __future__ import annotations

from pathlib import Path

import pytest

from seawall.engines.vllm.stages import FIRST, stage
from seawall.local.loading import Loading

LOG = [
    ("", FIRST),
    (
        "(APIServer pid=1) INFO 11-30 03:55:24 [api_utils.py:286] non-default args: {'model': 'x'}",
        "configuration",
    ),
    (
        "(EngineCore pid=2) INFO 11-30 03:55:30 [core.py:107] Initializing a V1 LLM engine (v0.32.0)",
        "starting the eng",
    ),
    (
        "(EngineCore pid=2) INFO [gpu_model_runner.py:4720] Starting to load model /models/m...",
        "loading weights",
    ),
    ("Loading safetensors checkpoint shards:   0% Completed | 0/9 [00:00<?, ?it/s]", "weights 0 of 9"),
    (
        "\rLoading safetensors checkpoint shards:  56% Completed | 5/9 [00:13<00:11,  2.87s/it]",
        "weights 5 of 9",
    ),
    (
        "\rLoading fastsafetensors checkpoint shards: 100% Completed | 9/9 [00:29<00:00,  3.2s/it]",
        "weights 9 of 9",
    ),
    ("(Worker pid=3) INFO [default_loader.py:384] Loading weights took 24.84 seconds", "profiling memory"),
    (
        "(Worker pid=3) INFO [backends.py:1069] Using cache directory: /c/torch_compile_cache/7b9 for vLLM",
        "compiling",
    ),
    ("(Worker pid=3) INFO [monitor.py:34] torch.compile takes 21.5 s in total", "reserving the KV cache"),
    (
        "(EngineCore pid=2) INFO [kv_cache_utils.py:1314] GPU KV cache size: 443,000 tokens",
        "reserving the KV cache",
    ),
    (
        "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  45%|####5     | 23/51 [00:02<00:02]",
        "graphs 23 of 51",
    ),
    (
        "(Worker pid=3) INFO [gpu_model_runner.py:5990] Graph capturing finished in 5 secs",
        "starting the server",
    ),
    ("(APIServer pid=1) INFO:     Application startup complete.", "server started"),
]


@pytest.mark.parametrize("lines", range(len(LOG)))
def test_each_line_of_a_start_moves_it_on(lines: int) -> None:
    text = "\n".join(line for line, _ in LOG[: lines + 1])
    assert LOG[lines][1] in stage(text)
    assert stage(f"{text}\n(Worker pid=3) WARNING something that nobody knows\n") == stage(text)


def test_an_earlier_start_in_the_same_log_is_not_this_one(tmp_path: Path) -> None:
    log = tmp_path / "a-0.log"
    log.write_text("\n".join(line for line, _ in LOG))
    loading = Loading(tmp_path / "starts.json")
    assert loading.stage("a-0", 7, log) == FIRST
    with log.open("a") as f:
        f.write("\n" + LOG[5][0])
    assert loading.stage("a-0", 7, log) == "weights 5 of 9"
    assert loading.stage("a-0", 8, log) == FIRST, "a new process"
    assert loading.stage("b-0", 9, tmp_path / "none.log") == FIRST


def test_the_usual_duration_outlives_the_command(tmp_path: Path) -> None:
    file = tmp_path / "starts.json"
    loading = Loading(file)
    assert loading.usual_s("a") is None
    for pid, took in ((1, 60.0), (2, 70.0), (2, 900.0), (3, 62.0)):
        loading.started("a", "a-0", pid, took)
    assert loading.usual_s("a") == Loading(file).usual_s("a") == 62.0
    file.write_text('{"a": "nonsense"')
    assert Loading(file).usual_s("a") is None
