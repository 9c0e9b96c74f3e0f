"""Flags, causes, checks before a start, and what pip's settings become."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from seawall.config import examples
from seawall.config.load import load_fleet
from seawall.domain.spec import Adapter, Fleet
from seawall.drivers import pip
from seawall.engines.vllm.load import parse_load
from seawall.errors import EngineError, InputError
from seawall.local import engine_env
from seawall.local.causes import cause_of, explain
from seawall.local.launch import sim_recipe, threads, vllm_recipe
from seawall.local.model import adapter_folder, lora_rank, model_folder
from seawall.local.prepare import check_keys, check_memory, check_plan, check_port, planned
from seawall.testing.lora import random_adapter


@pytest.fixture
def fleet() -> Fleet:
    return load_fleet("examples/smollm2.yaml")


def test_the_example_is_started_as_it_was_planned(fleet: Fleet) -> None:
    recipe = replace(vllm_recipe(fleet, Path("/venv/bin/vllm"), Path("/m"), Path("/c")), plan=planned(fleet))
    args, _ = recipe.command(18001)
    assert args[:3] == ["/venv/bin/vllm", "serve", "/m"]
    pairs = dict(itertools.pairwise(args))
    assert pairs["--host"] == "127.0.0.1"
    assert pairs["--port"] == "18001"
    assert pairs["--max-model-len"] == "2048"
    assert pairs["--max-num-seqs"] == "16"
    assert pairs["--max-num-batched-tokens"] == "2048"
    assert pairs["--kv-cache-memory-bytes"] == str(128 * 2**20)
    assert pairs["--dtype"] == "float32"
    assert pairs["--shutdown-timeout"] == "120"
    assert pairs["--max-num-queued-reqs"] == "32"
    assert "--enforce-eager" in args
    assert "--gpu-memory-utilization" not in args


def test_the_simulated_engine_takes_every_flag(fleet: Fleet) -> None:
    from seawall.engines.sim import flags as sim

    argv, _ = sim_recipe(fleet).command(9)
    parsed = sim.parser().parse_args(argv[argv.index("sim") + 1 :])
    assert parsed.port == 9


@pytest.mark.parametrize(
    ("slots", "rank", "wanted"),
    [
        (None, 8, "--enable-lora --max-loras 2 --lora-modules poet=/p sql=/s"),
        (None, 17, "--enable-lora --max-loras 2 --max-lora-rank 32 --lora-modules poet=/p sql=/s"),
        (4, 16, "--enable-lora --max-loras 4"),
        (4, 300, "--enable-lora --max-loras 4 --max-lora-rank 320"),
    ],
)
def test_adapters_come_by_the_command_line_or_into_slots(
    fleet: Fleet, slots: int | None, rank: int, wanted: str
) -> None:
    from seawall.engines.sim import flags as sim

    fleet = replace(fleet, spec=replace(fleet.spec, model=replace(fleet.spec.model, adapter_slots=slots)))
    recipe = replace(sim_recipe(fleet), adapters={"poet": "/p", "sql": "/s"}, lora_rank=rank)
    argv, env = recipe.command(9)
    assert wanted in " ".join(argv)
    parsed = sim.parser().parse_args(argv[argv.index("sim") + 1 :])
    assert parsed.lora_modules == ([] if slots else ["poet=/p", "sql=/s"])
    assert ("VLLM_ALLOW_RUNTIME_LORA_UPDATING" in env) == (slots is not None)


def test_an_adapters_rank_is_read_and_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    shape = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    adapter = Adapter(name="poet", source=f"file://{tmp_path}")
    with pytest.raises(InputError, match=r"has no adapter_config\.json"):
        adapter_folder(adapter, False, tmp_path, print)
    random_adapter(tmp_path, shape, rank=64)
    folder = adapter_folder(adapter, False, tmp_path, print)
    assert lora_rank(folder) == 64
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"rank_pattern": {"q_proj": 128}}))
    assert lora_rank(folder) == 128
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match="does not say a rank"):
        lora_rank(folder)


def test_cpu_replicas_share_the_cores(fleet: Fleet) -> None:
    assert threads(fleet, 8) == 4
    assert threads(fleet, 1) == 1
    _, env = vllm_recipe(fleet, Path("/venv/bin/vllm"), Path("/m"), Path("/c")).command(9)
    assert env["VLLM_CPU_OMP_THREADS_BIND"] == "nobind"
    assert env["HF_HUB_OFFLINE"] == "1"
    assert not any(k.startswith("VLLM_PORT") for k in env)


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        ("OSError: [Errno 98] Address already in use", "its port was taken"),
        ("api_server.py: error: unrecognized arguments: --disable-log-requests", "--disable-log-requests"),
        (
            "ValueError: Available memory on node 0 (13.6/23.42 GiB) on startup is less than desired CPU memory "
            "utilization (0.92, 21.55 GiB). On the CPU backend, the `--gpu-memory-utilization` flag controls ...",
            "wants 21.55 GiB of memory at once, and 13.6 of 23.42 GiB are free",
        ),
        (
            "ValueError: Available memory on node 0 (3.1/23.42 GiB) on kv cache allocation is less than requested "
            "memory for kv (4.0 GiB). Decrease --kv-cache-memory-bytes, VLLM_CPU_KVCACHE_SPACE, or reduce ...",
            "wants 4.0 GiB of memory at once, and 3.1 of 23.42 GiB are free",
        ),
        ("GiB) on startup is less than desired GPU memory utilization (0.92", "lower engine.gpuMemoryUtilization"),
        ("Traceback\nRuntimeError: Engine core initialization failed.", "RuntimeError: Engine core"),
    ],
)  # fmt: skip
def test_the_log_tells_why(tmp_path: Path, log: str, cause: str) -> None:
    (tmp_path / "log").write_text(log)
    said = cause_of(1, tmp_path / "log")
    assert said.startswith("exited with code 1: ")
    assert cause in said


def test_a_log_that_tells_nothing(tmp_path: Path) -> None:
    assert explain("all is well") is None
    assert cause_of(3, tmp_path / "missing") == "exited with code 3"
    assert cause_of(137, tmp_path / "missing") == "killed by signal 9"


def test_too_little_memory_is_said_before_anything_starts(fleet: Fleet) -> None:
    recipe = sim_recipe(fleet)
    check_memory([recipe], {"smollm2": 100}, 100)
    with pytest.raises(EngineError, match="are free") as e:
        check_memory([recipe], {"smollm2": 3 * 2**30}, 2**30)
    assert "scaling.min" in e.value.cure


SIX_LINES = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: mine}
spec:
  model: {source: "file://%s"}
  hardware: {gpu: cpu, cloud: local}
"""
SMOL = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "vocab_size": 49152,
    "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
    "num_key_value_heads": 3, "max_position_embeddings": 8192, "tie_word_embeddings": True,
}  # fmt: skip


def own_model(tmp_path: Path, **spec: object) -> Fleet:
    """The Fleet of six lines that docs/how-to/up.md begins with, with `engine` or `traffic` added."""
    (tmp_path / "config.json").write_text(json.dumps(SMOL))
    (tmp_path / "mine.yaml").write_text(
        SIX_LINES % tmp_path + "".join(f"  {part}: {json.dumps(fields)}\n" for part, fields in spec.items())
    )
    return load_fleet(tmp_path / "mine.yaml")


def test_an_own_model_on_a_cpu_is_started_with_what_its_plan_found_to_fit(tmp_path: Path) -> None:
    """vLLM's own choice of a KV cache there is 92% of all memory; it dies where so much is not free."""
    fleet = own_model(tmp_path)
    made = planned(fleet, tmp_path)
    check_plan(fleet, made)
    recipe = replace(vllm_recipe(fleet, Path("/v/vllm"), tmp_path, Path("/c")), plan=made)
    pairs = dict(itertools.pairwise(recipe.command(9)[0]))
    assert pairs["--kv-cache-memory-bytes"] == str(4 * 2**30)
    assert (pairs["--max-model-len"], pairs["--max-num-seqs"]) == ("8192", "16")
    # As real vLLM 0.32 printed for this model and these flags (tests/e2e/local/test_up_own_model.py looks again).
    assert made is not None and made.kv_cache_tokens == 186_368


def test_less_cache_is_a_shorter_context_and_not_the_next_failure(tmp_path: Path) -> None:
    """The cure of too little memory is less cache: what then starts holds at least one whole request."""
    fleet = own_model(tmp_path, engine={"kvCacheMemory": "64Mi"})
    made = planned(fleet, tmp_path)
    check_plan(fleet, made)
    recipe = replace(vllm_recipe(fleet, Path("/v/vllm"), tmp_path, Path("/c")), plan=made)
    pairs = dict(itertools.pairwise(recipe.command(9)[0]))
    assert (pairs["--kv-cache-memory-bytes"], pairs["--max-model-len"]) == (str(64 * 2**20), "2048")


@pytest.mark.parametrize("context", [8192, 2816])
def test_what_does_not_fit_is_refused_before_it_starts_and_the_cure_works(
    tmp_path: Path, context: int
) -> None:
    """2,816 tokens lie in 22 blocks of 128, and 64 MiB hold 22, of which vLLM 0.32 keeps one: it refused just that."""
    fleet = own_model(tmp_path, engine={"kvCacheMemory": "64Mi"}, traffic={"maxContext": context})
    with pytest.raises(EngineError, match=r"mine does not fit: .* set maxContext to (\d+) or raise") as e:
        check_plan(fleet, planned(fleet, tmp_path))
    said = re.search(r"maxContext to (\d+)", e.value.message)
    assert said is not None
    assert said[1] == "2688", "what vLLM's own message named, too"
    cured = own_model(tmp_path, engine={"kvCacheMemory": "64Mi"}, traffic={"maxContext": int(said[1])})
    check_plan(cured, planned(cured, tmp_path))


@pytest.mark.parametrize(
    ("engine", "traffic", "hardware", "said"),
    [
        ({}, {"maxContext": 16384}, {}, "beyond the model's own 8,192; set maxContext to 8192"),
        ({"maxNumSeqs": 64, "maxNumBatchedTokens": 32}, {}, {}, "raise maxNumBatchedTokens to 64"),
        (
            {"kvCacheMemory": "4Gi"},
            {},
            {"memory": "2Gi"},
            "more than hardware.memory, 2 GiB; raise it to 6Gi",
        ),
        (
            {},
            {"maxContext": 8192},
            {"memory": "1800Mi"},
            "hardware.memory gives 64 MiB, a block of which vLLM keeps; set maxContext to 2688",
        ),
    ],
)
def test_what_vllm_would_refuse_is_refused_with_a_cure(
    engine: dict[str, object],
    traffic: dict[str, object],
    hardware: dict[str, object],
    said: str,
    tmp_path: Path,
) -> None:
    fleet = own_model(tmp_path, engine=engine, traffic=traffic)
    text = (tmp_path / "mine.yaml").read_text()
    more = "".join(f", {k}: {v}" for k, v in hardware.items())
    (tmp_path / "mine.yaml").write_text(text.replace("cloud: local", f"cloud: local{more}"))
    fleet = load_fleet(tmp_path / "mine.yaml")
    with pytest.raises(EngineError) as e:
        check_plan(fleet, planned(fleet, tmp_path))
    assert said in e.value.message


@pytest.mark.parametrize(
    ("engine", "started"),
    [
        ({"maxNumSeqs": 4096}, ("4096", "4096")),
        ({"maxNumBatchedTokens": 8}, ("8", "8")),
        ({"maxNumSeqs": 4, "maxNumBatchedTokens": 512}, ("4", "512")),
    ],
)
def test_a_batch_that_is_half_left_open_follows_the_other_half(
    engine: dict[str, object], started: tuple[str, str], tmp_path: Path
) -> None:
    """vLLM dies of a batch with fewer tokens than sequences."""
    fleet = own_model(tmp_path, engine=engine)
    recipe = replace(vllm_recipe(fleet, Path("/v"), tmp_path, tmp_path), plan=planned(fleet, tmp_path))
    pairs = dict(itertools.pairwise(recipe.command(9)[0]))
    assert (pairs["--max-num-seqs"], pairs["--max-num-batched-tokens"]) == started


def test_flags_that_a_user_adds_are_planned_with(tmp_path: Path) -> None:
    """They come last and win, so a plan without them would be of another engine."""
    own = ["--max-model-len", "2K", "--max_num_seqs=4", "--kv-cache-memory-bytes", "64M"]
    fleet = own_model(tmp_path, engine={"extraArgs": own, "maxNumSeqs": 512})
    made = planned(fleet, tmp_path)
    check_plan(fleet, made)
    assert made is not None
    assert (made.max_model_len, made.max_num_seqs, made.kv_cache_gib_per_gpu) == (2048, 4, 1 / 16)
    argv, _ = replace(vllm_recipe(fleet, Path("/v"), tmp_path, tmp_path), plan=made).command(9)
    assert argv[-len(own) :] == own
    planned_part = dict(itertools.pairwise(argv[: -len(own)]))
    assert planned_part["--max-num-seqs"] == "4", "the planned flag says the same"
    fleet = own_model(tmp_path, engine={"extraArgs": ["--max-model-len", "16384"]})
    with pytest.raises(EngineError, match="beyond the model's own"):
        check_plan(fleet, planned(fleet, tmp_path))
    for odd in ("auto", "-1", "", "many", "1e400", "0"):
        fleet = own_model(tmp_path, engine={"extraArgs": [f"--max-model-len={odd}"]})
        made = planned(fleet, tmp_path)
        assert made is not None and made.max_model_len == 8192


def test_a_replica_s_own_limit_of_memory_leaves_so_much_cache(tmp_path: Path) -> None:
    fleet = own_model(tmp_path)
    text = (tmp_path / "mine.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("cloud: local", "cloud: local, memory: 3Gi"))
    fleet = load_fleet(tmp_path / "mine.yaml")
    made = planned(fleet, tmp_path)
    check_plan(fleet, made)
    assert made is not None and 1.1 < made.kv_cache_gib_per_gpu < 1.4


INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "has a config.json and no weights"),
        ({"model.safetensors": ""}, ""),
        ({"pytorch_model.bin": ""}, r"pickle weights only \(pytorch_model.bin\)"),
        (
            {"model.safetensors.index.json": INDEX, "model-1.safetensors": ""},
            "lacks model-2.safetensors, which",
        ),
        ({"model.safetensors.index.json": "{", "model-1.safetensors": ""}, "cannot be read"),
        ({"model.safetensors.index.json": "[]", "model-1.safetensors": ""}, "cannot be read"),
    ],
)
def test_a_folder_without_its_weights_is_refused_before_vllm_looks_for_them(
    files: dict[str, str], said: str, tmp_path: Path
) -> None:
    for name, text in ({"config.json": "{}"} | files).items():
        (tmp_path / name).write_text(text)
    wanted = own_model(tmp_path).spec.model
    if not said:
        assert model_folder(wanted, tmp_path, print) == tmp_path
        return
    with pytest.raises(InputError, match=said) as e:
        model_folder(wanted, tmp_path, print)
    assert e.value.cure
    if "pickle" in said:
        assert model_folder(replace(wanted, allow_pickle=True), tmp_path, print) == tmp_path


def test_a_model_that_nobody_can_plan_does_not_get_all_memory(tmp_path: Path) -> None:
    fleet = load_fleet("examples/smollm2.yaml")
    fleet = replace(fleet, spec=replace(fleet.spec, engine=replace(fleet.spec.engine, kv_cache_memory=None)))
    (tmp_path / "config.json").write_text("{}")
    assert planned(fleet, tmp_path) is None
    pairs = dict(itertools.pairwise(vllm_recipe(fleet, Path("/v"), tmp_path, tmp_path).command(9)[0]))
    assert pairs["--kv-cache-memory-bytes"] == str(4 * 2**30)


def test_a_port_that_is_none() -> None:
    with pytest.raises(InputError, match="not a port"):
        check_port(70000)


def test_metrics_become_a_load() -> None:
    text = (
        '# HELP x\nvllm:num_requests_running{engine="0"} 2.0\nvllm:num_requests_running{engine="1"} 1.0\n'
        'vllm:num_requests_waiting{engine="0"} 4.0\nvllm:kv_cache_usage_perc{engine="0"} 0.5\n'
        'vllm:num_requests_waiting_by_reason{reason="capacity"} 9.0\n'
        'vllm:prompt_tokens_total{engine="0"} 10.0\nvllm:generation_tokens_total{engine="0"} 5.0\n'
        "vllm:generation_tokens_total nonsense\n"
    )
    load = parse_load(text)
    assert (load.running, load.waiting, load.kv_usage) == (3, 4, 0.5)
    assert load.marks == (0, 5, 10, 0.5, 3, 4, 0)
    assert set(parse_load("").marks) == {0}
    assert load.prompt_token_s is None
    text += (
        'vllm:request_prefill_time_seconds_sum{engine="0"} 8.0\n'
        'vllm:request_prefill_kv_computed_tokens_sum{engine="0"} 4000.0\n'
    )
    assert parse_load(text).prompt_token_s == 0.002


def test_pip_s_settings_reach_uv(tmp_path: Path) -> None:
    (tmp_path / "pip.conf").write_text(
        "[global]\nfind-links = /wheels\nindex-url = https://mirror.example/simple\nextra-index-url = file:///part\n"
    )
    env = {
        "HOME": str(tmp_path),
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "XDG_CONFIG_DIRS": str(tmp_path),
    }
    found = pip.settings(env)
    assert found.uv_args() == ["--find-links", "/wheels", "--index-url", "https://mirror.example/simple"]
    assert pip.settings(env | {"PIP_FIND_LINKS": "/a /b"}).find_links == ("/a", "/b")
    (tmp_path / "torch-2.13.0+cpu-cp311.whl").touch()
    assert replace(found, find_links=(f"file://{tmp_path}",)).wheels("torch-2.13.0+cpu")
    assert not found.wheels("torch")


def test_a_half_made_engine_is_not_used(tmp_path: Path) -> None:
    folder = engine_env.folder_of(tmp_path)
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "vllm").touch()
    (folder / "bin" / "python").touch()
    assert engine_env.installed(tmp_path) is None
    from seawall.drivers import cache

    cache.seal(folder, {"version": "0.32.0"})
    assert engine_env.installed(tmp_path) is not None


def test_what_cannot_be_installed_says_why(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="not installable here") as e:
        engine_env._run(["/bin/sh", "-c", "echo 'error: dns error: failed to connect' >&2; exit 1"], "try")
    assert "--engine sim" in e.value.cure


def test_the_package_carries_the_examples() -> None:
    assert examples.DEFAULT in examples.names()
    assert examples.names() == sorted(path.stem for path in Path("examples").glob("*.yaml"))
    assert examples.text("canary") == Path("examples/canary.yaml").read_text("utf-8")


def test_the_port_that_is_suggested_is_free() -> None:
    import socket

    with socket.socket() as a, socket.socket() as b:
        a.bind(("127.0.0.1", 0))
        a.listen()
        port = a.getsockname()[1]
        with contextlib.suppress(OSError):
            b.bind(("127.0.0.1", port + 1))
            b.listen()
        with pytest.raises(InputError, match=f"port {port} is taken by") as e:
            check_port(port)
        suggested = int(e.value.cure.split()[2].rstrip(","))
        assert suggested > port + 1
        check_port(suggested)


def test_a_port_below_1024_is_no_reason_to_suggest_the_next_one() -> None:
    """As a user who may not: `--port 81` would fail as well."""
    code = (
        "import os, sys\n"
        "os.getuid() or os.setuid(65534)\n"
        "from seawall.local.prepare import check_port\n"
        "from seawall.errors import InputError\n"
        "try: check_port(80)\n"
        "except InputError as e: print(e.message, '|', e.cure)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if "may not be used" in done.stdout:  # where the system lets everybody take it, there is nothing to say
        assert "ports below 1024 need root" in done.stdout
        assert "Use --port 80" in done.stdout and "--port 81" not in done.stdout
    else:
        assert "--port 81" not in done.stdout


def test_a_keys_file_that_is_not_there_is_told_before_the_start(tmp_path: Path, fleet: Fleet) -> None:
    gateway = replace(fleet.spec.gateway, keys_file=str(tmp_path / "keys.json"))
    wanting = replace(fleet, spec=replace(fleet.spec, gateway=gateway))
    with pytest.raises(InputError, match="there is no file") as e:
        check_keys([wanting])
    assert "seawall keys add" in e.value.cure
    (tmp_path / "keys.json").write_text("{}")
    check_keys([wanting, fleet])
