"""What `seawall up` starts is what a cluster starts: one command line, but for what the place explains."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from seawall.config.load import load_fleets
from seawall.decide.plan import plan
from seawall.domain.action import Plan
from seawall.domain.spec import Adapter, Fleet, PoolSpec
from seawall.engines.vllm import command
from seawall.engines.vllm.versions import check_flag
from seawall.local.launch import sim_recipe, vllm_recipe
from seawall.render.engine_args import serve
from seawall.render.inputs import Wanted
from seawall.shapes.config import resolve

ROOT = Path(__file__).parents[2]
EXAMPLES = [f for path in sorted((ROOT / "examples").glob("*.yaml")) for f in load_fleets(path)]
PLACE = {
    "--host", "--port", "MODEL", "--lora-modules",
    "--nnodes", "--node-rank", "--master-addr", "--master-port", "--headless", "--shutdown-timeout",
    "--watchdog-config",
}  # fmt: skip
"""Flags that a place may set by itself: an address, folders, the nodes of one replica, a spot node's notice."""
PLACE_ENV = {
    "HOME", "USER", "PATH", "VLLM_CACHE_ROOT", "XDG_CACHE_HOME", "TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR",
    "TOKENIZERS_PARALLELISM", "OMP_NUM_THREADS", "VLLM_ENGINE_READY_TIMEOUT_S",
}  # fmt: skip


def changed(fleet: Fleet, **parts: dict[str, Any]) -> Fleet:
    """`fleet` with fields of its spec's parts replaced."""
    new = {name: replace(getattr(fleet.spec, name), **fields) for name, fields in parts.items()}
    return replace(fleet, spec=replace(fleet.spec, **new))


SMOLLM2 = next(f for f in EXAMPLES if f.name == "smollm2")
LLAMA = next(f for f in EXAMPLES if f.name == "llama-70b")
POET = Adapter(name="poet", source="hf://a/poet")
OTHERS = {
    "all open on a CPU": changed(
        SMOLLM2, traffic={"max_context": None}, engine={"kv_cache_memory": None, "max_num_seqs": None}
    ),
    "all limits set": changed(
        LLAMA,
        engine={
            "max_num_seqs": 48,
            "max_num_batched_tokens": 4096,
            "max_queued_requests": 77,
            "gpu_memory_utilization": 0.8,
        },
    ),
    "cache by hand": changed(LLAMA, engine={"kv_cache_memory": 8 * 2**30, "kv_cache_dtype": "fp8"}),
    "smaller format": changed(LLAMA, model={"quantization": "fp8", "dtype": "bfloat16"}),
    "no prefix cache, own flags": changed(
        LLAMA,
        engine={
            "prefix_caching": False,
            "enforce_eager": True,
            "extra_args": ["--max-num-seqs", "5"],
            "env": {"A": "b"},
        },
    ),
    "media from one host": changed(LLAMA, gateway={"media_hosts": ["img.example.com"]}),
    "pickles": changed(LLAMA, model={"allow_pickle": True}),
    "adapters": changed(LLAMA, model={"adapters": [POET]}),
    "adapter slots": changed(LLAMA, model={"adapters": [POET], "adapter_slots": 4}),
    "a pool that sleeps": replace(
        LLAMA, spec=replace(LLAMA.spec, pool=PoolSpec(name="p", capacity=8, sleep=True))
    ),
    "parallel in all ways": changed(
        LLAMA,
        hardware={"gpus_per_replica": 8, "tensor_parallel": 2, "pipeline_parallel": 2, "data_parallel": 2},
    ),
}


def by_flag(args: tuple[str, ...] | list[str]) -> dict[str, list[str]]:
    """Flag -> its values; the model stands in front of all flags."""
    out: dict[str, list[str]] = {}
    name = "MODEL"
    for word in args:
        if word.startswith("--"):
            name = word
            out.setdefault(name, [])
        else:
            out.setdefault(name, []).append(word)
    return out


def both(fleet: Fleet, made: Plan) -> tuple[command.ServeCommand, command.ServeCommand]:
    """(here, on a cluster)"""
    adapters = {a.name: f"/here/{a.name}" for a in fleet.spec.model.adapters}
    recipe = vllm_recipe(fleet, Path("/venv/bin/vllm"), Path("/here/model"), Path("/here"))
    argv, env = replace(recipe, plan=made, adapters=adapters, ready_s=900).command(18001)
    here = command.ServeCommand(program=recipe.program, args=tuple(argv[2:]), env=env)
    return here, serve(Wanted(fleet=fleet, plan=made, document={}))


CASES = {f.name: f for f in EXAMPLES} | OTHERS


@pytest.mark.parametrize("fleet", CASES.values(), ids=CASES)
def test_here_and_on_a_cluster_one_command_starts_a_replica(fleet: Fleet) -> None:
    here, there = both(fleet, plan(fleet, resolve(fleet)))
    mine, theirs = by_flag(here.args), by_flag(there.args)
    differ = {flag for flag in mine.keys() | theirs.keys() if mine.get(flag) != theirs.get(flag)}
    assert differ <= PLACE, {flag: (mine.get(flag), theirs.get(flag)) for flag in differ}
    inherited = vllm_recipe(fleet, Path("/venv/bin/vllm"), Path("/m"), Path("/here")).env.keys() - PLACE_ENV
    names = (here.env.keys() - inherited) | there.env.keys()
    differ = {name for name in names if here.env.get(name) != there.env.get(name)}
    assert differ <= PLACE_ENV, differ


@pytest.mark.parametrize("fleet", CASES.values(), ids=CASES)
def test_what_was_planned_is_what_is_started(fleet: Fleet) -> None:
    made = plan(fleet, resolve(fleet))
    engine = fleet.spec.engine
    for started in both(fleet, made):
        own = len(started.args) - len(engine.extra_args)
        flags = by_flag(started.args[:own])
        assert flags["--max-model-len"] == [str(made.max_model_len)]
        assert flags["--max-num-seqs"] == [str(made.max_num_seqs)]
        assert flags["--max-num-batched-tokens"] == [str(made.max_num_batched_tokens)]
        assert flags["--max-num-queued-reqs"] == [str(made.engine_queue_bound)]
        assert flags["--tensor-parallel-size"] == [str(made.tensor_parallel)]
        if "--kv-cache-memory-bytes" in flags:
            assert float(flags["--kv-cache-memory-bytes"][0]) == made.kv_cache_gib_per_gpu * 2**30
            assert "--gpu-memory-utilization" not in flags
        else:
            assert made.gpu != "cpu", "vLLM's own choice on a CPU is nearly all of the machine's memory"
            assert flags["--gpu-memory-utilization"] == [f"{made.gpu_memory_utilization:g}"]
        for word in started.args:
            assert not word.startswith("--") or check_flag(word, (0, 32)) is None


def test_the_simulated_engine_is_started_with_the_same_flags() -> None:
    made = plan(SMOLLM2, resolve(SMOLLM2))
    argv, env = replace(sim_recipe(SMOLLM2), plan=made).command(18001)
    there = serve(Wanted(fleet=SMOLLM2, plan=made, document={}))
    mine, theirs = by_flag(argv[argv.index("sim") + 1 :]), by_flag(there.args)
    assert {f for f in mine.keys() | theirs.keys() if mine.get(f) != theirs.get(f)} <= PLACE
    assert "VLLM_CPU_OMP_THREADS_BIND" not in env, "it computes nothing"


def test_an_engine_fetches_from_where_the_spec_says() -> None:
    def said(hosts: list[str] | None, version: str = "0.32.0") -> list[str]:
        fleet = changed(LLAMA, gateway={"media_hosts": hosts}, engine={"version": version})
        place = command.EnginePlace(program=("vllm", "serve"), model="/m", port=1)
        args = list(command.serve_command(fleet, None, place).args)
        at = args.index("--allowed-media-domains") if "--allowed-media-domains" in args else len(args)
        return args[at + 1 : at + 3]

    assert said(["a.example", "b.example"]) == ["a.example", "b.example"]
    assert said(None) == said([]) == said(["*"]) == said(["a.example"], "0.10.2") == []


def test_an_engine_that_can_writes_its_stacks_when_it_stands_still() -> None:
    """vLLM 0.33 and later; before it is killed for what its evidence says, 15 s at the earliest."""

    def told(version: str, *extra: str) -> list[str]:
        fleet = changed(LLAMA, engine={"version": version, "extra_args": extra})
        args = serve(Wanted(fleet=fleet, plan=plan(fleet, resolve(fleet)), document={})).args
        return [word for word in args if word.startswith("--watchdog") or "dump_dir" in word]

    flag, given = told("0.33.0")
    assert flag == "--watchdog-config"
    said = json.loads(given)
    assert (said["timeout"] + said["check_interval"], said["dump_dir"]) == (14, "/tmp/stacks")
    assert told("0.32.0") == told("nightly") == []
    assert told("0.33.0", "--watchdog-config={}") == ["--watchdog-config={}"], "the user's own"
    here = vllm_recipe(changed(SMOLLM2, engine={"version": "0.33.0"}), Path("/v"), Path("/m"), Path("/c"))
    assert json.loads(by_flag(here.command(1)[0])["--watchdog-config"][0])["dump_dir"] == "/c/stacks"
