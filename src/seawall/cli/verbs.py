"""The group of a verb that has verbs of its own (`seawall keys add`): its list is never cut, and a word that is none
of them is led to the one that was meant."""

from __future__ import annotations

import click

from seawall.cli.usage import of_subcommand
from seawall.errors import InputError

ELSEWHERE = {
    "create": "add", "new": "add", "make": "add", "generate": "add", "ls": "list", "get": "list", "show": "list",
    "describe": "status", "delete": "revoke", "remove": "revoke", "rm": "revoke", "register": "add", "pull": "add",
    "clean": "prune", "clear": "prune", "purge": "prune", "gc": "prune", "list": "ls", "du": "ls",
    "stop": "abort", "cancel": "abort", "rollback": "undo", "revert": "undo", "promote": "follow", "watch": "follow",
    "begin": "start", "canary": "start", "history": "status", "unpause": "resume", "continue": "resume",
    "reload": "restart", "run": "serve", "send": "submit", "upload": "submit", "download": "results",
    "output": "results", "info": "status", "kill": "cancel", "setup": "install", "update": "install",
    "simulate": "sim", "fake": "sim", "start-scaler": "scaler", "yaml": "manifests", "install": "manifests",
    "start-operator": "run", "serve": "run", "inspect": "show", "cat": "show",
}  # fmt: skip
"""Words of other tools -> ours, wherever a group has them."""

OTHER = {
    "delete": "prune",
    "remove": "prune",
    "rm": "prune",
    "stop": "cancel",
    "abort": "cancel",
    "get": "status",
}
"""The same for groups that lack the first."""


class VerbGroup(click.Group):
    """A verb's own verbs."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        typed = args[0]
        if typed not in self.commands and not typed.startswith("-"):
            words = {k: v for k, v in ELSEWHERE.items() if v in self.commands}
            words = {k: v for k, v in OTHER.items() if v in self.commands} | words
            raise InputError(*of_subcommand(self, ctx.command_path, typed, words))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each with its whole first sentence: click would cut it where the line ends."""
        rows = [
            (name, command.get_short_help_str(1000))
            for name, command in self.commands.items()
            if not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
