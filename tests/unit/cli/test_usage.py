"""A command that is typed wrongly: the answer says what is wrong, by its value, and what to type instead."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from tests.e2e.local.terminal import in_terminal
from tests.unit.cli.test_output import every_command

from seawall.cli import help_text
from seawall.cli.group import seawall as root
from seawall.cli.usage import FLAGS, MEANING, examples, explained
from seawall.cli.verbs import ELSEWHERE, OTHER
from seawall.errors import SeawallError

COMMANDS = dict(every_command())
NEEDING = {
    name: arguments
    for name, command in COMMANDS.items()
    if (arguments := [p for p in command.params if isinstance(p, click.Argument) and p.required])
}


WRONG = """apiVersion: seawall.dev/v1alpha1
kind: Fleet
metadata: {name: m}
spec:
  hardware: {count: 2}
  model: {source: "hf://a/b"}
"""


def said(*args: str) -> tuple[str, str]:
    """What the error of this command line says, and its cure."""
    try:
        root(list(args), standalone_mode=False, prog_name="seawall")
    except click.UsageError as e:
        return explained(e, args, root)
    except SeawallError as e:
        return e.message, e.cure
    raise AssertionError(f"{args} were taken")


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_every_command_teaches(name: str) -> None:
    command = COMMANDS[name]
    assert examples(command), f"{name} shows nothing to type"
    typed = [
        line
        for line in (command.help or "").splitlines()
        if re.match(r"\s*(\$ )?(seawall|helm|kubectl) ", line)
    ]
    assert [line for line in typed if not line.strip().startswith("$ ")] == [], "all are shown alike"
    unsaid = [p.opts for p in command.params if isinstance(p, click.Option) and not (p.help or p.hidden)]
    assert not unsaid


@pytest.mark.parametrize("name", NEEDING)
def test_what_is_missing_is_named_with_what_it_is_and_a_line_to_type(name: str) -> None:
    message, cure = said(*name.split())
    metavar = NEEDING[name][0].make_metavar(click.Context(COMMANDS[name]))
    assert message == f"`seawall {name}` needs {metavar}: {MEANING[metavar]}."
    first, *_, last = cure.splitlines()
    assert first.startswith(f"For example: seawall {name} ")
    assert last == f"More: seawall {name} --help"
    words = shlex.split(first.removeprefix("For example: seawall ").partition(" >")[0])
    assert len(words) > len(name.split())


@pytest.mark.parametrize("name", [n for n, c in COMMANDS.items() if not isinstance(c, click.Group)])
def test_an_option_that_is_not_there_is_told_with_a_line_to_type(name: str) -> None:
    if name == "engine sim":
        return  # takes whatever vLLM takes
    message, cure = said(*name.split(), "--zzz")
    assert message == f"`seawall {name}` has no option '--zzz'."
    assert f"For example: seawall {name}" in cure


@pytest.mark.parametrize(
    ("typed", "message", "cure"),
    [
        ("up --port abc", "--port: 'abc' is not a whole number from 0 to 65535.", "seawall up my.yaml --port 8001"),
        ("up --replicas 0", "--replicas: '0' is not a whole number from 1 to 64.", "seawall up ./my-model --replicas"),
        ("up --replicas", "--replicas needs a value: a whole number from 1 to 64.", "More: seawall up --help"),
        ("chat --temperature hot", "--temperature: 'hot' is not a number", "seawall chat"),
        ("up --engine smi", "--engine: 'smi' is none of vllm, sim.", "Did you mean sim?"),
        ("down --now=3", "--now takes no value.", "Write --now alone."),
        ("plan a b c", "`seawall plan` takes [FLEET.yaml|MODEL]; 'b c' is too much.", "seawall plan --help"),
        ("down now", "`seawall down` takes no argument; 'now' is too much.", "For example: seawall down"),
        ("keys revoke a", "`seawall keys revoke` needs --file: The keys file", "--file keys.json"),
        ("prove no.yaml", "no.yaml: no such file.", "seawall init MODEL"),
        ("prove smolm2.yaml", "smolm2.yaml: no such file.", "Did you mean smollm2.yaml?"),
        ("bench http://127.0.0.1:9 --trace a.csv", "a.csv: no such file.", "What --trace reads: Open loop"),
        ("plan smolm2.yaml", "smolm2.yaml: no such file.", "Did you mean smollm2.yaml?"),
        ("lint x --target-version new", "--target-version: 'new': write a version", "More: seawall lint --help"),
        ("up --max-model-len 1", "'--max-model-len'", "Did you mean --context?"),
        ("up --tensor-parallel-size 2", "'--tensor-parallel-size'", "Did you mean --gpus?"),
        ("plan --tensor_parallel 2", "'--tensor_parallel'", "Did you mean --tensor-parallel?"),
        ("init --num-gpus 2", "'--num-gpus'", "Did you mean --gpus?"),
        ("up --quantization fp8", "'--quantization'", "A Fleet says that: it belongs in spec.model.quantization."),
        ("status --format json", "'--format'", "Did you mean --output?"),
        ("bench --rps 3", "'--rps'", "Did you mean --rate?"),
        ("bench --url http://127.0.0.1:9", "'--url'", "The address stands without it: URL|FLEET.yaml."),
        ("plan pypi://a/b", "pypi://a/b: names a model, not a file that holds", "seawall init pypi://a/b --write"),
        ("render hf://a/b", "hf://a/b: names a model, not", "seawall init hf://a/b --write fleet.yaml"),
        ("diff s3://bucket/m", "s3://bucket/m: names a model, not", "seawall init s3://bucket/m"),
        ("apply a.yaml -y", "'-y'", "Did you mean --yes?"),
        ("keys create a", "`seawall keys` has no command 'create'.", "Did you mean `seawall keys add`?"),
        ("keys rm a", "'rm'", "`seawall keys revoke`"),
        ("cache rm", "'rm'", "`seawall cache prune`"),
        ("models ls", "'ls'", "`seawall models list`"),
        ("rollout rollback x", "'rollback'", "`seawall rollout undo`"),
        ("batch subimt", "'subimt'", "`seawall batch submit`"),
        ("batch zzz", "'zzz'", "There are: serve, submit,"),
        ("serve", "no command 'serve'", "Did you mean `seawall up`?"),
        ("pull", "`seawall pull` needs what to pull", "For example: seawall pull hf://"),
        ("pull --check", "`seawall pull` needs --to", "For example: seawall pull --check --to"),
        ("explain spec.scalng", "spec has no field 'scalng'.", "Did you mean scaling?"),
        ("plan wrong.yaml", "wrong.yaml:5: spec.hardware.count", "Look it up: seawall explain spec.hardware"),
        ("up empty.yaml", "empty.yaml", ""),
        ("chat --url http://127.0.0.1:9", "does not answer: connection refused.", "seawall up"),
        ("bench http://127.0.0.1:9", "/v1/models: connection refused.", "Start one: seawall up"),
        ("bench nope", "nope does not answer", "Name an address (http://nope)"),
        ("init Qwen/Qwen3-8B --gpu H1000 -w -", "'H1000' is not a GPU", "Did you mean H100-"),
        ("bench http://127.0.0.1:9 --html /", "--html /: is a folder", "Name a file in it."),
        ("prove wrong.yaml --without resum", "--without resum: no such mechanism.", "Did you mean resume?"),
        ("help up", "no command 'help'", "Did you mean `seawall up --help`?"),
        ("-v", "no option '-v'", "Did you mean --version?"),
        ("completion tcsh", "'tcsh' is none of bash, zsh, fish.", "For example: seawall completion"),
        ("console --port 9000", "--port is of a cluster's page", "seawall up --admin-port"),
        ("chat --url nonsense", "missing an 'http://' or 'https://' protocol.", "seawall up"),
        ("cache prune --unused 3x", "--unused '3x'", "For example: seawall cache prune --unused 30d"),
        ("models add m hf://a/b", "what shall be verified?", "Pull it: seawall models add m hf://a/b --to models/m"),
        ("models add bad/name hf://a/b --to w", "'bad/name' cannot name a model.", "Use a-z"),
        ("models add Bad hf://a/b --lock no.lock", "no.lock: no such file.", "A lockfile: what it pins"),
        ("batch status --url http://127.0.0.1:9", "does not answer: connection refused.", "seawall up"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, message: str, cure: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smollm2.yaml").touch()
    (tmp_path / "empty.yaml").touch()
    (tmp_path / "wrong.yaml").write_text(WRONG)
    told, way = said(*shlex.split(typed))
    assert message in told
    assert cure in way


def test_hints_lead_to_what_there_is() -> None:
    flags = {f for c in (root, *COMMANDS.values()) for p in c.params for f in (*p.opts, *p.secondary_opts)}
    assert {f for found in FLAGS.values() for f in found} <= flags
    inner = {name.split()[1] for name in COMMANDS if " " in name}
    assert {*ELSEWHERE.values(), *OTHER.values()} <= inner


@pytest.mark.parametrize("columns", [60, 80])
def test_on_a_narrow_terminal_no_word_is_cut_and_no_command_broken(columns: int) -> None:
    with in_terminal(["bench"], columns=columns) as terminal:
        text = terminal.rest()
    assert terminal.process.returncode == 2
    assert "seawall bench http://127.0.0.1:8000 --rate '5/s for 30s'\n" in text
    prose = [line for line in text.splitlines() if "seawall bench http" not in line]
    assert max(map(len, prose)) <= columns
    assert "to serve and measure here." in " ".join(text.split())


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_the_first_help_fits(columns: int) -> None:
    lines = help_text(columns).splitlines()
    # The line that says where to start is one command in a sentence of its own.
    assert max(len(line) for line in lines if "Start here" not in line) <= columns
    assert re.sub(r"\s+", " ", help_text(columns)) == re.sub(r"\s+", " ", help_text())


NUMBERS = [
    (name, max(p.opts, key=len))
    for name, command in COMMANDS.items()
    for p in command.params
    if isinstance(p, click.Option) and not p.is_flag and p.type.name.startswith(("integer", "float"))
]


@pytest.mark.parametrize(("name", "flag"), NUMBERS)
def test_a_number_that_is_none_is_refused(name: str, flag: str) -> None:
    for value in ("nan", "inf", "-1", "1e999", "x"):
        if flag == "--seed" and value == "-1":
            continue
        assert said(*name.split(), flag, value)[0].startswith(f"{flag}: '{value}' is not ")


@pytest.mark.parametrize(
    ("args", "env", "cure"),
    [
        (("up", "--engine", "sim", "--state-dir", "/proc/here"), {}, "Name a folder of yours."),
        (("up", "--engine", "sim"), {"SEAWALL_CACHE": "/proc/here"}, "Set SEAWALL_CACHE to a folder"),
    ],
)
def test_a_folder_that_cannot_be_made_is_told_by_what_named_it(
    monkeypatch: pytest.MonkeyPatch, args: tuple[str, ...], env: dict[str, str], cure: str
) -> None:
    monkeypatch.delenv("SEAWALL_STATE", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    message, way = said(*args)
    assert message.startswith("/proc/here")
    assert cure in way
