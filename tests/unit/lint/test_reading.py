"""Anybody's files: malformed, huge, hostile, half a chart. A clear word with a place, never a traceback."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seawall.errors import InputError
from seawall.lint.node import MAX_VALUES, Malformed, parse
from seawall.lint.run import Report, check, lint_text
from seawall.lint.source import MAX_BYTES, read

GOOD = Path(__file__).parent / "data" / "good.yaml"


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: [1, 2\nb: 3\n", 2, 2),
        ("a: 1\n b: 2\n", 2, 3),
        ("a:\n\t- 1\n", 2, 1),
        ('a: "open\n', 2, 1),
        ("a: *nowhere\n", 1, 4),
        ("a: {{ .Values.x }}\nb: {{- end }}\n", 2, 6),
    ],
)
def test_malformed_yaml_has_a_line_and_a_column(
    text: str, line: int, column: int, lint: Callable[[str], Report]
) -> None:
    report = lint(text)
    assert report.unreadable
    finding = report.findings[0]
    assert (finding.rule, finding.line) == ("yaml/malformed", line)
    assert abs(finding.column - column) <= 2


def test_a_template_is_named_as_one(lint: Callable[[str], Report]) -> None:
    text = "spec:\n  replicas: {{ .Values.replicas }}\n  {{- if .x }}\n"
    assert "helm template" in lint(text).findings[0].message


@pytest.mark.parametrize("text", ["a:\n\t- 1\n", "a: 1\nb:\n  \tc: 1\n"])
def test_a_tab_is_named_as_one(text: str, lint: Callable[[str], Report]) -> None:
    assert "a tab stands there" in lint(text).findings[0].message


def test_good_documents_before_a_broken_one_still_count(good: str, lint: Callable[[str], Report]) -> None:
    report = lint(good.replace("maxReplicaCount: 8", "maxReplicaCount: 8\n  : : ["))
    assert [f.rule for f in report.findings if f.severity == "error"] == ["yaml/malformed"]
    assert report.workloads == 1


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 50_000,
        "- " * 50_000,
        "".join(f"{' ' * i}a:\n" for i in range(2_000)),
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(12)
        ),
        "a: &a [*a]\n",
        "a: \x00\n",
        "? [complex, key]\n: 1\n",
        "!!python/object/apply:os.system ['true']\n",
        "%YAML 9.9\n---\na: 1\n",
        "a: " + "9" * 10_000,
        "<<: [1, 2]\n",
        "kind: Deployment\napiVersion: apps/v1\nmetadata: 7\nspec: [1]\n",
        "kind: Deployment\napiVersion: apps/v1\nspec: {template: {spec: {containers: {image: vllm}}}}\n",
        "kind: [a]\napiVersion: {}\n",
    ],
)
def test_hostile_yaml_costs_little_and_breaks_nothing(text: str, lint: Callable[[str], Report]) -> None:
    before = time.process_time()
    lint(text)
    assert time.process_time() - before < 5


def test_what_cannot_be_read_is_named_and_the_other_files_are_linted(tmp_path: Path, good: str) -> None:
    (tmp_path / "a-big.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    (tmp_path / "b-latin.yaml").write_bytes(b"a: b\nname: caf\xe9\n")
    (tmp_path / "c-wide.yaml").write_text("a: [" + "1," * MAX_VALUES + "1]\n")
    (tmp_path / "d-good.yaml").write_text(good.replace("minReplicaCount: 2", "minReplicaCount: 9"))
    report = check(read([str(tmp_path)]))
    found = [(Path(f.file).name, f.line, f.column) for f in report.findings if f.rule == "yaml/malformed"]
    assert sorted(name for name, _, _ in found) == ["a-big.yaml", "b-latin.yaml", "c-wide.yaml"]
    assert ("b-latin.yaml", 2, 10) in found
    assert report.unreadable
    assert any(f.file.endswith("d-good.yaml") and f.rule.startswith("scale/") for f in report.findings)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_behind_a_broken_document_reading_goes_on(
    newline: str, bom: str, good: str, lint: Callable[[str], Report]
) -> None:
    wrong = good.replace("minReplicaCount: 2", "minReplicaCount: 9")
    (alone,) = [f for f in lint(wrong).findings if f.severity != "note"]
    broken = ["a: [1, 2", "---", "b:\n\tc: 1", "---", "d: 'open", "---"]
    text = "\n".join([*broken, wrong, "---", "e: }"])
    report = lint(bom + text.replace("\n", newline))
    assert report.objects == lint(wrong).objects
    places = [(f.line, f.column) for f in report.findings if f.rule == "yaml/malformed"]
    assert places == [(2, 1), (4, 1), (7, 1), (text.count("\n") + 1, 4)]
    (after,) = [f for f in report.findings if f.rule == alone.rule]
    assert after.line == alone.line + "\n".join(broken).count("\n") + 1


def test_a_template_is_told_once(lint: Callable[[str], Report]) -> None:
    report = lint("a: {{- end }}\n---\nb: {{- end }}\n")
    assert [f.line for f in report.findings] == [1]
    assert "render it first" in report.findings[0].message


def test_large_strangers_are_passed_over_unparsed(good: str, lint: Callable[[str], Report]) -> None:
    crd = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: x}\nspec:\n"
    crd += "".join(f"  field{i}: {{type: string, description: long}}\n" for i in range(60_000))
    text = crd + "---\n" + good.replace("minReplicaCount: 2", "minReplicaCount: 9")
    before = time.process_time()
    report = lint(text)
    assert time.process_time() - before < 3
    finding = report.findings[0]
    assert text.splitlines()[finding.line - 1].strip() == "minReplicaCount: 9"


def test_folders_stdin_and_charts(tmp_path: Path, good: str) -> None:
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text("apiVersion: v2\nname: x\nversion: 1.0.0\n")
    (chart / "templates" / "a.yaml").write_text("{{ if }}")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "good.yml").write_text(good)
    (tmp_path / "b" / "notes.txt").write_text("not yaml: [")
    sources = read([str(tmp_path)])
    assert sources.templates == 1
    assert not sources.broken
    assert len(sources.texts) == 2
    with pytest.raises(InputError, match="No such file"):
        read([str(tmp_path / "nowhere.yaml")])


def test_values_are_those_of_yaml(good: str, popular: str) -> None:
    for text in (good, popular):
        mine = [n.plain() for n in parse(text, "f")]
        assert mine == [d for d in yaml.safe_load_all(text) if d is not None]


def test_offsets_point_at_the_text(good: str) -> None:
    text = "# é 🙂 wide\n" + good.replace("name: weights", "name: wéights🙂")
    for root in parse(text, "f"):
        node = root.at("metadata", "name")
        assert text[node.span.start : node.span.end] == node.value


_SCALARS = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=12)
_DATA = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=25,
)


@settings(max_examples=60, deadline=None)
@given(_DATA)
def test_any_document_reads_as_pyyaml_reads_it(data: object) -> None:
    text = yaml.safe_dump(data, allow_unicode=True)
    docs = [n.plain() for n in parse(text, "f")]
    theirs = [d for d in yaml.load_all(text, yaml.CSafeLoader) if d is not None]
    assert docs == theirs


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=200))
@example("{")  # its error lies behind its last line
def test_any_text_ends_in_nodes_or_in_a_place(text: str) -> None:
    try:
        list(parse(text, "f"))
    except Malformed as e:
        assert e.message
    report = lint_text(text)
    assert report.objects >= 0


_WORDS = st.sampled_from(
    [
        "spec",
        "template",
        "containers",
        "args",
        "resources",
        "limits",
        "triggers",
        "metadata",
        "query",
        "kind",
        "x",
        "0",
    ]
)
_ODD = st.recursive(
    _SCALARS | st.sampled_from(["vllm", "serve", "--port", "-tp", "avg(x", "100%", "8000"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=40, deadline=None)
@given(
    _ODD,
    st.sampled_from(
        ["spec.template.spec.containers", "spec.replicas", "spec.template.spec", "metadata", "spec"]
    ),
)
def test_a_deployment_with_anything_in_it_breaks_no_rule(odd: object, place: str) -> None:
    docs = list(yaml.safe_load_all(GOOD.read_text("utf-8")))
    target = next(d for d in docs if d["kind"] == "Deployment")
    *path, last = place.split(".")
    at = target
    for key in path:
        at = at[key]
    at[last] = odd
    lint_text(yaml.safe_dump_all(docs))
