"""Numbers that a person may type after an option: bounded ones, for a range without a bound takes `nan` and 10**9."""

from __future__ import annotations

from math import isfinite, nan
from typing import Any

import click


class Finite(click.FloatRange):
    """A range that nan and inf lie outside of."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            found = float(super().convert(value, param, ctx))
        except click.BadParameter:
            found = nan
        if not isfinite(found):
            self.fail(f"'{value}' is not a valid number.", param, ctx)
        return found


SECONDS = Finite(0, 30 * 86400)
"""A time to wait, up to a month."""
PORT = click.IntRange(0, 65535)
