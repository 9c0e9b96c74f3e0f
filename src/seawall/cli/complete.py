"""What the Tab key offers for a name: of fleets and replicas that run here, of rules, causes and fields.

A person waits for the Tab key: what cannot be answered at once, or at all, offers nothing, and never an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


def _offering(names: Callable[[click.Context], Iterable[str]]) -> Completer:
    def offer(ctx: click.Context, param: click.Parameter, typed: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        with contextlib.suppress(Exception):  # whatever is wrong is told by the command itself
            return [CompletionItem(name) for name in names(ctx) if name.startswith(typed)]
        return []

    return offer


def _folder(ctx: click.Context) -> Path:
    from seawall.local import control

    given = ctx.params.get("state_dir")
    return control.state_dir(Path(given) if given else None)


def _fleets(ctx: click.Context) -> list[str]:
    from seawall.local import control

    return [f["name"] for f in control.ask(_folder(ctx), do="status")["fleets"]]


def _scaled(ctx: click.Context) -> list[str]:
    """After a fleet's name comes the number of its replicas."""
    return ["auto"] if ctx.params.get("words") else [*_fleets(ctx), "auto"]


def _logs(ctx: click.Context) -> list[str]:
    return sorted(path.stem for path in (_folder(ctx) / "logs").glob("*.log"))


def _rules(ctx: click.Context) -> list[str]:
    from seawall.lint.finding import RULES
    from seawall.lint.run import load_rules

    load_rules()
    return ["all", *sorted(RULES)]


def _causes(ctx: click.Context) -> list[str]:
    from seawall.diagnose import stories

    return ["all", *stories.ids()]


def _fields(ctx: click.Context) -> list[str]:
    from seawall.config.explain import every

    return [field.path for field in every()]


def _scenarios(ctx: click.Context) -> list[str]:
    from seawall.prove.scenarios import SCENARIOS

    return list(SCENARIOS)


def _models(ctx: click.Context) -> list[str]:
    from seawall.config.registry import read_models

    return list(read_models(Path(ctx.params.get("registry") or "models")))


fleets, scaled, logs = _offering(_fleets), _offering(_scaled), _offering(_logs)
rules, causes, fields = _offering(_rules), _offering(_causes), _offering(_fields)
scenarios, models = _offering(_scenarios), _offering(_models)
