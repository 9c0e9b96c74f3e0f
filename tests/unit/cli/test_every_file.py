"""Every file that a command line names: `-` is standard input wherever one is read, and whatever is wrong with a file
is told by its name, in words that are nobody's class names, and before any work."""

from __future__ import annotations

import ast
import io
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from tests.unit.cli.test_output import SPEC, every_command
from tests.unit.cli.test_usage import said

from seawall.cli.files import InputFile

SOURCES = Path(__file__).parents[3] / "src" / "seawall"
COMMANDS = {name: c for name, c in every_command() if not isinstance(c, click.Group)}
WRITTEN = {"--html", "--svg", "--png", "--keep-logs", "--record", "--calibrate", "--out", "--output", "--write", "--to",
           "--results", "batch results --file", "--folder", "--usage", "--audit"}  # fmt: skip
"""What verbs write."""
KEPT = {"keys add --file", "keys revoke --file", "pull --lock", "gateway --keys", "gateway --tls-cert",
        "gateway --tls-key", "gateway --engine-ca", "gateway --keeper", "gateway --board", "gateway --supervisor",
        "operator scaler --tls", "pull --secrets", "batch serve --secrets", "models list --specs"}  # fmt: skip
"""What is changed where it lies, or looked at again while a process runs, and folders."""


def read_here(name: str, param: click.Parameter) -> bool:
    """An option that names a file whose content the verb needs once."""
    flag = max(param.opts, key=len)
    names = {flag, f"{name} {flag}"}
    file = isinstance(param, click.Option) and isinstance(param.type, click.Path)
    return file and param.name not in ("state_dir", "registry") and not names & (WRITTEN | KEPT)


READ = [(name, max(p.opts, key=len)) for name, c in COMMANDS.items() for p in c.params if read_here(name, p)]
BEFORE = {
    "plan": ["fleet.yaml"], "simulate": ["fleet.yaml", "--rate", "1/s for 1s"], "render": ["fleet.yaml"],
    "advise": ["fleet.yaml"], "advise --token-file": ["fleet.yaml", "--prometheus", "http://127.0.0.1:9"],
    "fingerprint": ["fleet.yaml"], "bench": ["http://127.0.0.1:9", "--model", "m"],
    "models add": ["m", "hf://a/b"], "plan --model-config": [], "simulate --trace": ["fleet.yaml"],
}  # fmt: skip
"""What stands before the option on a command line that could be run."""


def before_flag(name: str, flag: str) -> list[str]:
    return BEFORE.get(f"{name} {flag}", BEFORE.get(name, []))


def told(*args: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    """What the error says, with nothing on standard input."""
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    return said(*args)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    (tmp_path / "fleet.yaml").write_text(SPEC)
    (tmp_path / "folder").mkdir()
    (tmp_path / "deep").write_text("[" * 100_000)
    (tmp_path / "binary").write_bytes(bytes(range(256)) * 4)
    return tmp_path


def test_the_walk_finds_what_is_read() -> None:
    assert {("plan", "--prices"), ("diagnose", "--facts"), ("render", "--lock"), ("bench", "--trace")} <= {
        *READ
    }
    assert all(
        isinstance(p.type, InputFile) for n, flag in READ for p in COMMANDS[n].params if flag in p.opts
    )


@pytest.mark.parametrize(("name", "flag"), READ)
def test_a_file_is_read_from_standard_input_too(
    name: str, flag: str, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    before = {p.name for p in folder.iterdir()}
    message, _ = told(*name.split(), *before_flag(name, flag), flag, "-", monkeypatch=monkeypatch)
    assert message == "standard input is empty."
    assert {p.name for p in folder.iterdir()} == before


@pytest.mark.parametrize("given", ["nofile", "folder", "deep", "binary"])
@pytest.mark.parametrize(("name", "flag"), READ)
def test_a_file_that_is_none_is_told_by_its_name(
    name: str, flag: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (name == "bench" and given in ("deep", "binary")) or (name, given) == ("keys list", "nofile"):
        return  # asks the server first; a keys file that is not there yet holds no key
    message, cure = told(*name.split(), *before_flag(name, flag), flag, given, monkeypatch=monkeypatch)
    assert given in message
    assert cure
    words = message + cure
    assert not [w for w in ("Error", "object at", "None", "char 0", "Directory", "('") if w in words], words
    if given == "nofile" and flag not in ("--lock", "--model-config"):
        assert "no such file" in message.lower()
        assert "Write one: seawall init" not in cure  # that makes a Fleet


def test_what_cannot_come_from_a_pipe_says_so(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    for args in (["keys", "add", "team-a"], ["keys", "revoke", "a"]):
        message, cure = told(*args, "--file", "-", monkeypatch=monkeypatch)
        assert message == "--file -: is changed where it lies, which standard input cannot be."
        assert cure == "Name a file, such as keys.json."
    assert not list(folder.glob("-*"))


def test_a_folder_of_documents_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for flag in ("--registry", "--specs"):
        message, _ = told("models", "list", flag, "fleet.yaml", monkeypatch=monkeypatch)
        assert message == f"{flag} fleet.yaml: is a file, not a folder."
    assert (
        told("models", "list", "--specs", "none", monkeypatch=monkeypatch)[0]
        == "--specs none: no such folder."
    )


def test_a_certificate_that_is_none_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    known = ["gateway", "fleet.yaml", "--discovery", "static:http://127.0.0.1:9"]
    for flag, why in (
        ("--tls-cert", "holds nothing in PEM's form"),
        ("--engine-ca", "no certificate or crl found"),
    ):
        assert told(*known, flag, "fleet.yaml", monkeypatch=monkeypatch)[0] == f"{flag} fleet.yaml: {why}."


OURS = ("InputError", "SourceError", "ClusterError", "EngineError", "CheckFailed")


def test_no_message_holds_the_name_of_a_class() -> None:
    found = []
    for path in SOURCES.rglob("*.py"):
        text = path.read_text("utf-8")
        if "__name__" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in OURS:
                continue
            inner = [n for n in ast.walk(node) if isinstance(n, ast.Attribute) and n.attr == "__name__"]
            found += [f"{path.relative_to(SOURCES)}:{n.lineno}" for n in inner]
    assert not found, "say it in words: errors.in_words"
