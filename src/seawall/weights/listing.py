"""What a source of weights offers: files with sizes, hashes where the source knows them, and ranged readers.

Every path that comes from a network passes `safe_path` here before anything is made of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

from seawall.errors import InputError, SourceError

MAX_FILES = 20_000
MAX_PATH = 1024
_BAD = re.compile(r"[\x00-\x1f\x7f\\:]")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib")

WeightsForm = Literal["hf", "mistral", "both"]
"""Which of two copies of the weights an engine loads, where a repository has both: Hugging Face's or Mistral's own."""
_MISTRAL = re.compile(r"consolidated[^/]*\.safetensors(\.index\.json)?")
_HF = re.compile(r"[^/]*\.safetensors(\.index\.json)?")
_ADAPTER = "adapter_model"

Read = Callable[[int, int], AbstractContextManager[Iterator[bytes]]]
"""(start, end) -> the bytes [start, end) in chunks. May yield fewer (the caller asks again) but never others."""


class Busy(Exception):
    """The source asked to come back later (429, 5xx, stall). `after_s` is its Retry-After, if any."""

    def __init__(self, why: str, after_s: float | None = None) -> None:
        super().__init__(why)
        self.after_s = after_s


class NoRanges(Exception):
    """The source answers ranged requests with the whole file: read it in one piece."""


@dataclass(frozen=True)
class RemoteFile:
    """One file of a source. `identity` changes when its content does (hash, ETag or revision)."""

    path: str
    size: int
    read: Read
    sha256: str | None = None
    git_sha1: str | None = None
    """Git blob id, all that a hub knows of small files."""
    identity: str = ""


@dataclass(frozen=True)
class Listing:
    """The files of one revision of a source."""

    source: str
    revision: str
    files: tuple[RemoteFile, ...]


def safe_path(path: str) -> str:
    """The path itself when it stays inside a directory on every system; SourceError otherwise."""
    parts = path.split("/")
    if (
        not path
        or len(path) > MAX_PATH
        or _BAD.search(path)
        or any(p in ("", ".", "..") or len(p.encode()) > 255 for p in parts)
        or parts[0] == ".seawall"
    ):
        raise SourceError(
            f"the source lists a file {path[:80]!r} that would leave the directory.",
            "Nothing was written. Do not trust this source.",
        )
    return path


def checked(listing: Listing, allow_pickle: bool) -> Listing:
    """The listing with only what a server needs, or an error that says why it cannot be used.

    Pickle weights are left out where safetensors exist and refused (unless asked for) where they do not.
    """
    files = list(listing.files)
    if len(files) > MAX_FILES:
        raise SourceError(
            f"{listing.source} lists {len(files)} files.", "Name a folder that holds one model."
        )
    for f in files:
        safe_path(f.path)
        if f.size < 0 or f.size > 2**50:
            raise SourceError(
                f"{listing.source} says that {f.path} has {f.size} bytes.", "Try another mirror."
            )
    names = [f.path for f in files]
    if len({n.casefold() for n in names}) != len(names):
        raise SourceError(f"{listing.source} lists the same file twice.", "Do not trust this source.")
    pickles = [f for f in files if f.path.lower().endswith(PICKLES)]
    tensors = [f for f in files if f.path.endswith((".safetensors", ".gguf"))]
    if pickles and not allow_pickle:
        if not tensors:
            raise InputError(
                f"{listing.source} has only pickle weights ({pickles[0].path}), which run code when loaded.",
                "Choose a safetensors revision, or set model.allowPickle / --allow-pickle if you trust it.",
            )
        files = [f for f in files if f not in pickles]
    if not files:
        raise SourceError(f"{listing.source} holds no file.", "Check the name and the revision.")
    return Listing(listing.source, listing.revision, tuple(sorted(files, key=lambda f: f.path)))


def one_form(listing: Listing, form: WeightsForm) -> tuple[Listing, tuple[RemoteFile, ...]]:
    """The listing with one copy of the weights, and the files of the other one that are left out.

    Mistral's repositories hold each weight twice: `consolidated*.safetensors` as its own tools read it (vLLM's
    `--load-format mistral`, and `auto` since it prefers them), and shards that `model.safetensors.index.json` names.
    vLLM loads one of them. A repository that has only one copy, or the other without a config, keeps what it has.
    """
    names = {f.path for f in listing.files}
    native = [f for f in listing.files if _MISTRAL.fullmatch(f.path)]
    shards = [
        f
        for f in listing.files
        if _HF.fullmatch(f.path) and f not in native and not f.path.startswith(_ADAPTER)
    ]
    if form == "both" or not all(
        any(f.path.endswith(".safetensors") for f in files) for files in (native, shards)
    ):
        return listing, ()
    left, config = (shards, "params.json") if form == "mistral" else (native, "config.json")
    if config not in names:
        return listing, ()
    kept = tuple(f for f in listing.files if f not in left)
    return Listing(listing.source, listing.revision, kept), tuple(left)
