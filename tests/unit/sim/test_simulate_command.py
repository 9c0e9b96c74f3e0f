"""`seawall simulate` as a person uses it: words, JSON, reports, sweeps, and errors that name the cure."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from seawall.cli.simulate import command
from seawall.errors import InputError

FLEET = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: tiny}
spec:
  model: {source: hf://meta-llama/Llama-3.1-8B-Instruct}
  hardware: {gpu: H100-80GB, cloud: gke}
  traffic: {maxContext: 8k, promptTokens: 300, outputTokens: 60}
  scaling: {min: 1, max: 4, target: 8}
"""


@pytest.fixture
def spec(tmp_path: Path) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(FLEET)
    return str(path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(command, list(arguments), catch_exceptions=False)


def test_the_answers_in_words(spec: str) -> None:
    found = run(spec, "--rate", "2/s for 1m, 20/s for 2m")
    assert found.exit_code == 0
    for word in ("0 lost", "TTFT", "GPU-hours", "what happened", "Next:"):
        assert word in found.output


def test_json_holds_the_same_and_only_json(spec: str) -> None:
    (found,) = json.loads(run(spec, "--rate", "2/s for 1m", "--json").stdout)["runs"]
    assert found["requests"]["arrived"] == found["requests"]["done"]
    assert {"ttft_s", "gpu_hours", "slo_attainment", "longest_queue", "log"} <= set(found)


def test_a_sweep_marks_the_front(spec: str) -> None:
    arguments = [spec, "--rate", "10/s for 2m", "--sweep", "scaling.target=4,16", "spot=true,false"]
    rows = json.loads(run(*arguments, "--json").stdout)["runs"]
    assert len(rows) == 4
    assert any(row["pareto"] for row in rows)
    assert "scaling.target=16 spot=false" in run(*arguments).output


def test_reports_are_written(spec: str, tmp_path: Path) -> None:
    paths = {kind: tmp_path / f"r.{kind}" for kind in ("html", "svg", "png")}
    options = [word for kind, path in paths.items() for word in (f"--{kind}", str(path))]
    assert run(spec, "--rate", "2/s for 1m", "--event", "30s kill", *options).exit_code == 0
    assert all(path.stat().st_size > 1000 for path in paths.values())


def test_a_trace_is_replayed(spec: str, tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    rows = "".join(f"2023-11-16 18:17:{i:02d}.0000000,{100 + i},20\n" for i in range(60))
    trace.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    (found,) = json.loads(run(spec, "--trace", str(trace), "--speed", "2", "--json").stdout)["runs"]
    assert found["requests"]["arrived"] == 60
    assert "Azure" in found["source"]


def both(tmp_path: Path, extra: str = "") -> str:
    path = tmp_path / "both.yaml"
    path.write_text("---".join(FLEET.replace("tiny", name) + extra for name in ("a", "b")))
    return str(path)


def test_several_fleets_are_simulated_each_under_its_share(tmp_path: Path) -> None:
    arguments = [both(tmp_path), "--rate", "20/s for 1m", "--share", "a=3,b=1"]
    found = json.loads(run(*arguments, "--json").stdout)
    a, b = (row["requests"] for row in found["fleets"])
    assert [row["name"] for row in found["fleets"]] == ["a", "b"]
    assert 2 < a["arrived"] / b["arrived"] < 4
    assert found["total"]["requests"]["done"] == a["done"] + b["done"] == a["arrived"] + b["arrived"]
    assert found["total"]["gpu_hours"] == pytest.approx(
        sum(r["gpu_hours"] for r in found["fleets"]), abs=1e-3
    )
    text = run(*arguments, "--html", str(tmp_path / "r.html")).output
    assert "\na   0.75 of 20/s" in f"\n{text}" and "all 2 fleets" in text
    assert "<h2>b</h2>" in (tmp_path / "r.html").read_text()


def test_what_is_about_one_fleet_asks_which(tmp_path: Path) -> None:
    spec = both(tmp_path)
    for words in (["--event", "1s kill"], ["--svg", str(tmp_path / "x.svg")], ["scaling.target=1,2"]):
        with pytest.raises(InputError) as e:
            run(spec, "--rate", "1/s for 1m", *words)
        assert "--fleet" in e.value.cure
    assert (
        "1m   policy keda" in run(spec, "--rate", "1/s for 1m", "--fleet", "b", "--event", "1s kill").output
    )


def test_a_pool_is_not_simulated_as_if_it_had_room_for_all(tmp_path: Path) -> None:
    spec = both(tmp_path, "  pool: {name: shared, capacity: 1}\n")
    with pytest.raises(InputError, match="turns in a pool"):
        run(spec, "--rate", "1/s for 1m")
    assert "as if the pool were its own" in run(spec, "--rate", "1/s for 1m", "--fleet", "a").stderr


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--rate", "fast"],
        ["--rate", "1/s for 1m", "--trace", "x"],
        ["--trace", "absent.csv"],
        ["--rate", "1/s for 1m", "--event", "never"],
        ["--rate", "1/s for 1m", "--fleet", "other"],
        ["--rate", "1/s for 1m", "--html", "/nowhere/at/all.html"],
        ["--rate", "1/s for 1m", "--speed", "2"],
        ["--rate", "1/s for 1m", "--share", "tiny=1"],
        ["--trace", "absent.csv", "--prompt", "9"],
    ],
)
def test_bad_input_is_an_input_error(spec: str, words: list[str]) -> None:
    with pytest.raises(InputError):
        run(spec, *words)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--node-delay", "banana"], "--node-delay 'banana' is no duration"),
        (["--patience", "-5"], "--patience '-5' is no duration"),
        (["--png", "/nowhere/at/all.png"], "there is no such folder"),
    ],
)
def test_options_that_cannot_be_read_name_themselves(spec: str, words: list[str], says: str) -> None:
    with pytest.raises(InputError, match=says):
        run(spec, "--rate", "1/s for 1m", *words)


@pytest.mark.parametrize(
    "words",
    [["--seed", "-1"], ["--prompt", "nan"], ["--speed", "inf"], ["--calibration", "absent.json"]],
)
def test_numbers_and_files_that_are_none_are_refused(spec: str, words: list[str]) -> None:
    found = CliRunner().invoke(command, [spec, "--rate", "1/s for 1m", *words])
    assert found.exit_code == 2 and words[0] in found.output


def test_a_packed_trace_is_read_and_a_broken_one_refused(spec: str, tmp_path: Path) -> None:
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.98,100,20\n"
    packed = gzip.compress(text.encode())
    (tmp_path / "t.csv.gz").write_bytes(packed)
    assert "1 request in" in run(spec, "--trace", str(tmp_path / "t.csv.gz")).output
    (tmp_path / "cut.gz").write_bytes(packed[:-12])
    with pytest.raises(InputError, match=r"cut\.gz"):
        run(spec, "--trace", str(tmp_path / "cut.gz"))


def test_a_load_of_nothing_still_costs_what_stands_there(spec: str) -> None:
    (found,) = json.loads(run(spec, "--rate", "0/s for 1h", "--json").stdout)["runs"]
    assert found["requests"]["arrived"] == 0
    assert found["duration_s"] == pytest.approx(3600)
    assert found["gpu_hours"] == pytest.approx(1, abs=0.01)


def test_a_schedule_is_simulated_from_the_time_that_the_load_begins(tmp_path: Path) -> None:
    path = tmp_path / "office.yaml"
    window = "timezone: Europe/Berlin, schedule: [{start: 0 8 * * 1-5, end: 0 18 * * 1-5, min: 3}], "
    path.write_text(FLEET.replace("scaling: {", f"scaling: {{{window}"))

    def most(begins: str) -> int:
        found = run(str(path), "--rate", "1/s for 10m", "--begins", begins, "--json")
        assert found.exit_code == 0
        (only,) = json.loads(found.output)["runs"]
        count: int = only["replicas"]["most"]
        return count

    assert most("2026-11-30 07:58") == 3
    assert most("2026-11-29 07:58") == 1
    with pytest.raises(InputError, match="is no time"):
        run(str(path), "--rate", "1/s for 1m", "--begins", "monday")
