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
    """Our errors become one line and an exit code; bugs keep their traceback."""
    try:
        seawall(standalone_mode=True, prog_name="seawall")
    except SeawallError as e:
        click.echo(f"seawall: {e.message}", err=True)
        if e.cure:
            click.echo(f"  {e.cure}", err=True)
        sys.exit(e.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
