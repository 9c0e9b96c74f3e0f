"""The Fleets that the package carries, to start from. Forbidden here: a Fleet that is no file of `examples`."""

from __future__ import annotations

from importlib.resources import files

DEFAULT = "smollm2"
"""The fleet of `seawall up` without arguments."""
_FOLDER = files("seawall").joinpath("examples")


def names() -> list[str]:
    return sorted(
        entry.name.removesuffix(".yaml") for entry in _FOLDER.iterdir() if entry.name.endswith(".yaml")
    )


def text(name: str) -> str:
    """One of `names`, as YAML with its comments."""
    return _FOLDER.joinpath(f"{name}.yaml").read_text("utf-8")
