"""What a dead process's own log says of its death, as a cause: a message that is known, or an exception by its place.

Pure. Forbidden here: to look at anything but the log and the way the container ended.
"""

from __future__ import annotations

import re
from dataclasses import replace

from seawall.diagnose.cause import Cause, CauseCertainty
from seawall.diagnose.deaths import BY_SIGNAL
from seawall.diagnose.facts import Object, whole
from seawall.engines.vllm.backends import cure_of_backends
from seawall.engines.vllm.bounds import bounds_in
from seawall.engines.vllm.parameters import cure_of_parameter
from seawall.engines.vllm.parts import FITS, part_before, part_of
from seawall.engines.vllm.places import Place, package_of, place_of
from seawall.engines.vllm.raised import Raised, advice_in, option_in, options_in, refused_options
from seawall.engines.vllm.signs import Said
from seawall.engines.vllm.versions import find_flag, like_flag

_OF_A_PART = ("engine/cuda-fault", "engine/kernel", "engine/unsupported-gpu", "engine/cuda-graphs")
"""Faults on the GPU, whose first remedy is to go without the part whose kernels failed."""


def at_fault(cause: Cause, raised: Raised | None, log: str) -> Cause:
    """A fault on the GPU with the part whose kernels the log was in, and how to go without these."""
    if cause.id not in _OF_A_PART:
        return cause
    part = part_of(raised) if raised is not None else None
    was = "it was"
    if part is None and cause.id == "engine/cuda-fault":
        fault = cause.evidence[-1].removeprefix("log: ")[-60:]
        part, was = part_before(log, max(log.find(fault), 0)), "the last that wrote before was"
    if part is None or part.without in cause.do:
        return cause
    return replace(cause, what=f"{cause.what}; {was} {part.name}", do=f"{part.without}; {cause.do}")


def vague(said: Said, raised: Raised) -> bool:
    """Whether the place of the exception says more than the sign: of a death, or of a refusal in a part of its own."""
    if said.sign.id == "engine/died":
        return True
    place = place_of(raised)
    refusal = said.sign.id == "engine/bad-config" and not said.sign.certain
    return refusal and place is not None and place.id in _PARTS_OF_THEIR_OWN


_PARTS_OF_THEIR_OWN = (
    "engine/quantization",
    "engine/kernel",
    "engine/lora",
    "engine/speculative",
    "engine/connector",
)


def _asked(words: str, otherwise: str) -> str:
    """What to do about a refusal: the numbers that its options need, the flags that it names, or else `otherwise`."""
    backends = cure_of_backends(words)
    if backends:
        return backends
    bounds = bounds_in(words)
    if bounds:
        return f"{bounds}; seawall lint and seawall plan check the same before"
    named = (options_in(words) or refused_options(words))[:3]
    advice = advice_in(words)
    if advice:
        return f"as it says itself: {advice}; seawall lint and seawall plan check the same before"
    return (
        f"change {' or '.join(named)} as the message says (or leave it out); where it is as it should be, a "
        f"newer vLLM image. "
        "seawall lint and seawall plan check the same before"
        if named
        else otherwise
    )


def from_exception(subject: str, end: Object, raised: Raised, fact: str, log: str, init: str) -> Cause:
    """An exception that no sign knows, in its own words. `init`: the init container that it ended; empty: none."""
    by_signal = whole(end.get("exitCode")) in BY_SIGNAL
    place = None if init else place_of(raised)
    option = "" if init else option_in(raised.line)
    evidence = (fact, f"log: {raised.line}", *((f"raised in {raised.files[-1]}",) if raised.files else ()))
    certainty: CauseCertainty = "possible" if by_signal else "likely"
    if option and not by_signal and (place is None or place.id in _OR_REFUSED):
        return Cause(
            id="engine/bad-config",
            certainty=certainty,
            subject=subject,
            weight=80,
            what=f"vLLM refuses its configuration: {raised.line}",
            evidence=evidence,
            do=_asked(_whole(raised, log), option),
        )
    if place is not None:
        package = package_of(raised)
        return Cause(
            id=place.id,
            certainty=certainty,
            subject=subject,
            weight=78,
            what=f"{place.what}{f' ({package})' if package else ''}: {raised.line}",
            evidence=evidence,
            do=_around(place, raised, log),
        )
    return _unplaced(subject, raised, evidence, certainty, init)


_OR_REFUSED = ("engine/bad-config", "engine/bug", "engine/not-implemented", "weights/other-format")
"""Places whose exceptions are refusals of an option when they name one: models check options while they are made."""


def _whole(raised: Raised, log: str) -> str:
    """The exception's words, not shortened: what a refusal asks for may stand at the end of a long line."""
    line = log[: raised.end].rstrip().rpartition("\n")[2]
    at = line.find(raised.line[:40])
    return line[at:] if at >= 0 else raised.line


def _around(place: Place, raised: Raised, log: str) -> str:
    """How to go on: without the part that failed where it can be left out, else what its place's failures ask for."""
    if place.id == "engine/bad-config":
        return _asked(_whole(raised, log), place.do)
    advice = advice_in(log[raised.end - len(raised.line) - 1 : raised.end + 600].split("\n\n")[0])
    if advice:
        return f"as it says itself: {advice}; {place.do}"
    key = cure_of_parameter(raised)
    if key:
        return f"{key}; {place.do}"
    fits = _fitting(raised) if place.id == "engine/import" else ""
    if fits:
        return f"{fits}; {place.do}"
    part = part_of(raised)
    return f"{part.without}; {place.do}" if part is not None and part.without not in place.do else place.do


_OF_TRANSFORMERS = re.compile(
    r"Tokenizer|PreTrained|(?:Image|Video|Feature)\w*Processor|\w+Config\b|[Tt]ransformers"
)
"""Names of classes that Transformers moves and renames."""


def _fitting(raised: Raised) -> str:
    """Which release of the package that raised, or of the one that it called in vain, goes with this engine."""
    known = FITS.get(package_of(raised), "")
    if known:
        return known
    about = FITS["Transformers"] if _OF_TRANSFORMERS.search(raised.line) else ""
    found = [
        m[1]
        for f in raised.files
        if (m := re.search(r"(?:site|dist)-packages/([a-z_0-9]+)", f)) and m[1] != "vllm"
    ]
    package = found[-1] if found else ""
    return about or (
        f"{package}, or a package that it calls, is newer than this vLLM was released with: pip list in vLLM's "
        f"own image of "
        f"that version shows the pair; pin it below, or a newer vLLM image"
        if package
        else ""
    )


def _unplaced(
    subject: str, raised: Raised, evidence: tuple[str, ...], certainty: CauseCertainty, init: str
) -> Cause:
    """An exception of which not even the place is known."""
    which = f" -c {init}" if init else ""
    part = part_of(raised)
    logs = f"kubectl logs {subject.removeprefix('Pod/')}{which} --previous"
    own = any("/vllm/" in file for file in raised.files)
    advice = advice_in(raised.line)
    return Cause(
        id="init/crash" if init else "engine/exception",
        certainty="certain" if init and certainty == "likely" else certainty,
        subject=subject,
        weight=90 if init else 75,
        what=f"the init container {init} ends with {raised.line}"
        if init
        else f"it ends with {raised.line}{f', {part.name}' if part else ''}",
        evidence=evidence,
        do=(f"{part.without}; " if part else "")
        + (f"as it says itself: {advice}; " if advice else "")
        + f"{logs}, from the first ERROR on: the catalogue does not know it"
        + (f"; {_UNKNOWN}" if own else ""),
    )


_UNKNOWN = (
    "another vLLM image (newer first), and the options that this start adds, taken out one by one, tell more"
)
"""What is left to do about vLLM's own exceptions that nobody has described yet."""


def from_sign(subject: str, end: Object, said: Said, fact: str, sure: bool) -> Cause:
    """What the log says it died of; of a process that was killed from outside, a line is a hint only."""
    by_signal = whole(end.get("exitCode")) in BY_SIGNAL and said.sign.id not in _KILLS
    return Cause(
        id=said.sign.id,
        certainty="certain" if sure and not by_signal else "likely",
        subject=subject,
        weight=said.sign.weight,
        what=said.what,
        evidence=(fact, f"log: {said.line}"),
        do=_instead(said)
        if said.sign.id == "engine/unknown-flag"
        else _asked(said.what, said.do)
        if said.sign.do.startswith("change what the message names")
        else said.do,
    )


def from_logged(died: Cause, logged: Raised | None) -> Cause:
    """A death of which the log holds no exception: by the first error that a part of vLLM wrote in its own words."""
    if logged is None:
        return died
    place = place_of(logged)
    part = part_of(logged)
    what = f"{place.what}: {logged.line}" if place else f"{died.what}; it is: {logged.line}"
    ways = [part.without if part else "", place.do if place else died.do]
    return replace(
        died,
        id=place.id if place else died.id,
        weight=72 if place else 45,
        what=what,
        evidence=(*died.evidence[:-1], f"log: {logged.line}"),
        do="; ".join(dict.fromkeys(way for way in ways if way)),
    )


def _instead(said: Said) -> str:
    """What to write for flags that vLLM had once."""
    asked = said.groups.get("flag", "")
    words = [w for w in asked.split() if w.startswith("-")] or [f"--{asked.replace('_', '-')}"]
    gone = [f for f in map(find_flag, words) if f is not None and (f.removed or f.instead)]
    told = "; ".join(
        f"{f.name} is gone"
        + (f" since {'.'.join(map(str, f.removed))}" if f.removed else "")
        + (f": write {f.instead}" if f.instead else "")
        for f in gone
    )
    like = [] if gone else [name for word in words[:2] for name in like_flag(word)]
    if like:
        told = f"vLLM has {', '.join(like[:4])}"
    return f"{told}; {said.do}" if told else said.do


_KILLS = ("engine/host-memory", "engine/shm", "gpu/xid")
"""Signs of what does end a process by a signal."""
