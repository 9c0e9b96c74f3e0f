"""A refusal: what a client is told instead of an answer. Plain values; HTTP is the gateway's."""

from __future__ import annotations

from typing import NamedTuple


class Refusal(NamedTuple):
    """An answer that the gateway gives itself. `code` is stable, for programs; `message` names the cure."""

    status: int
    code: str
    message: str
    retry_after_s: int | None = None
    param: str | None = None
    allow: str | None = None
    """The methods that there are instead of the one that was used."""


def poisonous(seconds: float) -> Refusal:
    """For a request that kills engines, and its copies. 422: clients' libraries do not send it again."""
    what = "Two replicas died of this request, and of no other."
    return Refusal(
        422,
        "poison_request",
        f"{what} It is refused for {seconds:.0f} s more. Change it, and tell the operator.",
    )
