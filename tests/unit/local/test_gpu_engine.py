"""Which vLLM a machine gets: by its GPUs, as a probe of it tells them; an own one stays as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from seawall.drivers import cache
from seawall.errors import EngineError, InputError
from seawall.local import engine_env
from seawall.local.gpu_engine import build_for, gpu_vllm, own_vllm


class Machine:
    """A machine that is pretended: its PATH, its /sys, its cache."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.sys, self.cache = folder / "bin", folder / "sys", folder / "cache"
        for made in (self.bin, self.sys):
            made.mkdir()
        self.env = {"PATH": str(self.bin), "HOME": str(folder)}
        self.said: list[str] = []

    def program(self, name: str, text: str = "exit 0") -> Path:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def nvidia(self) -> None:
        self.program("nvidia-smi", "echo GPU-1")

    def amd(self, *ids: int) -> None:
        for n, gpu in enumerate(ids):
            node = self.sys / "class/kfd/kfd/topology/nodes" / str(n)
            node.mkdir(parents=True)
            (node / "gpu_id").write_text(f"{gpu}\n")

    def ours(self, build: engine_env.Build) -> Path:
        folder = engine_env.folder_of(self.cache, build=build)
        (folder / "bin").mkdir(parents=True)
        for name in ("vllm", "python"):
            (folder / "bin" / name).touch(0o755)
        cache.seal(folder, {"version": "0.32.0"})
        return folder / "bin" / "vllm"

    def chosen(self) -> Path:
        return gpu_vllm(self.cache, self.said.append, self.env, self.sys)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_machine_without_gpus_gets_the_cpus_build(machine: Machine) -> None:
    assert build_for(machine.env, machine.sys) == "cpu"
    machine.amd(0)  # a CPU is a node of the topology, too
    assert build_for(machine.env, machine.sys) == "cpu"
    with pytest.raises(InputError, match="none is visible") as e:
        machine.chosen()
    assert "SEAWALL_VLLM" in e.value.cure


def test_a_machine_with_nvidia_gpus_gets_cudas(machine: Machine) -> None:
    machine.nvidia()
    assert build_for(machine.env, machine.sys) == "cuda"
    assert build_for(machine.env | {"CUDA_VISIBLE_DEVICES": ""}, machine.sys) == "cpu"
    ours = machine.ours("cuda")
    assert machine.chosen() == ours


def test_a_machine_with_amd_gpus_is_told_where_their_wheels_are(machine: Machine) -> None:
    machine.amd(0, 4711, 4712)
    assert build_for(machine.env, machine.sys) == "rocm"
    with pytest.raises(EngineError, match="ROCm") as e:
        machine.chosen()
    assert "--index URL" in e.value.cure
    assert machine.ours("rocm") == machine.chosen()


def test_an_own_vllm_goes_first_and_is_not_touched(machine: Machine) -> None:
    machine.nvidia()
    ours = machine.ours("cuda")
    own = machine.program("vllm")
    before = own.stat()
    assert machine.chosen() == own
    after = own.stat()
    assert (before.st_mtime_ns, before.st_size) == (after.st_mtime_ns, after.st_size)
    assert ours.exists()
    elsewhere = machine.program("my-vllm")
    machine.env["SEAWALL_VLLM"] = str(elsewhere)
    assert own_vllm(machine.env) == elsewhere
    machine.env["SEAWALL_VLLM"] = "/none"
    with pytest.raises(InputError, match="cannot be run"):
        machine.chosen()


def test_builds_never_share_a_folder(machine: Machine) -> None:
    builds: tuple[engine_env.Build, ...] = ("cpu", "cuda", "rocm")
    folders = {engine_env.folder_of(machine.cache, build=build) for build in builds}
    assert len(folders) == 3
    machine.ours("cuda")
    assert engine_env.installed(machine.cache, "cpu") is None
    assert engine_env.installed(machine.cache, "cuda") is not None


def test_cudas_build_is_the_ordinary_vllm_and_torch_is_chosen_by_the_driver(tmp_path: Path) -> None:
    assert engine_env._requirements(tmp_path, (3, 12), "cuda") == [f"vllm=={engine_env.VERSION}"]
    where = engine_env._where("cuda", (3, 12), engine_env.WheelSources())
    assert where[-2:] == ["--torch-backend", "auto"]
    named = engine_env._where("rocm", (3, 12), engine_env.WheelSources(index="https://wheels.example.com"))
    assert "https://wheels.example.com" in named
    assert "--torch-backend" not in named


def test_too_little_room_is_told_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"GiB free; the engine needs") as e:
        engine_env._check_room(tmp_path / "engines", 1 << 60)
    assert "SEAWALL_CACHE" in e.value.cure
