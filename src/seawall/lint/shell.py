"""Shell scripts cut into the words of one command, each with its place. No program is known here, nothing is judged."""

from __future__ import annotations

import re
from dataclasses import dataclass

_ENDS = ("&&", "||", ";", "|", "&", "\n")


@dataclass(frozen=True)
class Word:
    """One word as the shell hands it on; `offset` is where it begins in the script."""

    text: str
    offset: int
    open: bool = False
    """Whether the word holds a variable or a command that the shell fills in: its text is not known."""


def words(script: str, start: int) -> list[Word]:
    """The words of the command that begins at `start`, up to its end: a bare newline, `;`, `|`, `&`, `&&`, `||`."""
    out: list[Word] = []
    i, n = start, len(script)
    while i < n:
        c = script[i]
        if c == "\\" and script[i + 1 : i + 2] in ("\n", "\r"):
            i += 2
        elif c in " \t\r":
            i += 1
        elif c == "#":
            i = script.find("\n", i)
            if i < 0:
                break
        elif m := re.compile(r"\d*(>>?|<)(&\d+|&)?[ \t]*").match(script, i):
            i = m.end() if m[2] and m[2] != "&" else _word(script, m.end())[1]
        elif script.startswith(_ENDS, i) or c == ")":
            break
        else:
            text, end, unknown = *_word(script, i), False
            unknown = "$" in _unquoted_single(script[i:end]) or "`" in script[i:end]
            out.append(Word(text, i, unknown))
            i = end
    return out


def _unquoted_single(raw: str) -> str:
    return re.sub(r"'[^']*'", "", raw)


def _word(script: str, start: int) -> tuple[str, int]:
    """One word from `start`, and where it ends; quotes are taken off."""
    out: list[str] = []
    i, n = start, len(script)
    while i < n:
        c = script[i]
        if c in " \t\r\n;|&)" or (c in "<>" and out):
            break
        if c == "'":
            end = script.find("'", i + 1)
            end = n if end < 0 else end
            out.append(script[i + 1 : end])
            i = end + 1
        elif c == '"':
            text, i = _double(script, i + 1)
            out.append(text)
        elif c == "\\" and i + 1 < n:
            if script[i + 1] != "\n":
                out.append(script[i + 1])
            i += 2
        elif script.startswith(("$(", "${"), i):
            end = _closing(script, i + 1)
            out.append(script[i:end])
            i = end
        else:
            out.append(c)
            i += 1
    return "".join(out), max(i, start + 1)


def _double(script: str, i: int) -> tuple[str, int]:
    out: list[str] = []
    while i < len(script) and script[i] != '"':
        if script[i] == "\\" and script[i + 1 : i + 2] in ('"', "\\", "$", "`", "\n"):
            out.append("" if script[i + 1] == "\n" else script[i + 1])
            i += 2
            continue
        out.append(script[i])
        i += 1
    return "".join(out), i + 1


def _closing(script: str, i: int) -> int:
    """Behind the bracket that closes the one at `i`."""
    pair = {"(": ")", "{": "}"}
    opening, closing, depth = script[i], pair[script[i]], 0
    for at in range(i, len(script)):
        depth += (script[at] == opening) - (script[at] == closing)
        if not depth:
            return at + 1
    return len(script)
