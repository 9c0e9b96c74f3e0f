"""What vLLM's page of models says. Pure: bytes in, numbers out."""

from __future__ import annotations

import msgspec


class _Card(msgspec.Struct, gc=False):
    max_model_len: int | None = None


class _Page(msgspec.Struct, gc=False):
    data: list[_Card] = []


_page = msgspec.json.Decoder(_Page)


def longest_in(page: bytes) -> int | None:
    """Tokens of a prompt and its answer, as `GET /v1/models` names them (adapters have none of their own); None: it
    does not say."""
    try:
        found = [card.max_model_len for card in _page.decode(page).data if card.max_model_len is not None]
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    return max((n for n in found if n > 0), default=None)
