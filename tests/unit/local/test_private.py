"""What is kept on this machine is this user's: keys, state, logs, and a socket that nothing breaks."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from tests.within import within

from seawall.cli.keys import command
from seawall.config.load import parse_fleets
from seawall.drivers.cache import make_private
from seawall.drivers.guardian import Log
from seawall.errors import InputError
from seawall.gateway.tell import keyring
from seawall.local.control import MAX_LINE, serve, socket_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_keys_file_that_others_may_read_is_closed_and_one_that_they_may_write_is_refused(
    tmp_path: Path,
) -> None:
    file = tmp_path / "keys.json"
    file.write_text('{"keys": []}')
    file.chmod(0o644)
    assert keyring.read(file).keys == () and mode(file) == 0o600
    file.chmod(0o640)
    keyring.read(file)
    assert mode(file) == 0o640, "a group was meant"
    for open_to_all in (0o666, 0o602, 0o662):
        file.chmod(open_to_all)
        with pytest.raises(InputError, match=f"chmod 600 {file}"):
            keyring.read(file)
    assert mode(file) == 0o662, "who wrote it is not known: it is not closed over what stands in it"


def test_what_keys_add_makes_is_private(tmp_path: Path) -> None:
    file = tmp_path / "k.json"
    before = os.umask(0)
    try:
        CliRunner().invoke(command, ["add", "a", "--file", str(file)], catch_exceptions=False)
    finally:
        os.umask(before)
    assert {mode(p) for p in tmp_path.iterdir()} == {0o600}


def test_the_state_folder_and_its_logs_are_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        state = make_private(tmp_path / "up")
        old = state / "old.log"
        old.touch(0o666)
        for log in (state / "new.log", old):
            Log(str(log), limit=10).write(b"a prompt")
            Log(str(log), limit=10).write(b"another")
    finally:
        os.umask(before)
    assert mode(state) == 0o700 and {mode(p) for p in state.glob("*.log")} == {0o600}


def test_a_folder_that_was_there_is_closed_or_refused(tmp_path: Path) -> None:
    ours = tmp_path / "ours"
    ours.mkdir(0o755)
    assert mode(make_private(ours)) == 0o700
    anybodys = tmp_path / "anybodys"
    anybodys.mkdir()
    for open_to_all in (0o777, 0o1777):
        anybodys.chmod(open_to_all)
        with pytest.raises(InputError, match="may be written by everybody"):
            make_private(anybodys)
        assert mode(anybodys) == open_to_all


@pytest.mark.parametrize("name", ["Team A", "a/b", "a\n", "-a", "a.", "ä", "x" * 64, "__proto__", '"'])
def test_tenants_are_named_as_hosts_are(name: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(command, ["add", "--file", str(tmp_path / "k.json"), "--", name])
    assert isinstance(done.exception, InputError) and not list(tmp_path.iterdir())
    spec = f"""
apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {{name: m}}
spec: {{model: {{source: file:///none}}, gateway: {{tenants: [{{name: {json.dumps(name)}}}]}}}}
"""
    with pytest.raises(InputError, match=r"spec\.gateway\.tenants"):
        parse_fleets(spec)
    assert parse_fleets(spec.replace(json.dumps(name), "team-a.example"))


@pytest.mark.parametrize(
    "line",
    [
        b"[" * 60_000,
        b'{"do":' * 9_000,
        b"[" * (2 * MAX_LINE),
        b"\xff\xfe",
        b"null",
        b"1" * 5_000,
        b'{"do":[]}',
    ],
)
def test_nothing_that_is_sent_to_the_control_socket_goes_unanswered(tmp_path: Path, line: bytes) -> None:
    async def ask() -> bytes:
        server = await serve(SimpleNamespace(setup=SimpleNamespace(state_dir=tmp_path)))  # type: ignore[arg-type]  # all it needs
        reader, writer = await asyncio.open_unix_connection(socket_path(tmp_path))
        writer.write(line + b"\n")
        got = await within(reader.readline(), 10)
        writer.close()
        server.close()
        return got

    answer = json.loads(asyncio.run(ask()))
    assert answer["ok"] is False and answer["error"] and answer["cure"]
