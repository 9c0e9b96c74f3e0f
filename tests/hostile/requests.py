"""Requests that somebody has sent, or could: name -> (bytes, what must come of it). The table grows: add a line for each
new complaint, in the group of its kind.

What must come: `refused` (4xx, and the connection ends), `answered` (4xx, and the connection goes on), `served` (it
reaches a replica), `own` (200 from the gateway itself), `waits` (it is not whole), `ends` (the connection ends unanswered
or in order).
"""

from __future__ import annotations

from tests.unit.gateway.scripted import ASK, post

H = b"Host: g\r\n"
GET = b"GET /health HTTP/1.1\r\n" + H
POST = b"POST /v1/completions HTTP/1.1\r\n" + H
TE = POST + b"Transfer-Encoding: chunked\r\n\r\n"
Shape = tuple[bytes, str]


def lengths() -> dict[str, Shape]:
    wrong = [
        "+4",
        "-4",
        "0x4",
        "4.0",
        "4,4",
        "4, 4",
        "4;",
        "4 4",
        "1e1",
        "",
        " ",
        "\t",
        "a",
        "4a",
        "٤",
        "4\x00",
        "1_0",
        "9" * 30,
        "--4",
        "04x",
    ]
    out = {
        f"Content-Length: {v!r}": (POST + f"Content-Length: {v}\r\n\r\n".encode() + b"abcd", "refused")
        for v in wrong
    }
    right = {"leading zeros": b"0000%d", "a space behind": b"%d ", "a tab before": b"\t%d", "no space": b"%d"}
    for name, form in right.items():
        out[f"Content-Length with {name}"] = (
            POST + b"Content-Length:" + form % len(ASK) + b"\r\n\r\n" + ASK,
            "served",
        )
    for a, b in ((4, 4), (4, 5), (0, 4), (4, 0)):
        two = f"Content-Length: {a}\r\nContent-Length: {b}\r\n\r\n".encode()
        out[f"Content-Length twice: {a} and {b}"] = (POST + two + b"abcd", "refused")
    out["Content-Length of a huge body"] = (POST + b"Content-Length: 99999999\r\n\r\n", "refused")
    out["less than its Content-Length"] = (POST + b"Content-Length: 100\r\n\r\nabc", "waits")
    return out


def codings() -> dict[str, Shape]:
    wrong = ["xchunked", "chunked, chunked", "gzip, chunked", "chunked, gzip", "identity", "", "chunked;q=1", '"chunked"', ",chunked",
             "chunked,", "\x0bchunked", "chunked\x00", "deflate", "chunkedd", "chunk\ted", "CHUNKED, identity", "chunked\r\n\tx"]  # fmt: skip
    end = b"\r\n\r\n0\r\n\r\n"
    out = {
        f"Transfer-Encoding: {v!r}": (POST + b"Transfer-Encoding: " + v.encode() + end, "refused")
        for v in wrong
    }
    whole = b"%x\r\n%b\r\n0\r\n\r\n" % (len(ASK), ASK)
    for v in ("chunked", "Chunked", "CHUNKED"):
        out[f"Transfer-Encoding: {v!r} is right"] = (
            POST + f"Transfer-Encoding: {v}\r\n\r\n".encode() + whole,
            "served",
        )
    for name, lines in {"CL and TE": b"Content-Length: 4\r\nTransfer-Encoding: chunked", "TE and CL": b"Transfer-Encoding: chunked\r\nContent-Length: 4",
                        "TE twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "TE twice, once identity": b"Transfer-Encoding: identity\r\n"
                        b"Transfer-Encoding: chunked", "TE with a space": b"Transfer-Encoding : chunked", "TE folded": b"Transfer-Encoding:\r\n chunked",
                        "TE behind LF": b"X: a\nTransfer-Encoding: chunked", "TE with NUL": b"Transfer-Encoding\x00: chunked"}.items():  # fmt: skip
        out[name] = (POST + lines + end, "refused")
    out["TE with an underscore is nobody's"] = (
        POST + b"Transfer_Encoding: chunked\r\nContent-Length: %d\r\n\r\n" % len(ASK) + ASK,
        "served",
    )
    out["TE in HTTP/1.0"] = (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked" + end, "refused")
    return out


def chunks() -> dict[str, Shape]:
    wrong = [
        "0x4",
        "+4",
        "-4",
        " 4",
        "4 ",
        "4\t",
        "g",
        "",
        "4;\x00",
        "f" * 17,
        "4_0",
        "4\x0b",
        "-0",
        '4;a="b\nc"',
        "4\x00",
    ]
    out = {f"chunk size {v!r}": (TE + v.encode() + b"\r\nabcd\r\n0\r\n\r\n", "refused") for v in wrong}
    for name, data in {
        "size line ends in LF": b"4\nabcd\r\n0\r\n\r\n", "size line ends in CR": b"4\rabcd\r\n0\r\n\r\n", "data ends in LF": b"4\r\nabcd\n0\r\n\r\n",
        "data is longer": b"4\r\nabcde\r\n0\r\n\r\n", "data is shorter": b"4\r\nabc\r\n0\r\n\r\n", "trailer with a length": b"0\r\nContent-Length: 3\r\n\r\n",
        "trailer with a coding": b"0\r\nTransfer-Encoding: chunked\r\n\r\n", "trailer without a name": b"0\r\n: a\r\n\r\n", "trailer with a space": b"0\r\nX : a\r\n\r\n",
        "trailer folded": b"0\r\nX: a\r\n b\r\n\r\n", "last chunk ends in LF": b"0\n\r\n", "trailer with NUL": b"0\r\nX: a\x00\r\n\r\n",
    }.items():  # fmt: skip
        out[f"chunks: {name}"] = (TE + data, "refused")
    size = b"%x" % len(ASK)
    for name, line in {
        "an extension": size + b";a=b",
        "a quoted extension": size + b';a="b c"',
        "a leading zero": b"000" + size,
        "upper case": size.upper(),
    }.items():
        out[f"chunks: {name}"] = (TE + line + b"\r\n" + ASK + b"\r\n0\r\n\r\n", "served")
    out["chunks of one byte"] = (TE + b"".join(b"1\r\n%c\r\n" % c for c in ASK) + b"0\r\n\r\n", "served")
    out["chunks: a trailer"] = (TE + size + b"\r\n" + ASK + b"\r\n0\r\nX-Sum: a\r\n\r\n", "served")
    out["a chunk that is larger than any body"] = (TE + b"7fffffff\r\n{", "refused")
    out["chunks that are larger than any body together"] = (
        TE + size + b"\r\n" + ASK + b"\r\n7fffffff\r\n",
        "refused",
    )
    out["chunks without an end"] = (TE + size + b"\r\n" + ASK + b"\r\n", "waits")
    return out


def request_lines() -> dict[str, Shape]:
    rest = b"\r\n" + H + b"\r\n"
    wrong = ["GET  /health HTTP/1.1", "GET /health  HTTP/1.1", " GET /health HTTP/1.1", "GET\t/health HTTP/1.1", "GET /health\tHTTP/1.1", "GET /health HTTP/1.1 ",
             "GET /health", "GET", "/health HTTP/1.1", "GET /health HTTP/2.0", "GET /health HTTP/0.9", "GET /health HTTP/1.2", "GET /health HTTP/1.10",
             "GET /health http/1.1", "GET /health HTTP/11", "GET /health HTTP/1", "GET /health HTTP/ 1.1", "GET /health HTTP/1.1HTTP/1.1", "get /health HTTP/1.1",
             "G@T /health HTTP/1.1", "GETT /health HTTP/1.1", "FOO /health HTTP/1.1", "GET /he alth HTTP/1.1", "GET /a\x00b HTTP/1.1", "GET /a\x01b HTTP/1.1",
             "GET /a\x7fb HTTP/1.1", "GET \\health HTTP/1.1", "GET ?health HTTP/1.1", "GET g:80 HTTP/1.1", "GET /health HTTP/-1.1", "GET /health HTTP/1.1\x00",
             "GET /health RTSP/1.0", "GET /health ICE/1.0", "PRI * HTTP/2.0", "", "\x16\x03\x01\x02\x00\x01", "SSH-2.0-OpenSSH_9.2", "EHLO g", "\x00\x00\x00"]  # fmt: skip
    out = {f"line {v!r}": (v.encode("latin-1") + rest, "refused") for v in wrong if v}
    for target in ("/", "/nothing", "*", "/%2e%2e/sleep", "/v1/../sleep", "//health", "/health/", "/health;a", "/HEALTH", "/v1%2fmodels", "http://g/sleep",
                   "/sleep", "/metrics", "/docs", "/openapi.json", "/v1/load_lora_adapter", "/admin", "/.env", "/health%00", "/v1/models%20", "/'", '/"<script>"'):  # fmt: skip
        out[f"target {target}"] = (f"GET {target} HTTP/1.1".encode() + rest, "answered")
    for target in (
        "/health",
        "/health?x=1",
        "http://g/health",
        "HTTP://g:80/health?x",
        "/health?a?b",
        "/health?/../sleep",
        "/ping",
        "/version",
        "/v1/models",
    ):
        out[f"target {target} is right"] = (f"GET {target} HTTP/1.1".encode() + rest, "own")
    for target in ("http://user@g/health", "http://user:pw@g/health", "http:///health", "http://:80/health", "http://[::1/health", "http://g:80:80/health", "http://a,b/health",
                   "HTTPS://g:x/health", "http://?/health", "http://user@g"):  # fmt: skip
        out[f"target {target}"] = (f"GET {target} HTTP/1.1".encode() + rest, "refused")
    for target in ("http://[::1]:80/health", "https://g/health", "http://127.0.0.1/health?http://user@g/"):
        out[f"target {target} is right"] = (f"GET {target} HTTP/1.1".encode() + rest, "own")
    for method in (
        "PUT",
        "DELETE",
        "PATCH",
        "TRACE",
        "PROPFIND",
        "OPTIONS",
        "PURGE",
        "M-SEARCH",
        "LOCK",
        "LINK",
    ):
        out[f"method {method}"] = (f"{method} /v1/completions HTTP/1.1".encode() + rest, "answered")
    for more in ("", "Content-Length: 40\r\n", "Transfer-Encoding: chunked\r\n"):
        out[f"CONNECT {more!r}"] = (
            f"CONNECT g:443 HTTP/1.1\r\nHost: g\r\n{more}\r\n".encode() + GET + b"\r\n",
            "refused",
        )
    return out


def headers() -> dict[str, Shape]:
    wrong = ["X : a", " X: a", "X\t: a", "X\x00: a", "X Y: a", "é: a", ": a", "X", "X: a\x00b", "X: a\rb", "X: a\n b", "X: a\r\n b", "X: a\x0b", "X: a\x1f", "X: a\x7f", "X(): a",
             "X@: a", "X{: a", "\"X\": a", "X: a\nY: b", "X: a\r\r\nY: b", "\x80: a"]  # fmt: skip
    out = {f"header {v!r}": (GET + v.encode("latin-1") + b"\r\n\r\n", "refused") for v in wrong}
    right = ["X:a", "X:", "X: ", "X: \xff", "X: a\tb", "X_Y: a", "X!#$%&'*+.^`|~: a", "X: " + "a" * 30_000, "Cookie: " + "a=b; " * 900, "X: =?utf-8?q?a?=", "Forwarded: for=1.2.3.4",
             "X-Forwarded-Host: evil", "X-Original-URL: /sleep", "X-Rewrite-URL: /sleep", "X-HTTP-Method-Override: DELETE", "Content-Type: a", "Range: bytes=0-1", "If-None-Match: *",
             "Connection: keep-alive", "Connection: X-A, Y", "Keep-Alive: timeout=99999", "Proxy: http://evil", "Proxy-Connection: close", "TE: trailers", "Trailer: X"]  # fmt: skip
    out |= {f"header {v[:30]!r} is right": (GET + v.encode("latin-1") + b"\r\n\r\n", "own") for v in right}
    for name in ("Host", "Authorization", "Content-Type", "Content-Encoding"):
        out[f"two of {name}"] = (GET + f"{name}: g\r\n{name}: h\r\n\r\n".encode(), "refused")
    out["101 headers"] = (GET + b"a: b\r\n" * 101 + b"\r\n", "refused")
    out["a head of 33 KiB"] = (GET + b"X: " + b"a" * 33_000 + b"\r\n\r\n", "refused")
    out["a head without an end"] = (GET + b"X: a", "waits")
    out["a URL of 40 KiB"] = (b"GET /health?" + b"a" * 40_000 + b" HTTP/1.1\r\n" + H + b"\r\n", "refused")
    out["a URL of 20 KiB"] = (b"GET /health?" + b"a" * 20_000 + b" HTTP/1.1\r\n" + H + b"\r\n", "own")
    for encoding in ("br", "deflate", "gzip, gzip", "compress", "x", "gzip;q=1", "identity, gzip", "*"):
        out[f"Content-Encoding: {encoding}"] = (
            post(ASK, f"Content-Encoding: {encoding}\r\n".encode()),
            "refused",
        )
    for encoding in ("gzip", "zstd"):
        out[f"not {encoding}"] = (post(ASK, f"Content-Encoding: {encoding}\r\n".encode()), "refused")
    return out


def hosts() -> dict[str, Shape]:
    top = b"GET /health HTTP/1.1\r\n"
    wrong = ["a b", "a\tb", "a,b", "a/b", "a/", "http://g", "a?b", "a#b", "user@g", "user:pw@g", "a\\b", "a:b", "a:80:80", "a:-1", "a:+80", "a:8 0", "a: 80", ":x", "[", "[]", "[::1",
             "::1", "[::1]x", "[::1]:x", "[::g]", "[a b]", "[::1%eth0 x]", "a%", "a%2", "a%zz", "<g>", '"g"', "g|h", "g^", "g`", "{g}", "b\xfccher", "\xe2\x80\xae", "g:" + "9" * 6,
             "g" * 300]  # fmt: skip
    out = {
        f"Host: {v[:20]!r}": (top + b"Host: " + v.encode("latin-1") + b"\r\n\r\n", "refused") for v in wrong
    }
    right = ["g", "G.Example", "g:80", "g:", "", "127.0.0.1:8000", "[::1]", "[::1]:8000", "[::ffff:1.2.3.4]:80", "[v1.a:b]", "a_b.svc", "a-b.c.", "a~!$&'()*+,;=b".replace(",", ""), "%41b",
             "xn--bcher-kva.example", " g ", "\tg\t"]  # fmt: skip
    out |= {f"Host: {v!r} is right": (top + b"Host:" + v.encode() + b"\r\n\r\n", "own") for v in right}
    out["no host"] = (top + b"\r\n", "refused")
    out["two hosts, the same"] = (top + H + H + b"\r\n", "refused")
    out["two hosts, one of them empty"] = (top + H + b"Host:\r\n\r\n", "refused")
    out["two hosts, in two cases"] = (top + H + b"HOST: h\r\n\r\n", "refused")
    out["a URL as target, and no host"] = (b"GET http://g/health HTTP/1.1\r\n\r\n", "refused")
    out["a URL as target, and no good host"] = (
        b"GET http://g/health HTTP/1.1\r\nHost: a b\r\n\r\n",
        "refused",
    )
    out["1.0: no good host"] = (b"GET /health HTTP/1.0\r\nHost: a b\r\n\r\n", "refused")
    return out


def line_ends() -> dict[str, Shape]:
    out = {}
    for name, data in {
        "all LF": GET.replace(b"\r\n", b"\n") + b"\n", "all CR": GET.replace(b"\r\n", b"\r") + b"\r", "LF behind the line": b"GET /health HTTP/1.1\n" + H + b"\r\n",
        "LF behind the host": b"GET /health HTTP/1.1\r\nHost: g\n\r\n", "LF at the end": GET + b"\n", "CR CR LF": GET + b"X: a\r\r\n\r\n", "LF CR": GET + b"X: a\n\r\n\r\n",
        "LF before": b"\n" + GET + b"\r\n", "CR before": b"\r" + GET + b"\r\n", "LF LF before": b"\n\n" + GET + b"\r\n", "NUL before": b"\0" + GET + b"\r\n",
        "a space before": b" " + GET + b"\r\n", "CR LF LF before": b"\r\n\n" + GET + b"\r\n",
    }.items():  # fmt: skip
        out[f"ends: {name}"] = (data, "refused")
    out["ends: empty lines before"] = (b"\r\n\r\n" + GET + b"\r\n", "own")
    out["ends: nothing but empty lines"] = (b"\r\n" * 3, "waits")
    return out


def offers() -> dict[str, Shape]:
    out = {}
    for name, lines in {
        "h2c": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP\r\n", "websocket": b"Connection: upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "without Connection": b"Upgrade: h2c\r\n", "Connection alone": b"Connection: upgrade\r\n", "TLS": b"Connection: upgrade\r\n"
        b"Upgrade: TLS/1.0\r\n", "expect": b"Expect: 100-continue\r\n", "expect something": b"Expect: nothing\r\n", "empty": b"Connection: upgrade\r\nUpgrade:\r\n",
    }.items():  # fmt: skip
        out[f"offer {name}, no body"] = (GET + lines + b"\r\n", "own")
        out[f"offer {name}, a body"] = (post(ASK, lines), "served")
        whole = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(ASK), ASK)
        out[f"offer {name}, chunks"] = (POST + lines + whole, "served")
    return out


def old_versions() -> dict[str, Shape]:
    """HTTP/1.0: no Host is needed, nothing is chunked, and the connection ends unless the client asks for more."""
    top = b"GET /health HTTP/1.0\r\n"
    out = {f"1.0: {name}": (top + lines + b"\r\n", what) for name, lines, what in (
        ("keep-alive", b"Connection: keep-alive\r\n", "own"), ("keep-alive and a host", H + b"Connection: Keep-Alive\r\n", "own"),
        ("a length of nothing", b"Connection: keep-alive\r\nContent-Length: 0\r\n", "own"), ("chunks", b"Transfer-Encoding: chunked\r\n", "refused"),
        ("two hosts", H + H, "refused"), ("folded", b"X: a\r\n b\r\n", "refused"), ("LF", b"X: a\n", "refused"))}  # fmt: skip
    body = b"Connection: keep-alive\r\nContent-Length: %d\r\n\r\n" % len(ASK) + ASK
    out["1.0: a body"] = (b"POST /v1/completions HTTP/1.0\r\n" + body, "served")
    out["1.0: expect"] = (b"POST /v1/completions HTTP/1.0\r\nExpect: 100-continue\r\n" + body, "served")
    return out


def with_bodies() -> dict[str, Shape]:
    """Bodies where none is due: they are read as bodies, never as the next request."""
    smuggled = b"GET /v1/models/smuggled HTTP/1.1\r\nHost: g\r\n\r\n"
    out = {}
    for method, what in (
        ("GET", "own"),
        ("HEAD", "own"),
        ("OPTIONS", "answered"),
        ("DELETE", "answered"),
        ("TRACE", "answered"),
    ):
        top = f"{method} /health HTTP/1.1\r\n".encode() + H
        out[f"{method} with a body that is a request"] = (
            top + b"Content-Length: %d\r\n\r\n" % len(smuggled) + smuggled,
            what,
        )
        chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(smuggled), smuggled)
        out[f"{method} with chunks that are a request"] = (top + chunked, what)
    return out


SHAPES: dict[str, Shape] = {
    **lengths(), **codings(), **chunks(), **request_lines(), **headers(), **hosts(), **line_ends(), **offers(), **old_versions(), **with_bodies(),
}  # fmt: skip
