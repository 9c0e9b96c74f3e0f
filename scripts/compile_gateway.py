"""Makes the compiled form of the gateway's hot path for the environment that runs this (seawall.gateway.compiled).

    .venv/bin/python scripts/compile_gateway.py [--into FOLDER]

Nothing to do when it is there already. Needs a C compiler and Python's headers; without them, or when it fails, it
says so and ends well, for the gateway then runs as plain Python. mypyc lives for that minute in an environment of its
own, pinned by hash.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "compile.txt"
OPTIMIZE = "1"
"""-O2 takes a half longer to compile, and no benchmark saw a difference."""


def missing() -> str:
    """What a compilation lacks here; empty: nothing."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        return f"a C compiler ({compiler})"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    return "" if header.exists() else f"Python's headers ({header})"


def main() -> None:
    from seawall.gateway import compiled

    target = compiled.folder()
    if target.is_dir():
        return
    if lacks := missing():
        print(
            f"the gateway stays plain Python, at about twice the CPU per request: this machine has no {lacks}"
        )
        return
    print(f"compiling the gateway's hot path ({len(compiled.MODULES)} modules, half a minute)", flush=True)
    try:
        compile_into(target)
    except subprocess.CalledProcessError as e:
        print(f"{e.stdout}{e.stderr}\nit failed: the gateway stays plain Python", file=sys.stderr)
        return
    for old in target.parent.iterdir():
        if old != target and not old.name.startswith(
            tempfile.gettempprefix()
        ):  # that is another one, at work
            shutil.rmtree(old, ignore_errors=True)


def compile_into(target: Path) -> None:
    """The compiled form for the Python that runs this, as a new folder. Raises CalledProcessError."""
    from seawall.gateway import compiled

    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as work:
        python = make_environment(Path(work) / "env")
        sources = [f"{module.replace('.', '/')}.py" for module in compiled.MODULES]
        argv = [python, __file__, "--build", work, sys.executable, *sources]
        subprocess.run(argv, cwd=compiled.ROOT, capture_output=True, text=True, check=True)
        (Path(work) / "made").rename(target)


def make_environment(where: Path) -> str:
    """-> its Python."""
    import uv

    env = {**os.environ, "VIRTUAL_ENV": str(where)}
    for args in (["venv", "--python", sys.executable, where], ["pip", "sync", "--require-hashes", LOCK]):
        argv = [uv.find_uv_bin(), "--quiet", *map(str, args)]
        subprocess.run(argv, env=env, capture_output=True, text=True, check=True)
    return str(where / "bin/python")


def build(work: Path, executable: str, sources: list[str]) -> None:
    """Runs in the compiler's own environment, in the folder that holds the package. `executable`: the Python whose
    packages the sources import."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    options = [f"--config-file={ROOT / 'pyproject.toml'}", f"--python-executable={executable}"]
    extensions = mypycify(
        [*options, f"--cache-dir={work / 'mypy'}", *sources],
        opt_level=OPTIMIZE,
        debug_level="0",
        multi_file=True,
        target_dir=str(work / "c"),
        group_name="seawall",
    )
    command = build_ext(Distribution({"name": "seawall-compiled", "ext_modules": extensions}))
    command.build_lib, command.build_temp = str(work / "made"), str(work / "o")
    command.ensure_finalized()
    command.run()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--build"]:
        build(Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
    elif sys.argv[1:2] == ["--into"]:
        compile_into(Path(sys.argv[2]).resolve())
    else:
        main()
