"""What people and machines read: text, JSON, SARIF, the stories, the reference page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
from click.testing import CliRunner, Result

from seawall.cli.lint import command
from seawall.lint.report import Show, reference, text
from seawall.lint.run import lint_text

DATA = Path(__file__).parent / "data"
POPULAR = str(DATA / "popular.yaml")
GOOD = str(DATA / "good.yaml")
PAGE = Path(__file__).parents[3] / "docs/reference/lint-rules.md"

# The parts of SARIF 2.1.0 that we write, as its schema has them.
SARIF = {
    "type": "object",
    "required": ["version", "runs"],
    "properties": {
        "version": {"const": "2.1.0"},
        "$schema": {"type": "string", "format": "uri"},
        "runs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["tool"],
                "additionalProperties": False,
                "properties": {
                    "columnKind": {"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
                    "tool": {
                        "type": "object",
                        "required": ["driver"],
                        "properties": {
                            "driver": {
                                "type": "object",
                                "required": ["name"],
                                "properties": {
                                    "semanticVersion": {"type": "string"},
                                    "rules": {
                                        "type": "array",
                                        "uniqueItems": True,
                                        "items": {"type": "object", "required": ["id", "shortDescription"]},
                                    },
                                },
                            }
                        },
                    },
                    "results": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["message", "ruleId", "ruleIndex", "locations"],
                            "properties": {
                                "level": {"enum": ["none", "note", "warning", "error"]},
                                "message": {"type": "object", "required": ["text"]},
                                "locations": {
                                    "type": "array",
                                    "minItems": 1,
                                    "items": {
                                        "type": "object",
                                        "required": ["physicalLocation"],
                                        "properties": {
                                            "physicalLocation": {
                                                "type": "object",
                                                "required": ["artifactLocation", "region"],
                                                "properties": {
                                                    "region": {
                                                        "properties": {
                                                            "startLine": {"type": "integer", "minimum": 1},
                                                            "startColumn": {"type": "integer", "minimum": 1},
                                                        }
                                                    }
                                                },
                                            }
                                        },
                                    },
                                },
                            },
                        },
                    },
                },
            },
        },
    },
}


def run(*args: str, text: str | None = None) -> Result:
    return CliRunner().invoke(command, args, input=text)


def test_text_teaches_and_ends_with_the_next_command() -> None:
    result = run(POPULAR)
    assert result.exit_code == 1
    lines = result.output.splitlines()
    assert any("ScaledObject/vllm-request-scaler  scale/averaged-twice  error" in line for line in lines)
    assert "are fixable" in lines[-2]
    assert lines[-1].startswith("Next: seawall lint --explain ")
    assert run(*lines[-1].split()[3:]).exit_code == 0
    assert all(len(line) <= 160 for line in lines if line.startswith("  "))


def test_nothing_to_say() -> None:
    result = run(GOOD)
    assert (result.exit_code, result.output) == (0, "no findings in 9 objects, 1 vLLM workload.\n")


@pytest.mark.parametrize(("least", "shown"), [("error", ["error"]), ("warning", ["error", "warning"])])
def test_the_least_severity_is_chosen(least: str, shown: list[str]) -> None:
    output = run("--min-severity", least, POPULAR).output
    severities = [line.split("  ")[3] for line in output.splitlines() if line.startswith(POPULAR)]
    assert list(dict.fromkeys(severities)) == shown
    assert f"below {least} not shown" in output
    body = json.loads(run("--json", "--min-severity", least, POPULAR).stdout)
    assert list(dict.fromkeys(f["severity"] for f in body["findings"])) == shown
    assert body["counts"]["note"] > 0


def test_errors_stand_first_and_one_line_sums_up() -> None:
    lines = run(POPULAR).output.splitlines()
    order = [line.split("  ")[3] for line in lines if line.startswith(POPULAR)]
    assert order == sorted(order, key=["error", "warning", "note"].index)
    assert len([line for line in lines if " objects, " in line]) == 1


def test_colour_is_for_terminals_only() -> None:
    report = lint_text(Path(POPULAR).read_text(), "popular.yaml")
    assert "\x1b[" not in text(report, Show())
    coloured = text(report, Show(width=80, colour=True))
    assert "\x1b[31;1merror\x1b[0m" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == text(report, Show(width=80))
    assert all(len(line) <= 80 for line in text(report, Show(width=80)).splitlines() if line.startswith("  "))


@pytest.mark.parametrize("width", [60, 80, 110])
def test_a_path_too_long_for_the_line_stands_below_it(width: int) -> None:
    report = lint_text(Path(POPULAR).read_text(), "popular.yaml")
    lines = text(report, Show(width=width)).splitlines()
    heads = [line for line in lines if line.startswith("popular.yaml:")]
    assert len(heads) == len(report.findings)
    assert all(len(line) <= width or len(line.split("  ")) == 4 for line in heads)
    assert all(len(line) <= width for line in lines if line.startswith("  "))
    assert any(len(line.split("  ")) == 5 for line in heads) == (width == 110)
    assert any(line.startswith("  ….") for line in lines)


def test_json_is_one_object() -> None:
    body = json.loads(run("--json", POPULAR).stdout)
    assert body["counts"]["error"] == sum(f["severity"] == "error" for f in body["findings"])
    assert {"rule", "file", "line", "column", "object", "path", "message", "cure"} <= set(body["findings"][0])


def test_sarif_is_valid() -> None:
    body = json.loads(run("--format", "sarif", POPULAR).stdout)
    jsonschema.validate(body, SARIF)
    rules = body["runs"][0]["tool"]["driver"]["rules"]
    assert all(rules[r["ruleIndex"]]["id"] == r["ruleId"] for r in body["runs"][0]["results"])


def test_sarif_without_findings_is_valid() -> None:
    jsonschema.validate(json.loads(run("--format", "sarif", GOOD).stdout), SARIF)


def test_the_kubernetes_version_decides() -> None:
    text = (DATA / "good.yaml").read_text().replace("apiVersion: policy/v1\n", "apiVersion: policy/v1beta1\n")
    assert "api/removed  error" in run("-", text=text).stdout
    older = run("--target-version", "1.24", "-", text=text)
    assert "api/removed  warning" in older.stdout
    assert older.exit_code == 0


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        ((), 2, "nothing to lint"),
        (("/nowhere.yaml",), 2, "No such file"),
        (("--explain", "scale/averaged-twyce"), 2, "Did you mean scale/averaged-twice"),
    ],
)
def test_bad_input_names_the_cure(args: tuple[str, ...], code: int, said: str) -> None:
    result = run(*args)
    error = result.exception
    assert getattr(error, "exit_code", None) == code
    assert said in str(error)


def test_malformed_yaml_is_bad_input() -> None:
    result = run("-", text="a: [1\n")
    assert result.exit_code == 2
    assert "<stdin>:2" in result.output


def test_explain_tells_the_story_and_lists_all() -> None:
    story = run("--explain", "scale/averaged-twice").output
    assert "DOWN under overload" in story
    assert "Cure: Use sum" in story
    assert run("--explain", "all").output.count("\n") > 70


def test_the_reference_page_is_the_rules() -> None:
    assert PAGE.read_text("utf-8") == reference(), "run: python -m seawall.lint.reference"
