"""Requests made by chance, from a seed: right ones, odd ones, and ones that are nearly right. Every one of them may be
what two parsers in a row understand differently."""

from __future__ import annotations

from random import Random

METHODS = [
    b"GET",
    b"POST",
    b"POST",
    b"POST",
    b"HEAD",
    b"PUT",
    b"OPTIONS",
    b"get",
    b"G@T",
    b"PO ST",
    b"",
    b"CONNECT",
    b"M-SEARCH",
]
TARGETS = [
    b"/",
    b"/v1/models",
    b"/v1/completions?x=1",
    b"*",
    b"http://g/v1",
    b"g:80",
    b"/a b",
    b"/\xc3\xa9",
    b"/a\tb",
    b"",
    b"/%00",
    b"/a#b",
    b"/a\x7f",
    b"//x",
    b"/\\x",
    b"?x",
    b'/"<>',
]
VERSIONS = [b"HTTP/1.1"] * 12 + [
    b"HTTP/1.0",
    b"HTTP/1.2",
    b"HTTP/2.0",
    b"http/1.1",
    b"HTTP/1.1 ",
    b"HTTP/01.1",
    b"HTTP/11",
    b"",
    b"HTTP/1.10",
    b"HTTP/0.9",
    b"ICE/1.0",
    b"RTSP/1.0",
]
SPACES = [b" "] * 20 + [b"  ", b"\t", b" \t", b"", b"\x0b"]
ENDS = [b"\r\n"] * 60 + [b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n "]
NAMES = [
    b"X-A",
    b"Authorization",
    b"content-type",
    b"x-b",
    b"Accept",
    b"X-A ",
    b" X-A",
    b"X\x00A",
    b"X A",
    b"X-\xc3\xa9",
    b"",
    b"X_A",
    b"X:A",
    b"X(A)",
    b"Content-Length ",
    b"Transfer-Encoding\t",
    b"Content_Length",
]
VALUES = [
    b"a",
    b"",
    b"a b",
    b" a ",
    b"\ta\t",
    b"\xff",
    b"a\x00b",
    b"a\x0bb",
    b"a\x1fb",
    b"a\x7fb",
    b"a\rb",
    b"a\r\n b",
    b"a\nb",
    b"x" * 300,
]
HOSTS = [b"Host: g"] * 20 + [
    b"",
    b"Host: g\r\nHost: h",
    b"Host:",
    b"host:g:80",
    b"Host : g",
    b"Host: a b",
    b"Host: a@g",
    b"Host: [::1]:80",
]
LENGTHS = [b"Content-Length: %d"] * 8 + [
    b"Content-Length: +%d",
    b"Content-Length: -%d",
    b"Content-Length: 0x%x",
    b"Content-Length: %d, %d",
    b"Content-Length: %d\r\nContent-Length: %d",
    b"Content-Length: %d\r\nContent-Length: 0",
    b"Content-Length: 00%d",
    b"Content-Length: %d ",
    b"Content-Length:%d",
    b"Content-Length: 9%d",
    b"Content-Length: %d;",
    b"Content-Length: %d.0",
    b"Content-Length: ",
    b"Content-Length: 1_0",
    b"Content-Length: 99999999999999999999%d",
    b"Content-Length: %d\r\nTransfer-Encoding: chunked",
]
CODINGS = [b"Transfer-Encoding: chunked"] * 8 + [
    b"Transfer-Encoding: Chunked",
    b"Transfer-Encoding: chunked ",
    b"Transfer-Encoding:\tchunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: ",
    b'Transfer-Encoding: "chunked"',
    b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    b"Transfer-Encoding: chun\r\n ked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 3",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: ,chunked",
    b"Transfer_Encoding: chunked",
    b"Transfer-Encoding : chunked",
]
SIZES = [b"%x"] * 20 + [
    b"%X",
    b"0%x",
    b"0x%x",
    b"+%x",
    b"-%x",
    b" %x",
    b"%x ",
    b"%x;a=b",
    b"%x ;a",
    b"%x;",
    b'%x;a="b;c"',
    b"%x\t",
    b"g%x",
    b"%x\x00",
    b"ffffffffffffffff%x",
    b"%x;\n",
    b"%x_0",
    b"",
]
CONNECTIONS = [b""] * 12 + [
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: upgrade\r\nUpgrade: h2c",
    b"Upgrade: websocket",
    b"Authorization: a\r\nAuthorization: b",
    b"Connection: Upgrade, close\r\nUpgrade: x",
    b"Expect: 100-continue",
    b"Connection: close, keep-alive",
    b"Connection: Content-Length",
]
TRAILERS = [b""] * 12 + [
    b"X-T: a\r\n",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"X-T : a\r\n",
    b"X\x00: a\r\n",
    b": a\r\n",
    b"a\r\n",
]
BODIES = [
    b"",
    b"a",
    b"abc",
    b'{"model":"m"}',
    b"GET /smuggled HTTP/1.1\r\nHost: g\r\n\r\n",
    b"\r\n\r\n",
    b"0\r\n\r\n",
]


def chunked(rng: Random, body: bytes) -> bytes:
    out = b""
    while body:
        cut = rng.randint(1, len(body))
        part, body = body[:cut], body[cut:]
        size = rng.choice(SIZES)
        out += (size % len(part) if b"%" in size else size) + rng.choice(ENDS) + part + rng.choice(ENDS)
    return (
        out
        + rng.choice([b"0"] * 12 + [b"00", b"0;a", b"", b"0 "])
        + rng.choice(ENDS)
        + rng.choice(TRAILERS)
        + rng.choice(ENDS)
    )


def request(rng: Random) -> bytes:
    """One request. Most of its parts are right: what is wrong everywhere is refused for anything."""
    odd = rng.random() < 0.6

    def some(of: list[bytes]) -> bytes:
        return rng.choice(of) if odd and rng.random() < 0.35 else of[0]

    body = rng.choice(BODIES)
    lines = [
        some(METHODS if rng.random() < 0.5 else METHODS[1:])
        + some(SPACES)
        + some(TARGETS)
        + some(SPACES)
        + some(VERSIONS)
    ]
    lines += [some(HOSTS)] if rng.random() < 0.95 else []
    for _ in range(rng.randint(0, 3)):
        lines.append(some(NAMES) + rng.choice([b": ", b":", b" :"] if odd else [b": "]) + some(VALUES))
    lines.append(some(CONNECTIONS))
    framing = rng.random()
    if framing < 0.4:
        length = some(LENGTHS)
        lines.append(length % ((len(body),) * length.count(b"%d") or (len(body),) * length.count(b"%x")))
    elif framing < 0.75:
        lines.append(some(CODINGS))
        body = (
            chunked(rng, body)
            if odd
            else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
            if body
            else b"0\r\n\r\n"
        )
    rng.shuffle(lines[1:])
    head = b"".join(line + some(ENDS) for line in lines if line)
    return head + some(ENDS) + body


def conversation(rng: Random) -> bytes:
    """What a client sends on one connection: mostly a few requests, now and then with a few bytes changed."""
    data = b"".join(request(rng) for _ in range(rng.choice([1, 1, 1, 2, 3])))
    if rng.random() < 0.15:
        changed = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(changed))
            changed[at : at + rng.randint(0, 2)] = rng.choice(
                [b"", b"\r", b"\n", b" ", b"\0", b":", bytes([rng.randrange(256)])]
            )
        data = bytes(changed)
    return data
