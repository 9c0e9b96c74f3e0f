"""What programs read: one option for it on every verb, lists under one key, stdin by `-`, and honest exit codes."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import yaml
from tests.e2e.local.terminal import in_terminal

from seawall.cli import BROKEN_PIPE, COMMANDS
from seawall.cli.group import ELSEWHERE, meant
from seawall.cli.group import seawall as group
from seawall.errors import InputError

SPEC = (Path(__file__).parents[3] / "examples" / "smollm2.yaml").read_text()


def seawall(
    *args: str, stdin: str | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "seawall", *args]
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, cwd=cwd)


def every_command() -> Iterator[tuple[str, click.Command]]:
    for verb in COMMANDS:
        command = importlib.import_module(f"seawall.cli.{verb.replace('-', '_')}").command
        yield verb, command
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                yield f"{verb} {name}", inner


def options(command: click.Command) -> dict[str, click.Option]:
    return {flag: p for p in command.params if isinstance(p, click.Option) for flag in p.opts}


def test_every_verb_that_prints_json_has_one_option_for_it_and_yaml_too() -> None:
    shown = {name: options(c) for name, c in every_command()}
    printing = {n: o for n, o in shown.items() if "--json" in o}
    assert {
        "plan",
        "status",
        "lint",
        "models list",
        "keys list",
        "doctor",
        "diff",
        "diagnose",
        "apply",
    } <= set(printing)
    tables = {"logs", "prove", "explain", "cache ls", "batch list", "simulate", "advise"}
    assert tables <= set(printing)
    for name, flags in printing.items():
        kind = flags["-o"].type
        assert isinstance(kind, click.Choice), name
        assert {"text", "json", "yaml"} <= set(kind.choices), name


@pytest.mark.parametrize(
    ("args", "key"),
    [(["plan", "-"], "plans"), (["models", "list", "--registry", "none"], "models"),
     (["keys", "list", "--file", "keys.json"], "keys"), (["lint", "-"], "findings"),
     (["simulate", "-", "--rate", "1/s for 5s"], "runs"), (["lint", "--explain", "all"], "rules"),
     (["diagnose", "--explain", "all"], "causes"), (["prove", "-", "--list"], "scenarios"),
     (["explain", "spec.scaling"], "fields"), (["cache", "ls"], "things")],
)  # fmt: skip
def test_what_a_table_has_as_rows_is_a_list_under_one_key(tmp_path: Path, args: list[str], key: str) -> None:
    forms = [
        seawall(*args, *form, stdin=SPEC, cwd=tmp_path)
        for form in (("-o", "json"), ("--json",), ("--output=yaml",) if key != "runs" else ("-o", "yaml"))
    ]
    assert all(f.returncode in (0, 1) for f in forms), forms[0].stderr
    first, second, third = (
        json.loads(forms[0].stdout),
        json.loads(forms[1].stdout),
        yaml.safe_load(forms[2].stdout),
    )
    assert isinstance(first[key], list)
    assert first.keys() == second.keys() == third.keys()


@pytest.mark.parametrize("form", [["-o", "json"], ["-o", "yaml"], ["--json"], ["--output=yaml"]])
def test_an_error_is_data_too(tmp_path: Path, form: list[str]) -> None:
    done = seawall("plan", "nothing.yaml", *form, cwd=tmp_path)
    assert done.returncode == 2
    assert yaml.safe_load(done.stdout)["error"]["exit_code"] == 2


@pytest.mark.parametrize(
    "args",
    [["plan", "-"], ["render", "-"], ["simulate", "-", "--rate", "1/s for 5s"], ["lint", "-"],
     ["pull", "-", "--lock-only"], ["prove", "-", "--list"]],
    ids=lambda a: a[0],
)  # fmt: skip
def test_a_spec_comes_from_standard_input_and_an_empty_one_is_told(tmp_path: Path, args: list[str]) -> None:
    if args[0] != "pull":
        done = seawall(*args, stdin=SPEC, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    empty = seawall(*args, stdin="", cwd=tmp_path)
    assert empty.returncode == 2
    assert "empty" in empty.stderr
    assert not list(tmp_path.iterdir())


MANY = "---\n".join(
    f"apiVersion: v1\nkind: Pod\nmetadata: {{name: a{i}}}\nspec: {{containers: [{{name: v, image: vllm}}]}}\n"
    for i in range(300)
)
UNREAD = [
    "--help", "up --help", "lint many.yaml", "lint many.yaml --json", "lint --explain all", "plan fleet.yaml",
    "plan fleet.yaml -o yaml", "plan Qwen/Qwen3-8B --gpus any", "simulate fleet.yaml --rate '1/s for 5s'",
    "simulate fleet.yaml --rate '1/s for 5s' --sweep scaling.target=4,8", "render fleet.yaml", "explain spec",
    "schema", "completion zsh", "prove fleet.yaml --list", "cache ls", "cache prune", "models list --registry none",
    "models list --registry none -o json", "keys list --file keys.json", "diagnose --explain all",
    "init Qwen/Qwen3-8B -w -", "logs --state-dir up", "logs tiny-0 --state-dir up",
]  # fmt: skip
"""What prints a table or a text, once for each verb that needs nothing that runs."""


@pytest.mark.parametrize("line", UNREAD)
def test_a_reader_that_goes_away_never_looks_like_findings(tmp_path: Path, line: str) -> None:
    (tmp_path / "many.yaml").write_text(MANY)
    (tmp_path / "fleet.yaml").write_text(SPEC)
    (tmp_path / "up" / "logs").mkdir(parents=True)
    (tmp_path / "up" / "logs" / "tiny-0.log").write_text("a line\n")
    read, write = os.pipe()
    os.close(read)
    argv = [sys.executable, "-m", "seawall", *shlex.split(line)]
    done = subprocess.run(argv, stdout=write, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    os.close(write)
    assert done.returncode == BROKEN_PIPE == 141
    assert not done.stderr


def test_a_key_that_is_revoked_is_data_and_one_that_is_not_there_an_error(tmp_path: Path) -> None:
    made = json.loads(seawall("keys", "add", "me", "--file", "keys.json", "-o", "json", cwd=tmp_path).stdout)
    gone = seawall("keys", "revoke", made["id"], "--file", "keys.json", "-o", "json", cwd=tmp_path)
    assert json.loads(gone.stdout) == {"id": made["id"], "revoked": True}
    again = seawall("keys", "revoke", made["id"], "--file", "keys.json", "-o", "json", cwd=tmp_path)
    assert again.returncode == 2
    assert json.loads(again.stdout)["error"]["cure"] == "See: seawall keys list --file keys.json"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_and_what_they_ask_for(shell: str) -> None:
    assert "_SEAWALL_COMPLETE" in seawall("completion", shell).stdout
    words = {"COMP_WORDS": "seawall pl", "COMP_CWORD": "pl" if shell == "fish" else "1"}
    env = os.environ | words | {"_SEAWALL_COMPLETE": f"{shell}_complete"}
    said = subprocess.run([sys.executable, "-m", "seawall"], env=env, capture_output=True, text=True).stdout
    assert "plan" in said
    assert "pull" not in said


def completed(typed: str, env: dict[str, str] | None = None) -> list[str]:
    """What bash is offered for the last word of a line."""
    asked = {
        "_SEAWALL_COMPLETE": "bash_complete",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split(" ")) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "seawall"],
        env=os.environ | asked | (env or {}),
        capture_output=True,
        text=True,
    )
    assert not done.stderr
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("seawall lint --explain scale/ave", "scale/averaged-twice"), ("seawall explain spec.scal", "spec.scaling"),
     ("seawall diagnose --explain route/gateway", "route/gateway-no-endpoints"), ("seawall keys ad", "add"),
     ("seawall prove x.yaml --scenario gateway-k", "gateway-kill"), ("seawall up --engine s", "sim")],
)  # fmt: skip
def test_the_tab_key_knows_names(typed: str, offered: str) -> None:
    assert offered in completed(typed)


def test_the_tab_key_offers_nothing_where_nothing_runs(tmp_path: Path) -> None:
    assert completed("seawall status ", {"SEAWALL_STATE": str(tmp_path / "none")}) == []


def test_bash_really_completes(tmp_path: Path) -> None:
    script = seawall("completion", "bash").stdout
    (tmp_path / "seawall").write_text(f'#!/bin/sh\nexec {sys.executable} -m seawall "$@"\n')
    (tmp_path / "seawall").chmod(0o755)
    ask = 'COMP_WORDS=(seawall plan --js); COMP_CWORD=2; _seawall_completion seawall; echo "${COMPREPLY[@]}"'
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], env=env, capture_output=True, text=True)
    assert done.stdout.split() == ["--json"], done.stderr


ZSH = """
compdef() { : }
_describe() { print -l -- ${(P)3} }
compadd() { print -l -- ${(P)5} }
words=(seawall %s); CURRENT=$#words
_seawall_completion
"""
"""What zsh's own completion would be called with, printed: it runs only where somebody types."""


@pytest.mark.parametrize("typed", ["plan --js", "pla"])
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_zsh_and_fish_really_complete(tmp_path: Path, shell: str, typed: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here: what its script asks for is tested above")
    path = tmp_path / "script"
    path.write_text(seawall("completion", shell).stdout)
    subprocess.run([shell, "-n", path], check=True)
    (tmp_path / "seawall").write_text(f'#!/bin/sh\nexec {sys.executable} -m seawall "$@"\n')
    (tmp_path / "seawall").chmod(0o755)
    env = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    script = path.read_text()
    argv = ["fish", "--no-config", "-c", f"source {path}; complete -C 'seawall {typed}'"]
    if shell == "zsh":
        head, _, tail = ZSH.partition("words=")
        argv = ["zsh", "-f", "-c", f"{head}{script}\nwords={tail % typed}"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True)
    offered = [line.partition("\t")[0].partition(":")[0] for line in done.stdout.splitlines() if line]
    assert offered == ["--json" if "-" in typed else "plan"], done


@pytest.mark.parametrize(
    ("typed", "meant"), [("serve", "up"), ("ps", "status"), ("benchmark", "bench"), ("pul", "pull"),
     ("help", "--help"), ("version", "--version"), ("purge", "cache prune"), ("undo", "rollout undo"),
     ("halt", "down"), ("diagnos", "diagnose"), ("simluate", "simulate")]
)  # fmt: skip
def test_words_of_other_tools_lead_to_ours(typed: str, meant: str) -> None:
    assert f"Did you mean `seawall {meant}`?" in seawall(typed).stderr


def test_every_word_of_another_tool_leads_to_a_verb_that_there_is() -> None:
    there = {name for name, _ in every_command()}
    assert set(ELSEWHERE.values()) <= {*there, "--help", "--version"}


@pytest.mark.parametrize("typed", ["node", "train", "quantize", "cluster", "nonsense"])
def test_a_word_that_means_nothing_here_is_not_taken_for_another(typed: str) -> None:
    assert "Did you mean" not in meant(typed)


def test_a_form_is_not_taken_for_a_folder(tmp_path: Path) -> None:
    done = seawall("render", "-", "-o", "json", stdin=SPEC, cwd=tmp_path)
    assert done.returncode == 2
    assert "Leave -o out" in done.stderr
    assert not list(tmp_path.iterdir())
    (tmp_path / "json").mkdir()
    assert seawall("render", "-", "-o", "json", stdin=SPEC, cwd=tmp_path).returncode == 0


def test_no_verb_of_ours_is_called_another_tools_word() -> None:
    assert not set(ELSEWHERE) & set(COMMANDS)


@pytest.mark.parametrize(
    "args",
    [["bench", "http://127.0.0.1:1", "--html", "PATH"], ["bench", "http://127.0.0.1:1", "--calibrate", "PATH"],
     ["prove", "fleet.yaml", "--html", "PATH"], ["prove", "fleet.yaml", "--keep-logs", "PATH"],
     ["simulate", "fleet.yaml", "--rate", "1/s for 5s", "--html", "PATH"]],
    ids=lambda a: f"{a[0]} {a[-2]}",
)  # fmt: skip
@pytest.mark.parametrize("path", ["missing/out", "/proc/out", "file/out"])
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    tmp_path: Path, args: list[str], path: str
) -> None:
    (tmp_path / "fleet.yaml").write_text(SPEC)
    (tmp_path / "file").write_text("")
    if path == "missing/out" and args[-2] == "--keep-logs":
        return  # a folder is made
    done = seawall(*[path if a == "PATH" else a for a in args], cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert f"{args[-2]} {path}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "args",
    [["diagnose", "fleet.yaml", "--record"], ["batch", "submit", "fleet.yaml", "--wait", "--results"],
     ["batch", "results", "batch_1", "--file"], ["plan", "Qwen/Qwen3-8B", "--write"],
     ["init", "Qwen/Qwen3-8B", "--write"], ["fingerprint", "fleet.yaml", "--out"],
     ["advise", "fleet.yaml", "--prometheus", "http://127.0.0.1:1", "--record"], ["pull", "hf://a/b", "--to"],
     ["pull", "hf://a/b", "--lock-only", "--lock"], ["models", "add", "a", "hf://a/b", "--to"],
     ["simulate", "fleet.yaml", "--rate", "1/s for 5s", "--svg"], ["render", "fleet.yaml", "-o"]],
    ids=lambda a: f"{a[0]} {a[-1]}",
)  # fmt: skip
def test_every_output_flag_is_looked_at_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fleet.yaml").write_text(SPEC)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as e:
        group([*args, "file/out"], standalone_mode=False)
    assert e.value.message.startswith(f"{args[-1]} file")
    assert e.value.cure


def test_what_a_shell_makes_of_a_substitution_is_read_as_a_file(tmp_path: Path) -> None:
    """`seawall plan <(helm template ...)`: a pipe with a name, which can be read only once."""
    (tmp_path / "spec").write_text(SPEC)
    for verb in ("plan", "render", "prove --list"):
        command = f"{sys.executable} -m seawall {verb} <(cat spec)"
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m seawall up <(true)"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "is empty" in done.stderr


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_line_of_a_list_is_wider_than_the_terminal(tmp_path: Path, width: int) -> None:
    (tmp_path / "fleet.yaml").write_text(SPEC)
    note = "for the nightly run"
    key = [
        "keys",
        "add",
        "team-with-a-long-name",
        "--models",
        "llama-70b,another-model,third",
        "--note",
        note,
    ]
    assert seawall(*key, "--file", "keys.json", cwd=tmp_path).returncode == 0
    for args, words in (
        (["prove", "fleet.yaml", "--list"], "rolling-update"),
        (["keys", "list", "--file", "keys.json"], "team-with-a-long-name"),
    ):
        with in_terminal(args, columns=width, cwd=tmp_path) as terminal:
            table = terminal.rest().partition("\n\n")[0].splitlines()
        assert max(map(len, table)) <= width, args
        assert words in "\n".join(table)
