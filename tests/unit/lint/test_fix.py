"""Patches change what they must and nothing else: comments, order and formatting stay."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from seawall.cli.lint import command
from seawall.lint.run import Options, Report, fix
from seawall.lint.source import Sources

Read = Callable[[str], Sources]


def fixed(text: str, sources: Read, options: Options) -> tuple[Report, str]:
    report, changed = fix(sources(text), options)
    return report, changed.get("manifest.yaml", text)


def test_the_popular_manifest_after_its_patches(popular: str, sources: Read, options: Options) -> None:
    report, text = fixed(popular, sources, options)
    assert report.fixed >= 20
    assert not [f for f in report.findings if f.edits], "nothing mechanical is left"
    gone = [
        line[2:] for line in difflib.ndiff(popular.splitlines(), text.splitlines()) if line.startswith("- ")
    ]
    kept = [line for line in popular.splitlines() if "#" in line]
    lost = [line for line in kept if line not in text.splitlines()]
    assert [line.split("#")[0].strip() for line in lost] == [
        "initialDelaySeconds: 30",
        "failureThreshold: 30",
        "minAvailable: 1",
    ], "only comments on changed or removed lines go"
    assert "# 150 seconds" in text, "a comment behind a changed value stays"
    assert "  replicas: 1" in gone
    assert 'command: ["vllm", "serve"]' in text
    assert "sum(rate(" in text
    assert 'ignoreNullValues: "false"' in text


def test_patching_twice_changes_nothing_more(popular: str, sources: Read, options: Options) -> None:
    _, once = fixed(popular, sources, options)
    report, twice = fixed(once, sources, options)
    assert twice == once
    assert report.fixed == 0


def test_a_good_manifest_is_not_touched(good: str, sources: Read, options: Options) -> None:
    report, text = fixed(good, sources, options)
    assert (report.fixed, text) == (0, good)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("        - --port=8000\n", "        - --preemption-mode\n        - swap\n", ""),
        ("        - --port=8000\n", "        - --preemption-mode=swap  # gone\n", ""),
        ("maxUnavailable: 1\n", "minAvailable: 100%  # all\n", "minAvailable: 100%  # all\n"),
        ("apiVersion: policy/v1\n", 'apiVersion: "policy/v1beta1"  # old\n', 'apiVersion: "policy/v1"  # old\n'),
        (
            'query: sum(vllm:kv_cache_usage_perc{namespace="llm",model_name="chat"})',
            "query: sum(vllm:gpu_cache_usage_perc{namespace='llm',model='chat'})",
            "query: sum(vllm:kv_cache_usage_perc{namespace='llm',model_name='chat'})",
        ),
        ("enableServiceLinks: false\n", "enableServiceLinks: true  # why\n", "enableServiceLinks: false  # why\n"),
        ("GracePeriodSeconds: 140", "GracePeriodSeconds: 60", "GracePeriodSeconds: 140"),
    ],
)  # fmt: skip
def test_each_patch_in_place(
    old: str, new: str, expected: str, good: str, sources: Read, options: Options
) -> None:
    report, text = fixed(good.replace(old, new), sources, options)
    assert text == good.replace(old, expected)
    assert (report.fixed > 0) == (new != expected)


def test_a_flow_mapping_is_left_for_a_person(good: str, sources: Read, options: Options) -> None:
    block = "spec:\n  maxUnavailable: 1\n  unhealthyPodEvictionPolicy: AlwaysAllow\n"
    block += "  selector: {matchLabels: {app: chat}}\n"
    assert block in good
    text = good.replace(block, "spec: {maxUnavailable: 1, selector: {matchLabels: {app: chat}}}\n")
    report, after = fixed(text, sources, options)
    assert after == text
    assert [f.rule for f in report.findings] == ["disruption/unhealthy-stay"]


def test_windows_line_ends_and_no_last_line_end(popular: str, sources: Read, options: Options) -> None:
    windows = popular.replace("\n", "\r\n").rstrip()
    report, text = fixed(windows, sources, options)
    assert report.fixed >= 20
    assert "replicas: 1\r\n" not in text


def test_files_are_written_whole_with_their_mode(tmp_path: Path, popular: str) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(popular)
    path.chmod(0o640)
    result = CliRunner().invoke(command, ["--fix", str(path)])
    assert result.exit_code == 1, "errors are left that no patch mends"
    assert "findings fixed" in result.output
    assert "--disable-log-requests" not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o640
    assert [p.name for p in tmp_path.iterdir()] == ["m.yaml"]


def test_stdin_is_patched_to_stdout(popular: str) -> None:
    result = CliRunner().invoke(command, ["--fix", "-"], input=popular)
    assert result.stdout.startswith("# Manifests as they are copied around")
    assert "--disable-log-requests" not in result.stdout
    assert "fixed" in result.stderr


def test_the_toleration_is_for_the_cards_vendor(good: str, sources: Read, options: Options) -> None:
    line = "- {key: nvidia.com/gpu, operator: Exists, effect: NoSchedule}"
    bare = good.replace(f"      tolerations:\n      {line}\n", "").replace(
        "nvidia.com/gpu: 4", "amd.com/gpu: 4"
    )
    assert bare.count("amd.com/gpu: 4") == 2
    _, patched = fixed(bare, sources, options)
    assert "- key: amd.com/gpu" in patched
    assert "key: nvidia.com/gpu" not in patched
