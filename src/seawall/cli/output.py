"""`-o json` and `-o yaml` of every verb that prints a table: one option, one shape, one writer.

What is printed is an object; what a table has as rows is a list in it, under one key, whether there is one row, none or
a thousand: a script that worked with one fleet works with two. `--json` is the same as `-o json`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

TEXT = ""
"""The form that is not for programs; the only one that is false."""


def output_option(f: F) -> F:
    """Adds -o/--output and --json; the verb gets `form`: `json`, `yaml`, or TEXT."""
    return _with_form(f, "-o", "--output")


def short_output_option(f: F) -> F:
    """The same for a verb whose --output is something else."""
    return _with_form(f, "-o")


def _with_form(f: F, *names: str) -> F:
    @click.option(
        *names, "chosen_form", type=click.Choice(["text", "json", "yaml"]), default="text", show_default=True,
        help="For programs: json or yaml.",
    )  # fmt: skip
    @click.option("--json", "as_json", is_flag=True, help="The same as -o json.")
    @functools.wraps(f)
    def with_form(*args: Any, chosen_form: str, as_json: bool, **more: Any) -> Any:
        form = "json" if as_json and chosen_form == "text" else chosen_form
        return f(*args, form=TEXT if form == "text" else form, **more)

    return with_form  # type: ignore[return-value]  # the same function, with two options for one argument


def dumps(data: Any, form: str) -> str:
    """The data as a document of that form. NaN and infinity are in neither; what is a list in JSON is one in YAML."""
    import json

    text = json.dumps(data, indent=2, allow_nan=False)
    if form == "yaml":
        import yaml

        return str(yaml.safe_dump(json.loads(text), sort_keys=False, allow_unicode=True, width=110)).rstrip(
            "\n"
        )
    return text


def write(data: Any, form: str) -> None:
    """Prints the data to standard output."""
    click.echo(dumps(data, form))


def line(data: Any, form: str) -> str:
    """One of several documents that come over time: a line of JSON, or a YAML document with its separator."""
    if form == "yaml":
        return f"---\n{dumps(data, form)}"
    import json

    return json.dumps(data, allow_nan=False)
