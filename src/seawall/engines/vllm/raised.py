"""The exception that a log ends with, in its own words and with the place that raised it, for deaths that no sign
explains. Text in, text out.

A traceback is printed by every process that the error passes through: the first is the one that raised it, the later
ones say that another process died. Forbidden here: to say what an exception means (`messages/`, `places.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from seawall.engines.vllm.signs import SIGNS, Said, read, redacted
from seawall.engines.vllm.versions import flags


@dataclass(frozen=True)
class Raised:
    """One exception as the log has it."""

    line: str
    """`ValueError: ...`; of one without words, where it was raised: `AssertionError (scheduler.py:734: ...)`."""
    files: tuple[str, ...] = ()
    """Files of its traceback, the outermost first; none where the log holds no traceback of it."""
    start: int = 0
    """Where in the log its traceback begins, in characters."""
    end: int = 0
    """Where the line of the exception ends."""
    importing: bool = False
    """Whether an installed package was just being imported: it fits no other that is installed."""

    @property
    def name(self) -> str:
        return re.split(r"[:( ]", self.line, maxsplit=1)[0]


_PREFIX = re.compile(
    r"(?:.{0,100}?(?P<who>\([A-Z]\w{1,30}[^)\n]{0,60}\) )?(?:ERROR|CRITICAL) \d\d-\d\d [^\n\]]{0,120}\] ?"
    r"|(?:\[pod/\S{1,160}\] )?(?:\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-][\d:]+)? ?(?:std(?:out"
    r"|err) [FP] )?)?(?:\S{1,60} +\| )?"
    r"(?P<tag>\([^)\n]{1,80}\) ?)?(?:\S{0,20}\[rank\d+\]: ?)?(?:(?:ERROR|CRITICAL) [^\n\]]{0,140}\] ?)?)"
)
"""What stands before a log's line: a supervisor's mark, kubectl's or the runtime's, vLLM's process and level."""
_FRAME = re.compile(r'\s*File "(?P<file>[^"\n]{1,300})", line (?P<line>\d+)(?:, in (?P<name>\S+))?')
_NAMED = re.compile(r"(?P<name>(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:\(\w+\))?)(?:: ?(?P<text>.{0,400}))?$")
_EXCEPTION = re.compile(r"(?:Error|Exception|Failure|Exit|Interrupt|Warning|Timeout)(?:\(\w+\))?$")
_ECHO = re.compile(
    r"EngineDead|Engine core initialization failed|Engine process failed to start|Frontend process failed"
    r"|EngineCore (?:failed|encountered|died)|Worker failed with error|WorkerProc initialization failed"
    r"|ProcessRaisedException|CancelledError|ChildFailedError|RayActorError|ActorDiedError|KeyboardInterrupt"
    r"|SystemExit"
)
"""What other processes say of a death that was not theirs."""
_QUOTED = re.compile(r"Worker failed with error ['\"](.{5,300}?)['\"], please")
_HANDLED = "During handling of the above exception"
_CLUMSY = ("AttributeError", "NameError", "UnboundLocalError")
"""Exceptions that clean-up raises over the one that was told."""
_SAID = re.compile(
    r"^[^\n]{0,120}?(?:\b(?:ERROR|FATAL|CRITICAL)\b|\b[Ee]rror\b|\bfatal\b|\bpanic(?:ked)?\b)[: \]\t\"][^\n]{1,240}$"
    r"|^[EF]\d{4} \d\d:\d\d:\d\d\.\d+ +\d+ [\w.-]+:\d+\] [^\n]{1,300}$",
    re.M,
)


@dataclass
class _Open:
    """A traceback that is being read."""

    start: int
    files: list[str] = field(default_factory=list)
    at: str = ""
    said: str = ""
    modules: list[bool] = field(default_factory=list)
    """True for each file whose own top level ran: it was being imported."""

    @property
    def importing(self) -> bool:
        """Whether one of the last frames is the top level of an installed package."""
        last = list(zip(self.files, self.modules, strict=True))[-4:]
        return any(top and re.search(r"(?:site|dist)-packages/", file) for file, top in last)


def exception(text: str) -> Raised | None:
    """The first exception that is no echo, of the process that raised it; None when there is none."""
    found = list(_exceptions(text))
    if not found:
        return _repeated(text)
    first = found[0]
    for later in found[1:]:
        if _HANDLED not in text[first.start : later.start] or later.name in _CLUMSY:
            break
        first = replace(later, start=first.start)
    return first


def _repeated(text: str) -> Raised | None:
    """What another process repeats of an exception, where the log no longer holds the exception itself."""
    m = _QUOTED.search(text)
    return (
        Raised(redacted(f"RuntimeError: {' '.join(m[1].split())}"[:240]), (), m.start(), m.end())
        if m
        else None
    )


def raised(text: str) -> str:
    """The words of `exception`; empty when there is none."""
    first = exception(text)
    return first.line if first else ""


_REACH = 1500
"""Characters behind an exception's line that may belong to its words: pydantic and the hub write several lines."""


def explains(said: Said, text: str, raised: Raised) -> bool:
    """Whether the sign is the only explanation that a log holds: no exception beside it that no sign knows.

    A line far from the exception that ended a process may be a retry, a warning, or of an older life."""
    around = text[raised.start : raised.end + _REACH]
    flags_ = re.IGNORECASE | re.MULTILINE
    return bool(re.search(said.sign.pattern, around, flags_)) or any(
        re.search(sign.pattern, raised.line, flags_) for sign in SIGNS
    )


def nearer(said: Said, text: str, raised: Raised) -> Said:
    """The sign that an exception's own words show, before one of a line elsewhere: a retry, or an older life.

    Signs that count in warnings, too (NCCL's first, a driver that is too old), explain exceptions from afar."""
    around = text[raised.start : raised.end + _REACH]
    if said.sign.any_level or re.search(said.sign.pattern, around, re.IGNORECASE | re.MULTILINE):
        return said
    own = read(around)
    return own if own is not None and own.sign.id != "engine/died" else said


_LOGGED = re.compile(
    r"(?:ERROR|CRITICAL) \d\d-\d\d [\d:.]{8,15} \[(?P<file>[\w./]{1,120}\.py):\d+\] (?P<words>[^\s\n][^\n]{7,300})$",
    re.M,
)
_FRAMES = re.compile(r"Traceback|File \"|WorkerProc (?:failed|hit)|\^{3}|[A-Za-z_.]+(?:Error|Exception)\b")


def first_logged(text: str) -> Raised | None:
    """The first error that a module of vLLM logged in words of its own, without a traceback; None when there is "
    "none."""
    for m in _LOGGED.finditer(text):
        if not _ECHO.search(m["words"]) and not _FRAMES.match(m["words"]):
            words = redacted(" ".join(m["words"].split())[:240])
            return Raised(words, (f"/vllm/{m['file']}",), m.start(), m.end())
    return None


def _exceptions(text: str) -> Iterator[Raised]:
    """Exceptions in the order of the log. Processes that write at the same time are told apart by their names."""
    open_: dict[str, _Open] = {}
    at = 0
    for whole in text.splitlines(keepends=True):
        prefix = _PREFIX.match(whole)
        who = (prefix["who"] or prefix["tag"] or "").strip() if prefix else ""
        line = whole[prefix.end() if prefix else 0 :].rstrip()
        start, at = at, at + len(whole)
        now = open_.get(who)
        frame = _FRAME.match(line)
        if line.lstrip("| +").startswith("Traceback (most recent call last)"):
            open_[who] = _Open(start)
        elif now is not None and frame is not None:
            now.files.append(frame["file"])
            now.modules.append(frame["name"] == "<module>")
            now.at, now.said = f"{_short(frame['file'])}:{frame['line']}", ""
        elif now is not None and (not line or line[0] in " \t|^~"):
            words = line.strip(" ^~|")
            now.said = now.said or words
        else:
            open_.pop(who, None)
            one = _read(line, now)
            if one is not None:
                yield Raised(
                    one,
                    tuple(now.files) if now else (),
                    now.start if now else start,
                    at,
                    importing=now is not None and now.importing,
                )


def _read(line: str, traceback: _Open | None) -> str | None:
    """An exception's line in its own words; None where it is none, or an echo."""
    named = _NAMED.match(line)
    if named is None or _ECHO.search(line):
        return None
    words = (named["text"] or "").strip()
    ends = traceback is not None and bool(traceback.files)
    if not (ends or (words and _EXCEPTION.search(named["name"]))):
        return None
    name = (
        named["name"].rsplit(".", 1)[-1]
        if "(" not in named["name"]
        else named["name"].split("exceptions.")[-1]
    )
    if not words and traceback is not None:
        place = f"{traceback.at}: {traceback.said}" if traceback.said else traceback.at
        return redacted(f"{name} ({place})"[:240])
    return redacted(" ".join(f"{name}: {words}".rstrip(": ").split())[:240])


def _short(path: str) -> str:
    """A file by its package: `vllm/v1/core/sched/scheduler.py`."""
    return re.sub(r"^.*(?:site|dist)-packages/", "", path)


def last_error(text: str) -> str:
    """The last line that calls itself an error, of a program that is no Python or hides its tracebacks."""
    found = [m[0] for m in _SAID.finditer(text) if not _ECHO.search(m[0])]
    return redacted(" ".join(found[-1].split())[:240]) if found else ""


def options_in(words: str) -> list[str]:
    """The flags of `vllm serve` that a refusal names by their fields (max_num_batched_tokens), in its order."""
    lower = words.lower()
    found = [n for n in flags() if n.count("-") >= 4 and n.removeprefix("--").replace("-", " ") in lower]
    for word in re.findall(r"(?<![\w/.])(?:--)?[a-z]+(?:[_-][a-z0-9]+)+\b", words):
        name = f"--{str(word).removeprefix('--').replace('_', '-')}"
        if name in flags() and name not in found:
            found.append(name)
    return found


_CALLED = (
    (r"kv[- ]cache(?! (?:manager|memory|block|size))|kv_cache_dtype", "--kv-cache-dtype"),
    (r"attention backend|AttentionBackend|Selected backend", "--attention-backend"),
    (r"MoE backend|moe_backend", "--moe-backend"),
    (r"prefix cach", "--enable-prefix-caching"),
    (r"chunked prefill", "--enable-chunked-prefill"),
    (r"expert parallel", "--enable-expert-parallel"),
    (r"tensor parallel", "--tensor-parallel-size"),
    (r"pipeline parallel", "--pipeline-parallel-size"),
    (r"data parallel", "--data-parallel-size"),
    (r"speculative|draft model", "--speculative-config"),
    (r"\bLoRA\b", "--enable-lora"),
    (r"async(?:hronous)? scheduling", "--async-scheduling"),
    (r"block[ _]size", "--block-size"),
    (r"context length|model(?:'s)? max(?:imum)? len", "--max-model-len"),
    (r"\bpool(?:ing|er)\b", "--runner"),
    (r"KV (?:connector|transfer)", "--kv-transfer-config"),
)
"""What refusals call an option of which they do not write the name, and its flag."""
_REFUSES = re.compile(
    r"only (?:supports?|available|works)|not (?:yet )?(?:supported|implemented|valid|compatible|allowed)"
    r"|n[o']t support"
    r"|unsupported|incompatible|requires?\b|must (?:be|not)|cannot be used|, (?:but )?got \S",
    re.I,
)


def refused_options(words: str) -> list[str]:
    """Flags that a refusal speaks of, by their names or by what people call them; none where it refuses nothing."""
    if not _REFUSES.search(words):
        return []
    return options_in(words) or [flag for pattern, flag in _CALLED if re.search(pattern, words, re.I)]


_ADVICE = re.compile(
    r"(?:^|[.;,:\]] +|\n)(?P<advice>(?:Please|Try|Consider|We recommend|It is recommended|You (?:can|may|need to"
    r"|should)|Use|Set"
    r"|Pass|Increase|Decrease|Reduce|Lower|Disable|Enable|Specify|Add|Remove|Upgrade|Downgrade|Install"
    r"|Make sure)\b[^\n]{12,240})"
)
_NO_ADVICE = re.compile(
    r"issue|github\.com|see stack|stack trace|check the log|root cause|report|contact|refer to", re.I
)


def advice_in(words: str) -> str:
    """What a message itself tells to do; empty where it tells nothing, or only where to look or to complain."""
    for m in _ADVICE.finditer(words):
        told = m["advice"].split(" [type=")[0].strip()
        if not _NO_ADVICE.search(told):
            return " ".join(told.split()).rstrip(".,;")
    return ""


def option_in(words: str) -> str:
    """The first flag that a refusal names; empty: none, or no refusal.

    Configuration is refused with ValueError, AssertionError or NotImplementedError.
    """
    if not words.startswith(("ValueError", "AssertionError", "NotImplementedError")):
        return ""
    return next(iter(options_in(words) or refused_options(words)), "")
