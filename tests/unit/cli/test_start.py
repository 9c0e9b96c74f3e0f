"""The command line starts fast, because help needs nothing; and its map has no dead ends."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import click
import pytest

from seawall.cli import BROKEN_PIPE, COMMANDS, help_text

HEAVY = ("click", "pydantic", "rich", "httpx2", "numpy", "yaml")


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


SPEC = str(Path(__file__).parents[3] / "examples" / "smollm2.yaml")
PRINTING = {
    "--help": ["--help"],
    "help of a verb": ["render", "--help"],
    "plan": ["plan", SPEC],
    "json": ["plan", SPEC, "--json"],
    "render": ["render", SPEC],
    "simulate": ["simulate", SPEC, "--rate", "1/s for 5s"],
}


@pytest.mark.parametrize("argv", PRINTING.values(), ids=PRINTING)
def test_a_full_disk_is_said_in_a_line(argv: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "seawall", *argv], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-2:] == [
        "seawall: the output, or a file, cannot be written: No space left on device.",
        "  Make room there, or write elsewhere.",
    ]
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("argv", PRINTING.values(), ids=PRINTING)
def test_a_reader_that_has_seen_enough_ends_it_quietly(argv: list[str]) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "seawall", *argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None and running.stderr is not None
    running.stdout.close()
    said = running.stderr.read()
    assert running.wait() == BROKEN_PIPE
    assert "Traceback" not in said and "Broken pipe" not in said
