"""The click group behind `seawall`: loads one verb's file when it is called, and turns our errors into exit codes."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from seawall import __version__
from seawall.cli import BROKEN_PIPE, COMMANDS, INTRO, START, drop_output, help_text
from seawall.errors import InputError, SeawallError


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"seawall.cli.{name.replace('-', '_')}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            verb = args[1] if args[0] == "help" and args[1:2] and args[1] in COMMANDS else ""
            hint = f"Did you mean `seawall {verb} --help`?" if verb else meant(args[0])
            raise InputError(f"there is no command {args[0]!r:.60}.", hint)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The verbs with their sentences, without loading one of them: a person waits for the Tab key."""
        return [CompletionItem(n, help=what) for n, what in COMMANDS.items() if n.startswith(incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        """A reader that closes its end (`| head`) ends the command as SIGPIPE does: click would exit with 1, which is
        what findings exit with."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            drop_output()
            sys.exit(BROKEN_PIPE)

    def get_help(self, ctx: click.Context) -> str:
        from seawall.cli import terminal

        return help_text(terminal.width())


def meant(typed: str) -> str:
    """What a verb that is not ours was meant to be: another tool's word first, then the spelling."""
    import difflib

    if ours := ELSEWHERE.get(typed.lower()):
        return f"Did you mean `seawall {ours}`?"
    near = difflib.get_close_matches(typed, COMMANDS, 1, NEAR)
    if not near and (far := difflib.get_close_matches(typed.lower(), ELSEWHERE, 1, 0.8)):
        return f"Did you mean `seawall {ELSEWHERE[far[0]]}`?"
    return f"Did you mean `seawall {near[0]}`?" if near else "See: seawall --help"


NEAR = 0.75
"""difflib's ratio of a slip of the pen: at its own 0.6 `purge` is `prove`, and `watch` is `batch`."""

ELSEWHERE = {
    "serve": "up", "run": "up", "start": "up", "launch": "up", "local": "up", "dev": "up", "server": "up",
    "stop": "down", "kill": "down", "shutdown": "down", "ps": "status", "ls": "status", "list": "status",
    "ui": "console", "dashboard": "console", "web": "console",
    "get": "status", "top": "status", "describe": "diagnose", "why": "diagnose", "debug": "diagnose",
    "troubleshoot": "diagnose",
    "restart": "rollout restart", "scale": "rollout scale", "canary": "rollout start", "update": "rollout restart",
    "deploy": "apply", "create": "apply", "install": "apply", "remove": "delete", "rm": "delete", "destroy": "delete",
    "uninstall": "delete", "template": "render", "generate": "render", "manifests": "render", "build": "render",
    "download": "pull", "fetch": "pull", "get-model": "pull", "validate": "lint", "check": "lint", "scan": "lint",
    "benchmark": "bench", "perf": "bench", "load": "bench", "test": "prove", "chaos": "prove", "verify": "prove",
    "estimate": "plan", "size": "plan", "fit": "plan", "calculate": "plan", "sim": "simulate", "cost": "plan",
    "new": "init", "quickstart": "init", "setup": "init", "ask": "chat", "talk": "chat", "generate-text": "chat",
    "repl": "chat", "complete": "completion", "completions": "completion", "autocomplete": "completion",
    "preflight": "doctor", "health": "doctor", "log": "logs", "tail": "logs", "key": "keys", "token": "keys",
    "proxy": "gateway", "router": "gateway", "controller": "operator", "prune": "cache prune", "clean": "cache prune",
    "fields": "explain", "docs": "explain", "version": "--version", "help": "--help",
    "pause": "rollout pause", "resume": "rollout resume", "abort": "rollout abort", "undo": "rollout undo",
    "rollback": "rollout undo", "promote": "rollout follow", "autoscale": "rollout scale", "upgrade": "apply",
    "sync": "apply", "submit": "batch submit", "job": "batch submit", "jobs": "batch list", "revoke": "keys revoke",
    "terminate": "down", "halt": "down", "teardown": "down", "quit": "down", "exit": "down", "show": "status",
    "info": "status", "inspect": "diagnose", "watch": "status", "view": "console", "open": "console",
    "attach": "logs", "events": "status", "playground": "console", "gpus": "plan", "recommend": "advise",
    "optimize": "advise", "tune": "advise", "rightsize": "advise", "eval": "prove", "evaluate": "prove",
    "purge": "cache prune", "gc": "cache prune", "free": "cache prune", "du": "cache ls", "export": "render",
    "example": "init", "examples": "init", "demo": "up", "bootstrap": "init", "prompt": "chat", "fmt": "lint",
    "compare": "diff", "tokens": "keys", "login": "keys",
}  # fmt: skip
"""Words of other tools -> ours."""


@click.group(
    cls=_Verbs,
    help=f"{INTRO}\n\n{START}",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="seawall")
def seawall() -> None:
    pass


def run() -> None:
    """Our errors become one line and an exit code, and with -o json or yaml a document on stdout as well; bugs keep
    their traceback."""
    as_json = _wants_json(sys.argv[1:])
    try:
        code = seawall(standalone_mode=False, prog_name="seawall")
        sys.exit(code if isinstance(code, int) else 0)
    except SeawallError as e:
        _fail(e.message, e.cure, e.exit_code, as_json and not e.told)
    except click.exceptions.NoArgsIsHelpError as e:
        e.show()
        _fail("", "", e.exit_code, as_json)
    except click.UsageError as e:
        from seawall.cli.usage import explained

        _fail(*explained(e, sys.argv[1:], seawall), e.exit_code, as_json)
    except click.ClickException as e:
        _fail(e.format_message(), "", e.exit_code, as_json)
    except (KeyboardInterrupt, click.Abort):
        _fail("stopped.", "", 130, as_json)


def _wants_json(argv: list[str]) -> bool:
    """Data was asked for: JSON, or YAML, which every JSON document is."""
    forms = ("json", "yaml")
    whole = {"--json", *(f"{o}{f}" for o in ("-o", "-o=", "--output=", "--format=") for f in forms)}
    pairs = zip(argv, [*argv[1:], ""], strict=False)
    return any(a in whole or (a in ("-o", "--output", "--format") and b in forms) for a, b in pairs)


def _fail(message: str, cure: str, code: int, as_json: bool) -> None:
    if message:
        from seawall.cli import terminal
        from seawall.cli.files import as_typed
        from seawall.domain.columns import folded

        message, cure = as_typed(message), as_typed(cure)
        lines = [f"seawall: {message}", *(f"  {line}" for line in cure.splitlines())]
        click.echo(folded("\n".join(lines), terminal.width(sys.stderr)), err=True)
    if as_json:
        import json

        click.echo(json.dumps({"error": {"message": message, "cure": cure, "exit_code": code}}))
    sys.exit(code)
