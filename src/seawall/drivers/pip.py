"""What pip on this machine was told about mirrors and wheel folders, so that uv can be told the same.

uv does not read pip's configuration. Nothing is installed here, and no index has a default here: without
any setting, uv uses its own.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PipSettings:
    """pip's `find-links`, `index-url` and `extra-index-url`."""

    find_links: tuple[str, ...] = ()
    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()

    def uv_args(self) -> list[str]:
        """The same settings as flags of `uv pip install`."""
        args = [a for link in self.find_links for a in ("--find-links", link)]
        if self.index_url:
            args += ["--index-url", self.index_url]
        return args + [a for url in self.extra_index_urls for a in ("--extra-index-url", url)]

    def wheels(self, prefix: str) -> list[Path]:
        """The wheels whose file names start with `prefix` in the local find-links folders."""
        folders = [Path(link.removeprefix("file://")) for link in self.find_links]
        return [
            w for f in folders if f.is_dir() for w in sorted(f.glob("*.whl")) if w.name.startswith(prefix)
        ]


def settings(env: Mapping[str, str] = os.environ) -> PipSettings:
    """Environment first, then the user's, then the system's configuration files, as pip reads them."""
    found: dict[str, str] = {}
    for path in _files(env):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, "utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue
        for section in ("global", "install"):
            if parser.has_section(section):
                found |= {k.replace("_", "-"): v for k, v in parser.items(section)}
    for key in ("find-links", "index-url", "extra-index-url"):
        if value := env.get("PIP_" + key.replace("-", "_").upper()):
            found[key] = value
    return PipSettings(
        find_links=tuple(found.get("find-links", "").split()),
        index_url=None if env.get("UV_INDEX_URL") or env.get("UV_DEFAULT_INDEX") else found.get("index-url"),
        extra_index_urls=tuple(u for u in found.get("extra-index-url", "").split() if not _local_mirror(u)),
    )


def _local_mirror(url: str) -> bool:
    """A file:// mirror of a part of an index: uv would take a package's versions from it alone."""
    return url.startswith("file://")


def _files(env: Mapping[str, str]) -> list[Path]:
    if env.get("PIP_CONFIG_FILE") == os.devnull:
        return []
    home = Path(env.get("HOME", "/nonexistent"))
    config = Path(env.get("XDG_CONFIG_HOME") or home / ".config")
    xdg = [Path(d) / "pip/pip.conf" for d in (env.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":")]
    paths = [*reversed(xdg), Path("/etc/pip.conf"), home / ".pip/pip.conf", config / "pip/pip.conf"]
    if given := env.get("PIP_CONFIG_FILE"):
        paths.append(Path(given))
    return paths
