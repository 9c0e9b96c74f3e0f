"""What an image's name says of the vLLM inside: whether it is vLLM's server at all, which version, for which chips.

Only names are read, nothing is pulled. A version that the name does not carry stays unknown (None): what is said
of an unknown version is hedged elsewhere. It judges nothing.
"""

from __future__ import annotations

import re

from seawall.engines.vllm.versions import Version

_SERVER = re.compile(r"^(vllm|rhaiis)(?![a-z])|(^|[-_])vllm([-_.]|$)")
_NOT_THE_SERVER = re.compile(
    r"router|gateway|operator|proxy|controller|sidecar|mock|simulat|(^|[-_])sim([-_]|$)|omni|bench|exporter|downloader"
    r"|dashboard|playground|semantic|production-stack|runtime|scaler"
)
_OWN_NUMBERS = re.compile(
    r"(^|/)(lmcache|llm-d|ai-dynamo|kserve|opea|modh|openvino|intelanalytics)/|vllm-runtime|llm-scaler|huggingfaceserver|rhaiis"
)
"""Images that count versions of their own in the tag: 0.3 of these is not vLLM 0.3."""
_NAMED = re.compile(r"vllm[-_:]?(?:openai[-_])?v?(0\.\d{1,2})(?!\d)")
_PLAIN = re.compile(r"(?:^|[-_])v?(0\.\d{1,2})(?:\.\d+)?(?=$|[-_.+a-z])")
_OTHERS = re.compile(
    r"(nixl|lmcache|torch|cuda|cu|rocm|py|python|flashinfer|ray|ubuntu|triton|aiter|deepep|mooncake|cann)[-_]?v?\d[\w.]*"
)
_CHIPS = (
    ("cpu", re.compile(r"(^|[-_/:.])cpu([-_:.@]|$)|vllm-cpu")),
    ("amd", re.compile(r"rocm|(^|[-_/])amd([-_/:]|$)")),
    ("tpu", re.compile(r"(^|[-_/:])tpu")),
    ("intel", re.compile(r"xpu|ipex|llm-scaler|gaudi|hpu|habana")),
    ("ascend", re.compile(r"ascend|npu")),
    ("neuron", re.compile(r"neuron")),
)
_DATED = re.compile(r"(?<!\d)(20[2-4]\d)[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12]\d|3[01])(?!\d)")
_AMERICAN = re.compile(r"(?<!\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(20[2-4]\d)(?!\d)")
"""`open-mi300-08052025`: the fifth of August."""
_NEWEST_ON: tuple[tuple[str, Version], ...] = (
    ("20240915", (0, 6)), ("20250127", (0, 7)), ("20250318", (0, 8)), ("20250528", (0, 9)), ("20250724", (0, 10)),
    ("20251002", (0, 11)), ("20251203", (0, 12)), ("20260101", (0, 13)), ("20260301", (0, 16)), ("20260501", (0, 20)),
    ("20260701", (0, 24)), ("20260901", (0, 28)), ("20261101", (0, 32)),
)  # fmt: skip
"""Day -> the newest vLLM on it (days of its releases on PyPI)."""
MOVING = ("", "latest", "nightly", "main", "dev", "stable")
"""Tags that name another image on another day."""


def split(image: str) -> tuple[str, str]:
    """(name with its registry, tag) of an image; a digest is cut off."""
    bare = image.split("@", 1)[0]
    head, slash, last = bare.rpartition("/")
    name, _, tag = last.partition(":")
    return head + slash + name, tag


def image_version(image: str) -> Version | None:
    """The vLLM version that an image's name carries; None when it carries none, or one of somebody else's."""
    name, tag = split(image.lower())
    named = _NAMED.search(tag) or _NAMED.search(name)
    if named:
        return _version(named[1])
    if "vllm" not in name.rsplit("/", 1)[-1] or _OWN_NUMBERS.search(name):
        return None
    plain = _PLAIN.search(_OTHERS.sub("", tag))
    return _version(plain[1]) if plain else None


def newest_inside(image: str) -> Version | None:
    """The newest vLLM that an image can hold whose tag carries a day (`20250312_0916`, `nightly_main_20251119`)."""
    tag = split(image)[1]
    found, american = _DATED.search(tag), _AMERICAN.search(tag)
    if found is None and american is None:
        return None
    day = "".join(found.groups()) if found else f"{american[3]}{american[1]}{american[2]}" if american else ""
    return next((version for until, version in _NEWEST_ON if day <= until), None)


def _version(text: str) -> Version:
    major, minor = text.split(".")
    return int(major), int(minor)


def is_vllm_image(image: str) -> bool:
    """True for images whose entrypoint or contents are vLLM's own server."""
    name, _ = split(image.lower())
    last = name.rsplit("/", 1)[-1]
    return bool(_SERVER.search(last)) and not is_stand_in(image)


def is_stand_in(image: str) -> bool:
    """True for mocks, simulators, routers, benchmarks and vllm-omni: they carry the name and are another program."""
    name, tag = split(image.lower())
    last = name.rsplit("/", 1)[-1]
    if re.search(
        r"(^|[-_/])(mock|sim|simulator|omni)([-_/:]|$)|mock|simulat|inference-sim|[-_]omni", f"{last}:{tag}"
    ):
        return True
    return "vllm" in last and "vllm-runtime" not in last and bool(_NOT_THE_SERVER.search(last))


_NOT_ROOT = re.compile(
    r"(^|/)rayproject/|registry\.redhat\.io/|(^|/)(modh|opendatahub|rh-aiservices[\w-]*)/|huggingfaceserver|ai-dynamo/|/nim/|openshift"
)


def runs_as_root(image: str) -> bool | None:
    """Whether an image's own user is root: vLLM's are, some are known not to be; None for those that nobody knows."""
    name, _ = split(image.lower())
    if _NOT_ROOT.search(name):
        return False
    return True if is_official(image) or is_vllms_own(image) or name.startswith("rocm/vllm") else None


def is_official(image: str) -> bool:
    """True for vLLM's own server image and mirrors of it: their entrypoint is `vllm serve`."""
    name, _ = split(image.lower())
    ours = name.rsplit("/", 1)[-1] in ("vllm-openai", "vllm-openai-rocm", "vllm-openai-cpu")
    return ours and not _OWN_NUMBERS.search(name)


def chips(image: str) -> str:
    """`cpu`, `amd`, `tpu`, `intel`, `ascend`, `neuron`; empty when nothing says otherwise (NVIDIA, or unknown)."""
    bare = image.lower().split("@", 1)[0]
    return next((name for name, pattern in _CHIPS if pattern.search(bare)), "")


def is_vllms_own(image: str) -> bool:
    """True for images that vLLM publishes, and for images of other names: not for forks that add flags of their own."""
    name, _ = split(image.lower())
    last = name.rsplit("/", 1)[-1]
    return last in ("vllm-openai", "vllm-openai-rocm", "vllm-openai-cpu", "vllm-tpu", "vllm-cpu-release-repo")
