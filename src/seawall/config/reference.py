"""The Fleet's reference page, made from the spec's own classes: python -m seawall.config.reference prints it.

A test compares the page with what this prints, so that it cannot drift.
"""

from __future__ import annotations

from seawall.config.explain import FieldHelp, every

HEAD = """# The Fleet, field by field

Made from the code (`python -m seawall.config.reference`); `seawall explain spec.scaling.target` prints the same in a
terminal, and `seawall schema` the JSON Schema for editors. What is left out has its default; "nothing" means planned,
or not wanted: `seawall plan` on a spec shows what was chosen and why. Durations are written `200ms`, `30s`, `5m`,
`1h30m`, sizes `8Gi`, tokens `16k` (16 x 1024).
"""


def page() -> str:
    """The whole page, as Markdown: one table for each mapping."""
    fields = every()
    tables: dict[str, list[FieldHelp]] = {}
    for f in fields:
        tables.setdefault(f.path.rpartition(".")[0] or "Fleet", []).append(f)
    about = {f.path: f.meaning for f in fields}
    parts = [HEAD]
    for path, rows in tables.items():
        parts.append(f"## {path}\n")
        if about.get(path):
            parts.append(f"{_cell(about[path])}\n")
        parts.append("| field | takes | default | meaning | example |\n|---|---|---|---|---|")
        parts += [_row(f) for f in rows]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _row(f: FieldHelp) -> str:
    name = f.path.rpartition(".")[2]
    example = f"`{f.example.replace('|', chr(92) + '|')}`" if f.example and not f.inner else ""
    return (
        f"| `{name}` | {_cell(f.kind)} | {_cell(f.default) or 'required'} | {_cell(f.meaning)} | {example} |"
    )


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    print(page(), end="")
