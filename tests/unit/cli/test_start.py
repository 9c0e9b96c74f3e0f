"""The command line starts fast, because help needs nothing; and its map has no dead ends."""

from __future__ import annotations

import importlib
import subprocess
import sys

import click
import pytest

from seawall.cli import COMMANDS, help_text

HEAVY = ("click", "pydantic", "rich", "httpx", "httpx2", "numpy", "yaml")


def test_help_imports_nothing_heavy() -> None:
    """That is what keeps it under 150 ms (12 ms of CPU when measured); a clock would only measure the machine."""
    code = (
        "import sys; sys.argv = ['seawall', '--help']\n"
        "from seawall.cli import main\n"
        "try: main()\n"
        f"except SystemExit: print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
    assert done.stdout.strip() == help_text().strip()


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_has_a_file_and_teaches(verb: str) -> None:
    command = importlib.import_module(f"seawall.cli.{verb.replace('-', '_')}").command
    assert isinstance(command, click.Command)
    assert command.help


def test_a_verb_that_does_not_exist_is_corrected() -> None:
    done = subprocess.run([sys.executable, "-m", "seawall", "statsu"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Did you mean `seawall status`?" in done.stderr


def test_version() -> None:
    from seawall import __version__

    done = subprocess.run([sys.executable, "-m", "seawall", "--version"], capture_output=True, text=True)
    assert done.stdout == f"seawall {__version__}\n"
