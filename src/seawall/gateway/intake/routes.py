"""Which paths the gateway knows, with which methods, and which one a client probably meant. Everything else is 404, so
that no admin route of an engine can be reached: nothing is ever served under another path than its own.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import Final
from urllib.parse import unquote

from seawall.decide.route.refusal import Refusal
from seawall.gateway.intake.manners import ABOUT_MEDIA

ROUTES: Final = {
    b"/v1/chat/completions": "chat",
    b"/v1/completions": "completions",
    b"/v1/embeddings": "embeddings",
    b"/v1/responses": "responses",
    b"/v1/messages": "messages",
    b"/v1/messages/count_tokens": "count",
    b"/v1/rerank": "rerank",
    b"/v2/rerank": "rerank",
    b"/rerank": "rerank",
    b"/v1/score": "score",
    b"/score": "score",
    b"/pooling": "pooling",
    b"/classify": "classify",
    b"/tokenize": "tokenize",
    b"/detokenize": "tokenize",
    b"/v1/audio/transcriptions": "transcriptions",
    b"/v1/audio/translations": "translations",
    b"/v1/audio/speech": "speech",
    b"/v1/images/generations": "images",
    b"/v1/images/edits": "images",
    b"/v1/images/variations": "images",
}
"""What an engine answers. All are POST."""
STREAMS: Final = frozenset({"chat", "completions", "responses", "messages"})
UNCACHED: Final = frozenset({"count", "tokenize"}) | ABOUT_MEDIA
"""No engine computes anything for these that it would keep."""
MODELS: Final = b"/v1/models"
HEALTH: Final = b"/health"
PING: Final = b"/ping"
READY: Final = b"/ready"
VERSION: Final = b"/version"
OPEN: Final = frozenset({HEALTH, PING, READY})
"""Load balancers ask for these, and vLLM, too, answers the first two without a key."""
BATCH_ROUTES: Final = (b"/v1/files", b"/v1/batches")
"""Where these are answered, the batch lane answers them."""
PAGES: Final = frozenset({MODELS, HEALTH, PING, READY, VERSION})
"""What the gateway answers itself."""
LONGEST_GUESS: Final = 100


def no_such(path: bytes, method: bytes) -> Refusal:
    """405 where the path is known with other methods, else 404 with the path that was probably meant."""
    if path in ROUTES:
        return Refusal(405, "method_not_allowed", "Use POST for this route.", allow="POST")
    if path in PAGES or path.startswith(MODELS + b"/"):
        allow = "GET, HEAD, POST" if path == PING else "GET, HEAD"
        return Refusal(405, "method_not_allowed", "Use GET for this route.", allow=allow)
    if path.startswith(BATCH_ROUTES):
        message = (
            "No fleet here has the batch lane: set spec.gateway.batch to have files and batches answered."
        )
        return Refusal(404, "no_batch_lane", message)
    meant = _meant(path)
    hint = f" Did you mean {meant}?" if meant else ""
    return Refusal(404, "unknown_route", f"There is no such route here.{hint}")


def _meant(path: bytes) -> str:
    if len(path) > LONGEST_GUESS:
        return ""
    tidy = "/" + "/".join(part for part in unquote(path.decode("latin-1")).lower().split("/") if part)
    known = [p.decode() for p in (*ROUTES, MODELS, HEALTH)]
    for guess in (tidy, "/v1" + tidy, tidy.replace("/v1/v1/", "/v1/"), tidy.removeprefix("/openai")):
        if guess in known:
            return guess
    return next(iter(get_close_matches(tidy, known, 1, 0.85)), "")
