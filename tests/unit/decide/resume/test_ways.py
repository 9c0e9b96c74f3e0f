"""The table of ways: what a row says of its fields is true, and hiding cuts what it should."""

from __future__ import annotations

import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seawall.decide.route.resume import TABLE, BodyFields, Policy, events, way_of
from seawall.decide.route.resume.ways import KNOWN, ROUTES

FIELDS = sorted(KNOWN | {"guided_json", "functions", "background", "unheard_of"})
VALUES = json.loads(
    """[null, false, true, 0, 1, 2, 0.7, "", "text", [], ["a", "b"], {}, {"type": "json_object"}, [{"type": "mcp"}]]"""
)


@pytest.mark.parametrize("route", [*ROUTES, "/v1/other"])
def test_the_rows_that_are_skipped_for_want_of_their_fields_would_not_have_held(route: str) -> None:
    for base, field, value in itertools.product([{}, {"temperature": 0}], FIELDS, VALUES):
        ask = BodyFields(route, json.dumps(base | {field: value}).encode(), Policy())
        assert way_of(ask) is next(row for row in TABLE if row.when(ask)), (base, field, value)


@given(st.lists(st.lists(st.integers(0, 2**32 - 1)), max_size=4), st.lists(st.integers(0, 9)))
def test_every_list_of_token_ids_is_hidden_and_nothing_else(
    groups: list[list[int]], prompt: list[int]
) -> None:
    choices = [
        {"index": i, "text": '"token_ids":[7]', "token_ids": ids, "prompt_token_ids": prompt}
        for i, ids in enumerate(groups)
    ]
    event = events.write({"choices": choices, "usage": None})
    want = re.sub(rb',"token_ids":\[[0-9,]*\]', b',"token_ids":null', event)
    assert events.hide_token_ids(event) == want
