"""Generated requests, read by the gateway, by h11 and by llhttp: nothing is understood more loosely here than by h11,
nor otherwise than by llhttp, and every difference has a reason that stands in a list."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from random import Random

from seawall.gateway.edge.chunks import BEYOND, ChunkWalk
from tests.hostile.generated import conversation
from tests.hostile.parsers import Understood, by_gateway, by_h11, by_llhttp

METHODS = frozenset({b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS", b"M-SEARCH", b"CONNECT"})
METHOD = "methods are those that there are"
TARGET = "a target is a path, `*`, or a URL of http"
SEED, MANY = 20261130, 10_000
LOOSER = {
    "empty lines before a request line are skipped: RFC 9112, 2.2, asks for at least one": (
        "no request line received",
        rb"\r\n[A-Za-z]",
    ),
    "HTTP/1.0 goes on where the client says keep-alive, as ab and old proxies do": (
        "",
        rb"(?i)HTTP/1\.0\r\n(.*\r\n)*connection: .*keep-alive",
    ),
}
"""Where h11 does not read on and the gateway does: h11's word, and what the bytes have then."""
STRICTER = {
    "CONNECT ends the connection: what follows it may be no HTTP": ("method_not_allowed", rb"CONNECT"),
    "HTTP is 1.0 or 1.1": ("http_version", rb""),
    "a Host is a name or an address, and perhaps a port": (
        "invalid_host",
        rb"(?i)\r\nhost:(?![ \t]*([a-z0-9]+(:[0-9]*)?)?[ \t]*\r\n)",
    ),
    "a coding has no white space around it, and no parameters": ("transfer_encoding", rb""),
    "a header that says where a request ends, or whose it is, stands once": ("repeated_header", rb""),
    "Content-Length stands once, even where both are the same, and not beside Transfer-Encoding": (
        "bad_request",
        rb"(?is)transfer-encoding:.*content-length:|content-length:(.*transfer-encoding:|[^\r\n]*,|[^\r\n]*\r\n(.*\r\n)?content-length:)",
    ),
    "HTTP is 1.0 or 1.1, or nothing that a parser knows": ("bad_request", rb"HTTP/(1\.[2-9]|2\.0|0\.9)"),
    "trailers say nothing of where a request ends": (
        "bad_request",
        rb"(?i)\r\n0[^\r\n]*\r\n(content-length|transfer-encoding)",
    ),
    "a chunk's extension has a name": ("bad_request", rb"(?i)\r\n[0-9a-f]+;\r\n"),
    "a header's value has no control characters": (
        "bad_request",
        rb":[^\r\n]*[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]",
    ),
    "a line ends in CR LF, and only there": ("bad_request", rb"[^\r]\n|\r[^\n]"),
    "a header is one line (obs-fold)": ("bad_request", rb"\r\n[ \t]"),
    "a chunk's size has nothing around it": ("bad_request", rb"(?i)\r\n[0-9a-f]+[ \t]"),
    METHOD: ("bad_request", rb""),
    TARGET: ("bad_request", rb""),
}
"""Where h11 reads on and the gateway does not: the refusal's code, and what the bytes have then."""
THAN_LLHTTP = {
    "HTTP is 1.0 or 1.1": "http_version",
    "only `chunked` is a coding, and not in HTTP/1.0": "transfer_encoding",
    "some headers stand once": "repeated_header",
    "HTTP/1.1 has a Host": "no_host",
    "a Host is a name or an address": "invalid_host",
    "a request line has two spaces": "bad_request",
}
"""Where llhttp reads on and the gateway does not: the refusal's code."""


def looser(data: bytes, ours: Understood, theirs: Understood) -> str | None:
    """The reason of a listed looseness; None: it is another."""
    if ours.requests[: len(theirs.requests)] == theirs.requests:
        for why, (word, found) in LOOSER.items():
            if theirs.refused == word and re.search(found, data):
                return why
    return None


def stricter(data: bytes, ours: Understood, theirs: Understood) -> str | None:
    """The reason why a request that h11 reads is refused; None: it stands in no list."""
    method, target, _ = theirs.requests[len(ours.requests)]
    for why, (code, found) in STRICTER.items():
        if ours.refused == code and re.search(found, data):
            known = method in METHODS if why == METHOD else target.startswith((b"/", b"*", b"http"))
            if why not in (METHOD, TARGET) or not known:
                return why
    return None


async def compare(rng: Random, reasons: Counter[str]) -> int:
    data = conversation(rng)
    ours = await by_gateway(data, len(data))
    assert await by_gateway(data, rng.choice([1, 2, 7, 40])) == ours, ("depends on the writes", data)
    theirs = by_h11(data)
    if ours.requests != theirs.requests[: len(ours.requests)]:
        why = looser(data, ours, theirs)
        assert why, ("understood more loosely than by h11", data, ours, theirs)
        reasons[why] += 1
    elif len(theirs.requests) > len(ours.requests):
        why = stricter(data, ours, theirs)
        assert why, ("a difference that is not listed", data, ours, theirs)
        reasons[why] += 1
    raw = by_llhttp(data)
    if raw.refused != "upgrade":
        assert ours.requests == raw.requests[: len(ours.requests)], ("not as llhttp", data, ours, raw)
        if len(raw.requests) > len(ours.requests):
            assert ours.refused in THAN_LLHTTP.values(), (data, ours, raw)
            reasons["llhttp: " + ours.refused] += 1
    return len(ours.requests)


def test_no_request_is_understood_more_loosely_than_by_h11() -> None:
    async def main() -> tuple[int, Counter[str]]:
        rng, reasons, read = Random(SEED), Counter[str](), 0
        for n in range(MANY):
            read += await compare(rng, reasons)
            if n % 100 == 0:
                await asyncio.sleep(0)
        return read, reasons

    read, reasons = asyncio.run(main())
    assert read > MANY // 4, "most of them are about something"
    unseen = {*LOOSER, *STRICTER, *(f"llhttp: {code}" for code in THAN_LLHTTP.values())} - reasons.keys()
    assert not unseen, "a reason that nothing shows"


def test_where_a_chunked_body_ends_is_found_in_any_pieces_and_nothing_loops() -> None:
    rng = Random(SEED)
    body = b"3\r\nabc\r\n2;a=b\r\n\r\n\r\n0\r\nX-T: a\r\n\r\n"
    for _ in range(300):
        data = body if rng.random() < 0.5 else bytes(rng.choice(b"0-+fx\r\n; ") for _ in range(40))
        walk, at, ends = ChunkWalk(), 0, BEYOND
        while at < len(data) and ends == BEYOND:
            step = rng.randint(1, 9)
            found = walk.end_in(data[at : at + step] + b"more"[: 4 if at + step >= len(data) else 0], 0)
            ends = BEYOND if found == BEYOND else at + found
            at += step
        if data is body:
            assert ends == len(body)
    assert ChunkWalk().end_in(b"-5\r\n" * 100, 0) == BEYOND
