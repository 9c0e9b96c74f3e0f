"""One request to a target's own API, by which it is told of other engines. EngineError with what it answered."""

from __future__ import annotations

from typing import Any

import httpx2

from seawall.errors import EngineError, of_kind

PATIENCE_S = 20.0


async def send(method: str, url: str, body: dict[str, Any] | None = None, may_lack: bool = False) -> Any:
    """The answer: parsed where it is JSON, else its text. `may_lack`: a 404 is no failure, what was to go is gone."""
    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=PATIENCE_S) as client:
            answer = await client.request(method, url, json=body)
    except (httpx2.HTTPError, OSError) as e:
        raise EngineError(f"{method} {url}: no answer ({of_kind(e)}).", "Look at the target's log.") from None
    if answer.status_code >= 400 and not (may_lack and answer.status_code == 404):
        raise EngineError(
            f"{method} {url} answered {answer.status_code}: {answer.text[:200]}", "Look at the target's log."
        )
    if answer.headers.get("content-type", "").startswith("application/json"):
        return answer.json()
    return answer.text
