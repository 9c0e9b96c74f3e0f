"""`seawall bench`: no flag is ignored in silence."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from seawall.cli.bench import command
from seawall.errors import InputError


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--rate 5/s --trace README.md", "--rate and --trace exclude"),
        ("--rate 5/s --requests 7", "--rate and --requests exclude"),
        ("--rate 5/s --duration 7s", "--rate and --duration exclude"),
        ("--trace README.md --concurrency 2", "--trace and --concurrency exclude"),
        ("--find-capacity --rate 5/s", "--find-capacity and --rate exclude"),
        ("--calibrate x.json --no-stream", "--calibrate and --no-stream exclude"),
        ("--calibrate x.json --endpoint embeddings", "measures generated tokens"),
        ("--requests 7", "--requests is for a closed loop"),
        ("--multi-turn", "--multi-turn needs --conversations"),
    ],
)
def test_flags_that_exclude_each_other(flags: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        CliRunner().invoke(command, ["http://127.0.0.1:9", *flags.split()], catch_exceptions=False)


@pytest.mark.parametrize(
    "flags", ["--burst -1", "--spread -1", "--shared-prefix -5", "--groups 0", "--requests 0"]
)
def test_numbers_that_cannot_be(flags: str) -> None:
    assert CliRunner().invoke(command, ["http://127.0.0.1:9", *flags.split()]).exit_code == 2
