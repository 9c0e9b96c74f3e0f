"""Builds the documentation as a site with search: .venv/bin/python scripts/docs_site.py [--out site] [--stage-only]

The pages are those of docs/, which read well without it; what is added is the navigation, the README, CONTRIBUTING
and the changelog as pages, and the command line's reference, made from the commands themselves. mkdocs-material is
pinned in requirements/docs.txt. A link that leads nowhere fails the build.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tool_env
import yaml

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"(\[[^\]]*\])\(([^)#\s:]+)(#[^)]*)?\)")
PROJECT = {
    "README.md": "project/readme.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "CHANGELOG.md": "project/changelog.md",
}
"""Pages of the repository's root, and where they are on the site."""
ALSO = {
    "bench/RESULTS.md": "project/measured.md",
    "examples/opening-scene/README.md": "project/opening-scene.md",
}
ROOMS = {"how-to": "How to", "explanation": "Explanation", "reference": "Reference", "decisions": "Decisions"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "site")
    parser.add_argument("--stage-only", type=Path, metavar="FOLDER", help="only write mkdocs' input there")
    asked = parser.parse_args()
    stage: Path = asked.stage_only or ROOT / ".cache" / "site"
    shutil.rmtree(stage, ignore_errors=True)
    staged(stage)
    if asked.stage_only:
        return
    mkdocs = tool_env.locked(ROOT / ".cache" / "mkdocs", "docs.txt") / "mkdocs"
    argv = [
        mkdocs,
        "build",
        "--quiet",
        "--strict",
        "--config-file",
        stage / "mkdocs.yml",
        "--site-dir",
        asked.out.resolve(),
    ]
    if subprocess.run(argv, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}).returncode:
        sys.exit("the site is not complete: see above")
    count = sum(1 for _ in asked.out.rglob("*.html"))
    print(f"{count} pages in {asked.out}; look: python3 -m http.server -d {asked.out} 8080")


def staged(stage: Path) -> None:
    """mkdocs' input: pages with links that hold on the site, and its configuration."""
    pages = stage / "docs"
    for source in sorted((ROOT / "docs").rglob("*")):
        if source.is_file():
            name = source.relative_to(ROOT / "docs").as_posix()
            put(pages / name, source, f"docs/{name}")
    for name, at in (PROJECT | ALSO).items():
        put(pages / at, ROOT / name, name)
    (pages / "reference" / "cli.md").write_text(cli_page(), "utf-8")
    (stage / "mkdocs.yml").write_text(yaml.safe_dump(configuration(pages), sort_keys=False), "utf-8")


def put(at: Path, source: Path, name: str) -> None:
    at.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix == ".md":
        at.write_text(moved(source.read_text("utf-8"), name), "utf-8")
    else:
        shutil.copyfile(source, at)


def site_path(name: str) -> str | None:
    """Where a file of the repository is on the site; None: it is not there."""
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    return (PROJECT | ALSO).get(name)


def moved(text: str, name: str) -> str:
    """A page's text with the links of the site. A link to what is not on the site becomes its words."""
    here = Path(site_path(name) or "").parent

    def link(found: re.Match[str]) -> str:
        words, target, anchor = found[1], found[2], found[3] or ""
        whole = os.path.normpath(Path(name).parent / target)
        if (ROOT / whole).is_dir() and (ROOT / whole / "README.md").exists():
            whole = f"{whole}/README.md"
        there = site_path(whole)
        if there is None:
            return words[1:-1] if not words.startswith("[!") else ""
        return f"{words}({os.path.relpath(there, here)}{anchor})"

    return LINK.sub(link, text)


def title(page: Path) -> str:
    return next(
        (line[2:].strip() for line in page.read_text("utf-8").splitlines() if line.startswith("# ")),
        page.stem,
    )


def configuration(pages: Path) -> dict[str, Any]:
    nav: list[dict[str, Any]] = [{"All pages": "README.md"}, {"Tutorial": "tutorial.md"}]
    for folder, words in ROOMS.items():
        names = sorted(p.name for p in (pages / folder).glob("*.md"))
        nav.append({words: [{title(pages / folder / n): f"{folder}/{n}"} for n in names]})
    rest = [
        "promises.md",
        "comparison.md",
        "critique.md",
        "architecture.md",
        *PROJECT.values(),
        *ALSO.values(),
    ]
    nav.append({"Project": [{title(pages / n): n} for n in rest]})
    light, dark = (
        {"scheme": s, "media": f"(prefers-color-scheme: {m})"}
        for s, m in (("default", "light"), ("slate", "dark"))
    )
    return {
        "site_name": "Seawall",
        "docs_dir": "docs",
        "use_directory_urls": False,
        "theme": {
            "name": "material",
            "font": False,
            "palette": [light, dark],
            "features": ["content.code.copy", "navigation.indexes", "navigation.top", "search.suggest"],
        },
        "plugins": ["search"],
        "markdown_extensions": [
            "admonition",
            "tables",
            {"toc": {"permalink": True}},
            "pymdownx.highlight",
            "pymdownx.superfences",
        ],
        "validation": {"links": {"anchors": "warn", "not_found": "warn", "unrecognized_links": "info"}},
        "nav": nav,
    }


def cli_page() -> str:
    """Every command with its help, as it prints it."""
    from seawall.cli import COMMANDS, help_text

    parts = ["# The command line", "```text\n" + help_text().rstrip() + "\n```"]
    for name in COMMANDS:
        for path, text in helps([name]):
            parts += [
                f"{'#' * (len(path) + 1)} seawall {' '.join(path)}",
                "```text\n" + text.rstrip() + "\n```",
            ]
    return "\n\n".join(parts) + "\n"


def helps(path: list[str]) -> Iterator[tuple[list[str], str]]:
    """(words of the command, what `--help` prints), its own sub-commands included."""
    import importlib

    import click

    def walk(command: click.Command, words: list[str]) -> Iterator[tuple[list[str], str]]:
        with click.Context(
            command, info_name=" ".join(["seawall", *words]), max_content_width=100, terminal_width=100
        ) as context:
            yield words, command.get_help(context)
            if isinstance(command, click.Group):
                for sub in command.list_commands(context):
                    inner = command.get_command(context, sub)
                    if inner is not None and not inner.hidden:
                        yield from walk(inner, [*words, sub])

    module = importlib.import_module(f"seawall.cli.{path[0]}")
    yield from walk(module.command, path)


if __name__ == "__main__":
    main()
