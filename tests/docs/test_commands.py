"""Docs are executed: every `$ ` line of a console block runs and succeeds, in the order of its page; every other
`seawall …` line in a fenced block is read by the real command line, so that no page names a flag that is not there.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from seawall.cli.group import seawall

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.M | re.S)


def _commands(kind: str, prompt: str, page: Path) -> Iterator[str]:
    for language, body in FENCE.findall(page.read_text("utf-8")):
        if language != kind:
            continue
        for line in body.replace("\\\n", " ").splitlines():
            if line.startswith(prompt):
                yield line.removeprefix("$ ").strip()


STORIES = {p: list(_commands("console", "$ ", p)) for p in PAGES}
MENTIONED = sorted(
    {
        (p, c)
        for p in PAGES
        for kind in ("", "sh", "bash")
        for c in _commands(kind, "seawall ", p)
        if ":" not in c.split()[1]
    }
)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("page", [p for p, c in STORIES.items() if c], ids=lambda p: p.stem)
def test_a_page_can_be_typed(page: Path, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    for command in STORIES[page]:
        argv = ["bash", "-o", "pipefail", "-c", command]
        done = subprocess.run(
            argv, cwd=tmp_path, env=env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=180
        )
        assert done.returncode == 0, f"{page.name}: {command}\n{done.stdout[-500:]}{done.stderr[-1500:]}"


@pytest.mark.parametrize(
    ("page", "command"), MENTIONED, ids=lambda x: x.stem if isinstance(x, Path) else x[:60]
)
def test_a_command_that_is_mentioned_exists(page: Path, command: str) -> None:
    text = re.split(r"\s{3,}|\s[|>#&]|\s\[", command)[0]
    if "|" in text.replace("||", "") and re.search(r"\b\w+\|\w+\|", text):
        text = re.sub(r"(\w+)(\|\w+)+", r"\1", text)
    _parses(seawall, shlex.split(text)[1:], command)


def _parses(group: click.Group, args: list[str], command: str) -> None:
    if not args or args[0].startswith("-"):
        return
    ctx = click.Context(group, info_name="seawall")
    verb = group.get_command(ctx, args[0])
    assert verb is not None, f"{command}: there is no {args[0]}"
    if isinstance(verb, click.Group):
        _parses(verb, args[1:], command)
        return
    known = {o for p in verb.params for o in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
    for word in args[1:]:
        if word.startswith("-") and word != "-":
            option = word.split("=")[0]
            short = option[:2] if not option.startswith("--") else option
            assert option in known or short in known, f"{command}: {args[0]} has no {option}"


def test_the_pages_hold_commands_to_check() -> None:
    assert sum(map(len, STORIES.values())) > 10
    assert len(MENTIONED) > 20
