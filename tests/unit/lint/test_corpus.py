"""The judged corpus, our own manifests shaped like public ones: nothing wrong is said of them, no cause is missed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from seawall.lint.run import Options, lint, load_rules

CORPUS = Path(__file__).parents[2] / "corpus"
JUDGED: dict[str, dict[str, Any]] = yaml.safe_load((CORPUS / "lint_judged.yaml").read_text("utf-8"))


@pytest.mark.parametrize("name", JUDGED)
def test_what_is_said_of_it_is_right(name: str, options: Options) -> None:
    verdict = JUDGED[name]
    found = lint([str(CORPUS / "lint" / f"{name}.yaml")], options).findings
    false_alarms = [
        (f.severity, f.rule, f.message) for f in found if f.rule not in verdict.get(f.severity, ())
    ]
    assert not false_alarms
    said = {f.rule for f in found}
    assert set(verdict.get("causes", ())) <= said
    assert {r for s in ("error", "warning", "note") for r in verdict.get(s, ())} <= said
    assert not set(verdict.get("missed", ())) & said, "found now: move it to the causes"


def test_every_manifest_is_judged_by_rules_that_exist() -> None:
    from seawall.lint.finding import RULES

    load_rules()
    assert set(JUDGED) == {p.stem for p in (CORPUS / "lint").glob("*.yaml")}
    assert len(JUDGED) >= 60
    named = {rule for verdict in JUDGED.values() for rules in verdict.values() for rule in rules}
    assert named <= set(RULES)
