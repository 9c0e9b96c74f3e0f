"""The check that every PromQL expression passes: one that does not parse is our bug and never reaches a cluster."""

from __future__ import annotations

import functools


@functools.cache
def parsed(expression: str) -> str:
    """The expression, unchanged, after the parser has read it. ValueError names what it did not understand."""
    import promql_parser

    try:
        promql_parser.parse(expression)
    except ValueError as e:
        raise ValueError(f"{expression!r} is not PromQL: {e}") from None
    return expression
