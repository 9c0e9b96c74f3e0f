"""The catalogue of vLLM versions: what a version's parser takes and what its /metrics shows."""

from __future__ import annotations

import pytest

from seawall.engines.vllm.versions import (
    DEFAULT_VERSION,
    check_flag,
    find_flag,
    find_metric,
    flags,
    metrics,
    nearest,
    parse_version,
)

V32 = (0, 32)
V33 = (0, 33)


@pytest.mark.parametrize(
    ("tag", "version"),
    [("v0.32.0", (0, 32)), ("0.9.0.1-cu128", (0, 9)), ("0.11", (0, 11)), ("latest", None), ("nightly", None)],
)
def test_a_tag_names_a_version(tag: str, version: tuple[int, int] | None) -> None:
    assert parse_version(tag) == version


def test_a_removed_flag_is_refused_from_its_version_on() -> None:
    problem = check_flag("--disable-log-requests", V32)
    assert problem is not None
    assert problem.kind == "removed"
    assert problem.instead.startswith("nothing")
    assert check_flag("--disable-log-requests", (0, 9)) is None


def test_a_flag_that_came_later_is_refused_before() -> None:
    problem = check_flag("--max-num-queued-reqs", (0, 20))
    assert problem is not None
    assert problem.kind == "too new"
    assert check_flag("--max-num-queued-reqs", V32) is None


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("-tp", "--tensor-parallel-size"),
        ("--tensor_parallel_size=4", "--tensor-parallel-size"),
        ("--no-enable-prefix-caching", "--enable-prefix-caching"),
        ("--speculative-config.model", "--speculative-config"),
        ("-O3", "--optimization-level"),
        ("--gpu-memory-util", "--gpu-memory-utilization"),
    ],
)
def test_a_flag_is_found_however_vllm_lets_it_be_written(word: str, name: str) -> None:
    found = find_flag(word)
    assert found is not None
    assert found.name == name


def test_a_typo_gets_a_near_name_and_a_switch_that_takes_a_value_has_no_negation() -> None:
    problem = check_flag("--tensor-paralel-size", V32)
    assert problem is not None
    assert (problem.kind, problem.instead) == ("unknown", "--tensor-parallel-size")
    assert check_flag("--no-tensor-parallel-size", V32) is not None


def test_metrics_know_their_type_and_their_time() -> None:
    waiting = find_metric("vllm:num_requests_waiting")
    assert waiting is not None
    assert waiting.type == "gauge"
    bucket = find_metric("vllm:time_to_first_token_seconds_bucket")
    assert bucket is not None
    assert bucket.type == "histogram"
    old = find_metric("vllm:gpu_cache_usage_perc")
    assert old is not None
    assert not old.known_to(V32)
    assert old.instead == "vllm:kv_cache_usage_perc"
    assert find_metric("vllm:pending_requests_total") is None


def test_versions_outside_the_tables_are_judged_by_the_nearest() -> None:
    assert nearest((0, 99)) == V33
    assert nearest((0, 3)) == (0, 8)


def test_the_tables_are_whole() -> None:
    assert sum(f.known_to(V32) for f in {f.name: f for f in flags().values()}.values()) >= 300
    assert all(f.removed is None or f.removed >= f.since for f in flags().values())
    assert all(m.removed is None or m.removed > m.since for m in metrics().values())


def test_0_33_only_adds_flags_and_still_takes_what_was_announced_to_go() -> None:
    for word in ("--watchdog-config", "--sleep-mode-backend", "--monokernel"):
        assert check_flag(word, V33) is None
        before = check_flag(word, V32)
        assert before is not None and before.kind == "too new"
    for word in ("--log-config-file", "--disable-cascade-attn", "--mamba-cache-mode"):
        told = check_flag(word, V33)
        assert told is not None and told.kind == "deprecated"
    assert all(f.known_to(V33) for f in flags().values() if f.known_to(V32))
    assert all(m.known_to(V33) for m in metrics().values() if m.known_to(V32))


def test_what_is_installed_by_default_is_the_newest_that_cpus_have() -> None:
    assert parse_version(DEFAULT_VERSION) == V32
