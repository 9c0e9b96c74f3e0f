"""Specs: what is written is what is meant, and a wrong one is told where and how to mend it."""

from __future__ import annotations

import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import seawall
from seawall.config.load import dump_fleet, json_schema, load_fleets, parse_fleets
from seawall.domain.units import parse_bytes, parse_seconds, parse_tokens
from seawall.errors import InputError

ROOT = Path(__file__).parents[3]
GOOD = """
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: llama}
spec:
  model: {source: hf://meta-llama/Llama-3.1-70B-Instruct, quantization: fp8}
  traffic: {maxContext: 16k, slo: {ttft: 2s, tpot: 60ms}}
  scaling: {min: 2, max: 10}
"""


@pytest.mark.parametrize("deep", ["[" * 100_000, "{a: " * 50_000, "- " * 100_000, "? " * 100_000,
                                  "\n".join(" " * i + "a:" for i in range(1500))])  # fmt: skip
def test_what_is_nested_too_deeply_is_told_and_ends_nothing(deep: str) -> None:
    """The parser would call itself until the process ends."""
    with pytest.raises(InputError, match="nested deeper than 100 levels"):
        parse_fleets(deep)
    parse_fleets(GOOD.replace("name: llama", "name: llama, annotations: {a: '" + "[" * 300 + "'}"))


def test_quantities_become_seconds_bytes_and_tokens() -> None:
    (fleet,) = parse_fleets(GOOD)
    assert fleet.spec.traffic.max_context == 16384
    assert fleet.spec.traffic.slo.tpot == pytest.approx(0.06)
    assert fleet.served_names == ("llama",)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("scaling:", "scalling:", ["fleet.yaml:8", "spec.scalling: unknown key; did you mean scaling?"]),
        ("min: 2", "mim: 2", ["spec.scaling.mim", "did you mean min?"]),
        ("max: 10", "max: 1", ["spec.scaling.max: 1 is less than min 2"]),
        (
            "max: 10",
            "max: 10, timezone: Berlin, schedule: [{start: '0 8 * * 1-5', end: '0 18 * * 1-5', min: 4}]",
            ["spec.scaling.timezone: 'Berlin' is no time zone", "Europe/Berlin"],
        ),
        (
            "max: 10",
            "max: 10, schedule: [{start: '8:00', end: '0 18 * * 1-7', min: 4}]",
            [
                "schedule.0.start: '8:00' is not minute",
                "0 8 * * 1-5",
                "schedule.0.end: '0 18 * * 1-7'",
                "Sunday is 0",
            ],
        ),
        (
            "max: 10",
            "max: 10, schedule: [{start: 0 8 * * 1-5, end: 0 8 * * mon-fri, min: 40}]",
            ["schedule.0.end: is when it starts", "schedule.0.min: 40 is more than spec.scaling.max 10"],
        ),
        (
            "max: 10",
            "max: 10, schedule: [{start: 0 8 * * 1-5, end: 0 9 * * *, max: 1}, {start: 0 1 * * *, end: 0 2 * * *}]",
            ["schedule.0.max: 1 is less than the min 2", "schedule.1.min: 0 changes nothing"],
        ),
        (
            "scaling:",
            "gateway: {store: 'redis://:s3cret@h/0'}\n  scaling:",
            ["spec.gateway.store: holds a password", "storeSecret"],
        ),
        ("16k", "lots", ["spec.traffic.maxContext: 'lots'", "16k"]),
        ("fp8", "fp3", ["spec.model.quantization: 'fp3'"]),
        ("hf://meta-llama/", "meta-llama/", ["write hf://meta-llama/"]),
        ("name: llama", "name: Llama_3", ["metadata.name", "DNS label"]),
        ("v1alpha1", "v9", ["seawall.dev/v9", "write apiVersion: seawall.dev/v1alpha1"]),
        ("kind: Fleet", "kind: Fleet\nkind: Fleet", ["fleet.yaml:4:1", "twice"]),
        ("{name: llama}", "{name: llama", ["fleet.yaml:"]),
        (
            "{source: hf://meta-llama/Llama-3.1-70B-Instruct, quantization: fp8}",
            "{}",
            ["spec.model.source: is required"],
        ),
    ],
)
def test_a_wrong_spec_is_told_where_and_how(old: str, new: str, says: list[str]) -> None:
    with pytest.raises(InputError) as e:
        parse_fleets(GOOD.replace(old, new, 1))
    for part in says:
        assert part in e.value.message, e.value.message


@pytest.mark.parametrize(
    "text", ["", "---\n", "- 1\n", "x: &a [*a]\n", "{" * 5000, "\x00", "a: !!python/object:os.x {}"]
)
def test_hostile_yaml_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError):
        parse_fleets(text)


@given(st.text())
def test_no_text_escapes_as_another_error(text: str) -> None:
    with pytest.raises(InputError):
        parse_fleets(text)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.stem)
def test_examples_load_and_round_trip(path: Path) -> None:
    import yaml

    for fleet in load_fleets(path):
        assert parse_fleets(yaml.safe_dump(dump_fleet(fleet)))[0] == fleet


def test_schema_accepts_the_good_and_refuses_the_unknown() -> None:
    import jsonschema
    import yaml

    schema = json_schema()
    data = yaml.safe_load(GOOD)
    jsonschema.validate(data, schema)
    data["spec"]["typo"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, schema)
    assert "servedNames" in schema["$defs"]["Model"]["properties"]
    assert schema["$defs"]["Scaling"]["properties"]["target"]["description"]


def test_units() -> None:
    assert parse_seconds("1h30m") == 5400
    assert parse_seconds("200ms") == pytest.approx(0.2)
    assert parse_bytes("64Mi") == 64 * 2**20
    assert parse_tokens("16k") == 16384
    for parse, text in [(parse_seconds, "2 parsecs"), (parse_bytes, "9Q"), (parse_tokens, "-1")]:
        with pytest.raises(ValueError, match="write"):
            parse(text)


def test_version_is_the_same_everywhere() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == seawall.__version__


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from seawall.cli import main; sys.argv = ['seawall', '--help']\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted(m for m in ('click','pydantic','numpy','rich','httpx2') if m in sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("[]"), out


def test_yaml_scan_is_linear() -> None:
    start = time.perf_counter()
    with pytest.raises(InputError):
        parse_fleets("a:\n" + "  - b\n" * 50_000)
    assert time.perf_counter() - start < 20
