"""Every field of a Fleet can be asked for, and its example is one that the reader of specs takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from seawall.config.explain import every, explained
from seawall.config.load import parse_document
from seawall.config.reference import page
from seawall.config.yaml import documents
from seawall.errors import InputError

FIELDS = every()


def test_all_of_it_is_there() -> None:
    paths = [f.path for f in FIELDS]
    assert len(paths) == len(set(paths)) > 140
    assert {"spec.scaling.target", "spec.rollout.canary.steps.weight", "metadata.name"} <= set(paths)


def test_a_field_has_its_sentence_type_default_and_example() -> None:
    f = explained("spec.scaling.idleAfter")
    assert (f.kind, f.default, f.example) == ("a duration", "5min", "idleAfter: 5min") or f.default in (
        "300s",
        "5m",
    )
    assert "scale to zero" in f.meaning
    assert explained("hardware.gpu") == explained("spec.hardware.gpu")
    assert set(explained("").inner) == {"metadata", "spec", "apiVersion", "kind"}


@pytest.mark.parametrize(
    "field", [f for f in FIELDS if not f.inner and f.path.count(".") >= 2], ids=lambda f: f.path
)
def test_an_example_is_taken(field) -> None:  # type: ignore[no-untyped-def]
    """The example alone is put where it belongs; no complaint may be about it."""
    parts = field.path.split(".")
    text = "apiVersion: seawall.dev/v1alpha1\nkind: Fleet\nmetadata: {name: a}\n"
    for depth, part in enumerate(parts[:-1]):
        text += "  " * depth + f"{part}:\n"
    text += "  " * (len(parts) - 1) + field.example + "\n"
    _, problems = parse_document(documents(text, "x")[0])
    assert not [p for p in problems if p.path == field.path], (field.example, problems)


@pytest.mark.parametrize(
    ("path", "says"), [("spec.replicas", "scaling.min"), ("spec.scaling.mim", "min"), ("gpus", "gpu")]
)
def test_what_is_no_field_is_answered_by_its_meaning(path: str, says: str) -> None:
    with pytest.raises(InputError) as e:
        explained(path)
    assert says in e.value.cure


def test_it_is_printed_with_the_fields_below_and_the_next_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "seawall", "explain", "spec.scaling"], capture_output=True, text=True
    )
    assert "target   a number, more than 0: Running + waiting + queued" in done.stdout
    assert "Next: seawall explain spec.scaling.min" in done.stdout


def test_every_field_has_a_sentence_and_an_example() -> None:
    assert [f.path for f in FIELDS if not f.meaning] == []
    assert [f.path for f in FIELDS if not f.example] == []


def test_the_reference_page_is_the_spec() -> None:
    page_file = Path("docs/reference/fleet.md")
    assert page_file.read_text("utf-8") == page(), f"run: python -m seawall.config.reference > {page_file}"
