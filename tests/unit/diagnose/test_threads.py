"""What public threads found is the first cause that `diagnose` names, in the words that matter."""

from __future__ import annotations

import pytest

from seawall.diagnose.run import diagnose

from .shapes import Case
from .threads import TABLES


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=f"{table}-{case[0][0]}-{n}")
        for table, cases in TABLES.items()
        for n, case in enumerate(cases)
    ],
)
def test_the_first_cause_is_the_one_that_was_found(case: Case) -> None:
    ids, words, facts = case
    first = diagnose(facts)[0]
    assert first.id in ids, first.what
    for word in words:
        assert word.lower() in f"{first.what} {first.do}".lower()
