"""A bill of materials (CycloneDX) of the root that this runs in: Debian's packages, Python's, and the base.

The Containerfile runs it last, so that every image carries the bill of what is in it, whatever built it:

    python image_bill.py --base NAME@sha256:... --out /opt/seawall/bill.cdx.json

The standard library is all that it has. The same root gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import sysconfig
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any
from urllib.parse import quote

Component = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--base", required=True, help="the image that it was built on")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--root", type=Path, default=Path("/"))
    parser.add_argument("--packages", action="append", help="folders of Python's packages.  [this Python's]")
    asked = parser.parse_args()
    own = sysconfig.get_path(
        "purelib", vars={"base": sys.base_prefix}
    )  # what the base itself has, below a venv
    bill = bill_of(asked.root, asked.packages or [*sys.path, own], asked.base)
    asked.out.write_text(json.dumps(bill, indent=1) + "\n", "utf-8")


def bill_of(root: Path, packages: list[str], base: str) -> dict[str, Any]:
    """The bill as data."""
    system = os_release(root)
    of_python = {c["purl"]: c for c in python_packages(packages)}
    own = next((c for c in of_python.values() if c["name"] == "seawall"), {})
    parts = [*debian_packages(root, system), *of_python.values()]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {
                "type": "container",
                "bom-ref": "image",
                "name": "seawall",
                "version": own.get("version", ""),
            }
        },
        "components": [
            base_of(base),
            {
                "type": "operating-system",
                "bom-ref": "os",
                "name": system.get("ID", "unknown"),
                "version": system.get("VERSION_ID", ""),
            },
            *sorted(parts, key=lambda c: str(c["purl"])),
        ],
    }


def base_of(base: str) -> Component:
    name, _, digest = base.partition("@")
    found: Component = {
        "type": "container",
        "bom-ref": "base",
        "name": name,
        "version": digest or "not pinned",
    }
    if digest.startswith("sha256:"):
        found["hashes"] = [{"alg": "SHA-256", "content": digest.partition(":")[2]}]
    return found


def os_release(root: Path) -> dict[str, str]:
    """/etc/os-release (freedesktop.org's form)."""
    file = root / "etc" / "os-release"
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines) if value}


def debian_packages(root: Path, system: dict[str, str]) -> Iterator[Component]:
    """What dpkg has installed. Images without a shell keep each package's words in a file of its own."""
    status = root / "var" / "lib" / "dpkg" / "status"
    files = [status, *sorted((status.parent / "status.d").glob("*"))]
    distro = f"{system.get('ID', 'debian')}-{system.get('VERSION_ID', '')}".rstrip("-")
    for file in files:
        text = file.read_text("utf-8", "replace") if file.is_file() else ""
        for paragraph in text.split("\n\n"):
            said = dict(re.findall(r"(?m)^(Package|Version|Architecture|Status): (.*)$", paragraph))
            if "Package" not in said or not said.get("Status", "install ok installed").endswith(" installed"):
                continue
            name, version = quote(said["Package"], safe=""), quote(said["Version"], safe="")
            purl = f"pkg:deb/{system.get('ID', 'debian')}/{name}@{version}"
            purl += f"?arch={said.get('Architecture', 'all')}&distro={distro}"
            yield _library(said["Package"], said["Version"], purl)


def python_packages(folders: list[str]) -> Iterator[Component]:
    for found in distributions(path=folders):
        name = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
        part = _library(
            name, found.version, f"pkg:pypi/{quote(name, safe='')}@{quote(found.version, safe='')}"
        )
        if expression := _licence(found):
            part["licenses"] = [{"expression": expression}]
        yield part


def _library(name: str, version: str, purl: str) -> Component:
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _licence(found: Distribution) -> str:
    """Where a package says it as an SPDX expression."""
    return str(found.metadata.get("License-Expression") or "")


if __name__ == "__main__":
    main()
