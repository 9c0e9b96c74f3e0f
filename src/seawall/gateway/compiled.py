"""The gateway's hot path in compiled form, where it has been made: about half the CPU per request.

`scripts/compile_gateway.py` has mypyc turn MODULES into machine code, in a folder of this environment that is named
after their sources. It is a cache, as `.pyc` files are: whoever changes a source runs plain Python until it is made
anew, and SEAWALL_COMPILED=0 does without. Both forms are one code, and the same tests run on both.

What compiled code must keep to is in decision 24. Only the standard library is imported here: this comes first.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds the package."""
CARRIED = ROOT / "seawall" / "_compiled"
"""What a wheel for one Python and platform brings along (scripts/dist.py): its sources do not change."""
GATEWAY = (
    "edge.budget edge.caller edge.client_side edge.http2 edge.http2_frames edge.http2_stream edge.record edge.request "
    "edge.sink exchange.accepted exchange.exchange exchange.judge exchange.lane exchange.seam intake.app "
    "intake.asking intake.carry intake.forms intake.headers intake.manners intake.means intake.peek memory "
    "replicas.upstream tell.audit tell.ended tell.stats tell.tenants wire"
)
ROUTE = "admit attempt breaks cost desk lease meter pick poison prefix refusal scan sse"
RESUME = "events onward policy recording replay request session stream tape tokens typed ways"
MODULES = (
    *(f"seawall.gateway.{name}" for name in GATEWAY.split()),
    *(f"seawall.decide.route.{name}" for name in ROUTE.split()),
    *(f"seawall.decide.route.resume.{name}" for name in RESUME.split()),
)
"""Compiled as one group, in which calls and attributes are bound at once."""
READ = ("seawall/gateway", "seawall/decide/route", "seawall/domain")
"""Rooms in which the compiler looked up types: a change anywhere in them asks for a new form."""


def folder() -> Path:
    """Where the form of the present sources for this interpreter is, or would be."""
    digest = hashlib.sha256(f"{sys.version} {sysconfig.get_platform()}".encode())
    for room in READ:
        for source in sorted((ROOT / room).rglob("*.py")):
            digest.update(f"{source.relative_to(ROOT)}\0".encode() + source.read_bytes())
    return Path(sys.prefix) / "lib" / "seawall-compiled" / digest.hexdigest()[:16]


def use() -> bool:
    """From now on MODULES are imported in their compiled form. False: there is none, or SEAWALL_COMPILED=0 is set."""
    if os.environ.get("SEAWALL_COMPILED") == "0":
        return False
    finder = Finder(CARRIED)
    if not finder.finds:
        made = folder()
        if not made.is_dir():
            return False
        finder = Finder(made)
    sys.meta_path.insert(0, finder)
    return True


def active() -> bool:
    """This process runs the compiled form."""
    return any(isinstance(finder, Finder) for finder in sys.meta_path)


class Finder:
    """Finds extension modules below a folder by their dotted names. A meta path finder (importlib.abc)."""

    def __init__(self, made: Path) -> None:
        files = made.rglob(f"*{sysconfig.get_config_var('EXT_SUFFIX')}")
        self.finds = {".".join((*f.relative_to(made).parent.parts, f.name.split(".")[0])): f for f in files}

    def find_spec(self, name: str, path: Sequence[str] | None, target: object = None) -> ModuleSpec | None:
        file = self.finds.get(name)
        return spec_from_file_location(name, file) if file is not None else None
