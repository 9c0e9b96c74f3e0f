"""Two options whose numbers do not go together: which one to raise or lower, and to what. Text in, words out.

vLLM refuses such pairs in many wordings (`A (8) must be <= B (4)`, `A 8 is greater than B 4`, `A must be divisible
by B`); what mends them is the same in all. Forbidden here: single messages.
"""

from __future__ import annotations

import re

from seawall.engines.vllm.versions import flags

_NAME = r"(?<![\w-])(?P<{0}>(?:--)?[a-z]{{1,24}}(?:[ _-][a-z]{{1,24}}){{0,4}})[`'\"]?"
_NUMBER = r"(?:\s*[(=:]{{0,2}}\s*(?P<{0}>\d+)\)?)?"
_MUST = r"(?P<must>must(?: not)? (?:be|exceed)|should be|ha(?:s|ve) to be|needs? to be|cannot (?:be|exceed)|can't be)"
_IS = r"(?:is|are|being)"
_RELATION = (
    r"(?P<relation><=|>=|<|>|(?:less|smaller|lower|fewer) than or equal to|(?:greater|larger|more) than or equal to"
    r"|at least|at most|no (?:more|larger|greater|less|smaller) than|(?:smaller|less|lower) than"
    r"|(?:larger|greater|more|bigger|higher) than|(?:evenly )?divisible by|a multiple of)"
)
_PAIR = re.compile(
    _NAME.format("first")
    + _NUMBER.format("first_number")
    + rf"\s+(?:{_MUST}|{_IS})(?:\s+{_RELATION})?(?:\s+(?:the|its))?\s+`?"
    + _NAME.format("second")
    + _NUMBER.format("second_number")
)
_NOT_ABOVE = re.compile(r"^(?:<=?|(?:less|smaller|lower|fewer) than|at most|no (?:more|larger|greater))")
_ABOVE = re.compile(r"^(?:>=?|(?:greater|larger|more|bigger|higher) than|at least|no (?:less|smaller))")
_FORBIDS = ("must not be", "must not exceed", "cannot be", "can't be", "cannot exceed")


def bounds_in(words: str) -> str:
    """What to raise or lower, by a refusal's words; empty where it holds no such pair of options."""
    for m in _PAIR.finditer(words):
        first, second = _flag(m["first"], last=True), _flag(m["second"], last=False)
        if not first and not second:
            continue
        relation, must = m["relation"] or "", m["must"] or ""
        if not relation and "exceed" not in must:
            continue
        if "divisible" in relation or "multiple" in relation:
            return _divides(m, first, second)
        above = bool(_ABOVE.match(relation)) or "exceed" in must
        if not above and not _NOT_ABOVE.match(relation):
            continue
        wanted = above if must and must not in _FORBIDS else not above
        high, low = (first, second) if wanted else (second, first)
        least, most = (
            (m["second_number"], m["first_number"]) if wanted else (m["first_number"], m["second_number"])
        )
        ways = [
            f"{high} {least} or more" if high and least else f"a higher {high}" if high else "",
            f"{low} {most} or less" if low and most else f"a lower {low}" if low else "",
        ]
        return ", or ".join(way for way in ways if way)
    return ""


def _divides(m: re.Match[str], first: str, second: str) -> str:
    by = m["second_number"] or second or m["second"].strip()
    of = m["first_number"] or first or m["first"].strip()
    return " or ".join(
        way
        for way in (
            f"a {first} that {by} divides" if first else "",
            f"a {second} that divides {of}" if second else "",
        )
        if way
    )


def _flag(name: str, *, last: bool) -> str:
    """The flag that stands at one end of some words: `in align mode, block_size` ends with --block-size."""
    words = re.split(r"[ _-]+", name.strip().removeprefix("--"))
    known = flags()
    for length in range(len(words), 0, -1):
        part = words[-length:] if last else words[:length]
        flag = "--" + "-".join(part)
        if length > 1 and flag in known:
            return flag
    return ""
