"""`seawall diagnose --explain`: every cause that the rules can give has a story, and no story is of nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from seawall.cli.diagnose import command
from seawall.diagnose import stories
from seawall.engines.vllm.places import PLACES
from seawall.engines.vllm.signs import SIGNS

SOURCE = Path(stories.__file__).parent


def given() -> set[str]:
    """Names of causes as they stand in the rules' own code."""
    found = {sign.id for sign in SIGNS} | {place.id for place in PLACES}
    for path in SOURCE.glob("*.py"):
        if path.name not in ("stories.py", "doctor.py", "examine_cluster.py"):
            found |= set(re.findall(r'"([a-z]+/[a-z0-9-]+)"', path.read_text("utf-8")))
    return {f for f in found if f.split("/")[0] in {i.split("/")[0] for i in stories.STORIES}}


def test_every_cause_is_explained_and_nothing_else() -> None:
    assert given() - set(stories.ids()) == set()
    assert set(stories.STORIES) - given() == set()


@pytest.mark.parametrize("cause", stories.ids())
def test_a_story_is_whole_sentences_without_places_left(cause: str) -> None:
    text = stories.explain(cause)
    assert text.splitlines()[0] == cause
    assert len(text) > 60
    assert not re.search(r"\{[a-z]+\}", text)
    assert all(len(line) <= 100 for line in text.splitlines())


def test_the_command_line_tells_it() -> None:
    told = CliRunner().invoke(command, ["--explain", "probe/startup-too-short"])
    assert (told.exit_code, "The kubelet's event" in told.output) == (0, True)
    listed = CliRunner().invoke(command, ["--explain", "all"])
    assert listed.output.splitlines() == stories.ids()
    wrong = CliRunner().invoke(command, ["--explain", "probe/startup-to-short"])
    assert "Did you mean probe/startup-too-short" in str(wrong.exception)
