"""Bodies that somebody has sent, or could: name -> (bytes, what must come of it: `refused`, `passed`, or `either`). The
table grows. Whatever passes means to the engine, which reads with Python's JSON, what it meant here."""

from __future__ import annotations

import json
from typing import Any

Shape = tuple[bytes, str]

TEXTS: dict[str, Shape] = {
    "nothing": (b"", "refused"),
    "a space": (b" ", "refused"),
    "null": (b"null", "refused"),
    "a list": (b"[]", "refused"),
    "a text": (b'"a"', "refused"),
    "a number": (b"1", "refused"),
    "true": (b"true", "refused"),
    "nothing in it": (b"{}", "passed"),
    "cut": (b'{"model":"m"', "refused"),
    "cut in a text": (b'{"model":"m', "refused"),
    "cut in an escape": (b'{"model":"m\\u00', "refused"),
    "two objects": (b'{"model":"m"}{"model":"m"}', "refused"),
    "more behind it": (b'{"model":"m"} x', "refused"),
    "white space around it": (b' \r\n\t{"model":"m"}\n ', "passed"),
    "a form feed": (b'\x0c{"model":"m"}', "refused"),
    "a byte order mark": (b'\xef\xbb\xbf{"model":"m"}', "passed"),
    "two byte order marks": (b'\xef\xbb\xbf\xef\xbb\xbf{"model":"m"}', "refused"),
    "a comma at the end": (b'{"model":"m",}', "refused"),
    "a comma at the beginning": (b'{,"model":"m"}', "refused"),
    "no colon": (b'{"model" "m"}', "refused"),
    "single quotes": (b"{'model':'m'}", "refused"),
    "no quotes": (b"{model:m}", "refused"),
    "a comment": (b'{"model":"m"/*x*/}', "refused"),
    "a comment at the end": (b'{"model":"m"}//x', "refused"),
    "NaN": (b'{"model":"m","temperature":NaN}', "refused"),
    "Infinity": (b'{"model":"m","temperature":Infinity}', "refused"),
    "minus Infinity": (b'{"model":"m","temperature":-Infinity}', "refused"),
    "a plus": (b'{"model":"m","n":+1}', "refused"),
    "a leading zero": (b'{"model":"m","n":01}', "refused"),
    "hexadecimal": (b'{"model":"m","n":0x1}', "refused"),
    "a point at the end": (b'{"model":"m","n":1.}', "refused"),
    "a point at the beginning": (b'{"model":"m","n":.5}', "refused"),
    "a tab in a text": (b'{"model":"m","prompt":"a\tb"}', "refused"),
    "a line's end in a text": (b'{"model":"m","prompt":"a\nb"}', "refused"),
    "NUL in a text": (b'{"model":"m","prompt":"a\0b"}', "refused"),
    "NUL, escaped": (b'{"model":"m","prompt":"a\\u0000b"}', "passed"),
    "NUL behind it": (b'{"model":"m"}\0', "refused"),
    "a bad escape": (b'{"model":"m","prompt":"\\x41"}', "refused"),
    "half a surrogate pair": (b'{"model":"m","prompt":"\\ud800"}', "either"),
    "a surrogate pair the wrong way": (b'{"model":"m","prompt":"\\udc00\\ud800"}', "either"),
    "Latin-1": (b'{"model":"m","prompt":"\xe9"}', "refused"),
    "UTF-8, cut": (b'{"model":"m","prompt":"\xc3"}', "refused"),
    "UTF-8, overlong": (b'{"model":"m","prompt":"\xc0\xaf"}', "refused"),
    "UTF-8 of a surrogate": (b'{"model":"m","prompt":"\xed\xa0\x80"}', "refused"),
    "UTF-8 beyond Unicode": (b'{"model":"m","prompt":"\xf4\x90\x80\x80"}', "refused"),
    "UTF-16": ('{"model":"m"}'.encode("utf-16"), "refused"),
    "UTF-16 without a mark": ('{"model":"m"}'.encode("utf-16-le"), "refused"),
    "UTF-32": ('{"model":"m"}'.encode("utf-32"), "refused"),
    "two models, the last is ours": (b'{"model":"nope","model":"m"}', "passed"),
    "two models, the first is ours": (b'{"model":"m","model":"nope"}', "refused"),
    "two models, one escaped": (b'{"model":"m","mod\\u0065l":"nope"}', "refused"),
    "the model escaped": (b'{"mod\\u0065l":"\\u006d"}', "passed"),
    "a key with NUL": (b'{"model\\u0000":"nope","model":"m"}', "passed"),
    "a key in capitals": (b'{"MODEL":"nope","model":"m"}', "passed"),
    "an empty key": (b'{"":1,"model":"m"}', "passed"),
    "__proto__": (b'{"__proto__":{"model":"nope"},"model":"m"}', "passed"),
    "deep lists": (b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "refused"),
    "deep objects": (b'{"model":"m","x":' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001, "refused"),
    "deep and open": (b'{"model":"m","x":' + b"[" * 100_000, "refused"),
    "a long number": (b'{"model":"m","seed":' + b"9" * 100_000 + b"}", "either"),
    "a long fraction": (b'{"model":"m","temperature":0.' + b"1" * 100_000 + b"}", "either"),
    "a huge exponent": (b'{"model":"m","temperature":1e999999}', "either"),
    "a tiny exponent": (b'{"model":"m","temperature":1e-999999}', "either"),
    "minus zero": (b'{"model":"m","n":-0}', "passed"),
    "a model with a line's end": (b'{"model":"m\\r\\nX: y"}', "refused"),
    "a model with markup": (b'{"model":"<script>alert(1)</script>"}', "refused"),
    "a model that is long": (b'{"model":"' + b"m" * 100_000 + b'"}', "refused"),
    "a model that is a path": (b'{"model":"../../etc/passwd"}', "refused"),
    "a model that is a format": (b'{"model":"{0.__class__}%s%n"}', "refused"),
    "a model with a right-to-left mark": ('{"model":"m\u202e"}'.encode(), "refused"),
    "a model that looks like ours": ('{"model":"м"}'.encode(), "refused"),
    "a file to fetch": (b'{"model":"m","messages":[{"content":[{"image_url":{"url":"file:///etc/passwd"}}]}]}', "refused"),
    "a form": (b"model=m&prompt=x", "refused"),
    "XML": (b"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>", "refused"),
    "multipart": (b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nm\r\n--x--\r\n', "refused"),
    "gzip, unsaid": (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff", "refused"),
    "JSON lines": (b'{"model":"m"}\n{"model":"m"}\n', "refused"),
    "a record separator": (b'\x1e{"model":"m"}\n', "refused"),
    "a number out of range": (b'{"model":"m","x":1e400}', "either"),
    "a number out of range beside media": (b'{"model":"m","messages":[{"content":[{"image_url":1e400}]}]}', "either"),
    "a number out of range for a template": (b'{"model":"m","chat_template_kwargs":{"a":1e400}}', "either"),
    "half a surrogate pair for a template": (b'{"model":"m","chat_template_kwargs":{"\\ud800":1}}', "either"),
    "half a surrogate pair beside media": (b'{"model":"m","messages":[{"content":[{"image_url":"\\ud800"}]}]}', "either"),
    "half a surrogate pair for a salt": (b'{"model":"m","cache_salt":"\\ud800"}', "either"),
    "a number out of range for a salt": (b'{"model":"m","cache_salt":-1e400}', "either"),
    "a part whose type is a list": (b'{"model":"m","messages":[{"content":[{"type":["x"],"image_url":{"url":"x"}}]}]}', "either"),
    "a part whose type is an object": (b'{"model":"m","input":[{"content":[{"type":{},"file_url":"x"}]}]}', "either"),
    "media that lie deep": (b'{"model":"m","messages":' + b"[" * 450 + b'{"image_url":"x"}' + b"]" * 450 + b"}", "either"),
    "many keys": (b'{"model":"m",' + b",".join(b'"k%d":%d' % (n, n) for n in range(2_000)) + b"}", "either"),
}  # fmt: skip

FIELDS = [
    "model",
    "stream",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "prompt",
    "messages",
    "input",
    "stop",
    "seed",
    "temperature",
    "top_p",
    "logprobs",
    "stream_options",
    "tools",
    "tool_choice",
    "response_format",
    "user",
    "metadata",
    "logit_bias",
    "cache_salt",
    "priority",
]
VALUES: dict[str, Any] = {
    "null": None, "true": True, "zero": 0, "minus one": -1, "2**63": 2**63, "a half": 0.5, "an empty text": "", "a text": "x", "an empty list": [], "null in a list": [None],
    "an empty object": {}, "lists in lists": [[[]]],
}  # fmt: skip


def _typed() -> dict[str, Shape]:
    out: dict[str, Shape] = {}
    for field in FIELDS:
        for name, value in VALUES.items():
            out[f"{field} is {name}"] = (
                json.dumps({"model": "m", "prompt": "x", field: value}).encode(),
                "either",
            )
    return out


SHAPES: dict[str, Shape] = {**TEXTS, **_typed()}
