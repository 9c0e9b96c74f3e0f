"""The click group behind `seawall`: loads one verb's file when it is called, and turns our errors into exit codes."""

from __future__ import annotations

import importlib
import sys

import click

from seawall import __version__
from seawall.cli import COMMANDS, INTRO, START, help_text
from seawall.errors import SeawallError


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
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, 1)
            hint = f" Did you mean `seawall {near[0]}`?" if near else " See `seawall --help`."
            ctx.fail(f"there is no command {args[0]!r}.{hint}")
        return super().resolve_command(ctx, args)

    def get_help(self, ctx: click.Context) -> str:
        return help_text()


@click.group(
    cls=_Verbs,
    help=f"{INTRO}\n\n{START}",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="seawall")
def seawall() -> None:
    pass


def run() -> None:
    """Our errors become one line and an exit code, and with --json or --output json a JSON document on stdout as well;
    bugs keep their traceback."""
    as_json = _wants_json(sys.argv[1:])
    try:
        code = seawall(standalone_mode=False, prog_name="seawall")
        sys.exit(code if isinstance(code, int) else 0)
    except SeawallError as e:
        _fail(e.message, e.cure, e.exit_code, as_json and not e.told)
    except click.ClickException as e:
        e.show()
        _fail("", "", e.exit_code, False, e.format_message() if as_json else "")
    except (KeyboardInterrupt, click.Abort):
        _fail("stopped.", "", 130, as_json)


def _wants_json(argv: list[str]) -> bool:
    pairs = zip(argv, [*argv[1:], ""], strict=True)
    return any(a in ("--json", "--output=json") or (a == "--output" and b == "json") for a, b in pairs)


def _fail(message: str, cure: str, code: int, as_json: bool, said: str = "") -> None:
    if message:
        click.echo(f"seawall: {message}", err=True)
        if cure:
            click.echo(f"  {cure}", err=True)
    if as_json or said:
        import json

        click.echo(json.dumps({"error": {"message": message or said, "cure": cure, "exit_code": code}}))
    sys.exit(code)
