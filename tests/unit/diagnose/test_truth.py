"""Replicas that answer wrongly, as gateways say: named by kind, with the evidence and what to do."""

from __future__ import annotations

import pytest

from seawall.decide.truth.fingerprint import Deviation, Distance
from seawall.decide.truth.standing import TruthStanding, told_all
from seawall.diagnose.facts import Facts
from seawall.diagnose.liveness import hung
from seawall.diagnose.truth import DO, answers_wrongly

FAR = Distance(0.5, 2.0)


def moved(kind: str, how: str) -> Deviation:
    return Deviation(f"{kind}-{how}", kind, how, FAR, Distance(0.001, 0.002))


REASONS = {
    "template": [moved("chat", "prompt"), Deviation("c2", "chat", "prompt"), moved("text", "same")],
    "revision": [moved("chat", "drift"), moved("text", "drift")],
    "weights": [moved("chat", "senseless"), moved("text", "senseless")],
    "numeric": [moved("chat", "absurd"), moved("text", "absurd")],
}


def facts(reason: str, state: str = "evicted", suspect: str = "") -> Facts:
    told = {"fleet": "f", "state": state, "reason": reason, "suspect": suspect}
    return Facts(gateways={"g-1": {"replicas": {"p": told}}})


@pytest.mark.parametrize("kind", REASONS)
def test_the_kind_is_named_with_its_evidence_and_a_cure(kind: str) -> None:
    reason = told_all(TruthStanding(), REASONS[kind]).reason
    (cause,) = answers_wrongly(facts(reason))
    assert (cause.id, cause.certainty, cause.subject) == (f"truth/{kind}", "certain", "Pod/p")
    assert cause.do.startswith(DO[kind])
    assert cause.evidence == (f"g-1: {reason}",)
    assert not list(hung(facts(reason)))


def test_a_suspicion_is_only_possible() -> None:
    suspect = TruthStanding(state="suspect", evidence=(moved("text", "drift"),)).reason
    (cause,) = answers_wrongly(facts("", "ready", suspect))
    assert (cause.id, cause.certainty) == ("truth/unclear", "possible")


def test_other_evictions_are_others() -> None:
    assert not list(answers_wrongly(facts("answered 500")))
