"""Docstrings say what they describe: they begin with a noun (or a verb), and name nothing that is gone."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

SRC = Path(__file__).parents[2] / "src" / "seawall"
ROOT = SRC.parents[1]
RIDDLES = {"It", "Its", "Of", "For", "So", "To", "As", "By", "Not", "Told", "Like", "Does", "They", "Them"}
"""First words behind which a reader has to guess who is meant."""
LATER = ("gateway/", "decide/route/", "sim/", "operator/")
"""Rooms whose docstrings still have some. To be shortened."""
UPSTREAM = re.compile(r"vllm|transformers|torch|llama\.cpp|gguf", re.IGNORECASE)


def docstrings(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, text) of all strings that stand alone: of modules, classes, functions, and below names."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            yield node.lineno, node.value.value


def sources() -> dict[str, str]:
    return {p.relative_to(SRC).as_posix(): p.read_text("utf-8") for p in sorted(SRC.rglob("*.py"))}


def test_a_docstring_begins_with_what_it_describes() -> None:
    riddles = [
        f"{file}:{line}: {text.strip().splitlines()[0]}"
        for file, source in sources().items()
        if not file.startswith(LATER)
        for line, text in docstrings(ast.parse(source))
        if text.split() and text.split()[0].rstrip(",:") in RIDDLES
    ]
    assert not riddles, "begin with the noun:\n" + "\n".join(riddles)


def test_every_module_says_why_it_exists() -> None:
    silent = [
        f for f, source in sources().items() if source.strip() and not ast.get_docstring(ast.parse(source))
    ]
    assert not silent, silent


def test_docstrings_name_only_what_there_is() -> None:
    """Files, and names with an underscore: of those that are gone, a docstring is all that is left."""
    files = sources()
    known = {Path(f).stem for f in files} | {Path(f).parent.name for f in files}
    for source in files.values():
        known |= {
            k.string
            for k in tokenize.generate_tokens(io.StringIO(source).readline)
            if k.type == tokenize.NAME
        }
        trees = ast.parse(source)
        prose = {id(n.value) for n in ast.walk(trees) if isinstance(n, ast.Expr)}
        for node in ast.walk(trees):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                known |= set(re.findall(r"\w+", node.value))
    gone = []
    for file, source in files.items():
        for line, text in docstrings(ast.parse(source)) if not file.startswith(LATER) else ():
            for path in re.findall(r"[a-z_][\w./]*/[\w/]+\.py\b", text):
                bases = (SRC, ROOT, ROOT / "src", (SRC / file).parent)
                if not any((base / path).exists() for base in bases) and not UPSTREAM.search(text):
                    gone.append(f"{file}:{line}: {path}")
            for name in re.findall(r"`([a-z_][\w.]*)`", text):
                parts = [p for p in name.split(".") if "_" in p and len(p) > 2 and p not in known]
                if parts and not UPSTREAM.search(text):
                    gone.append(f"{file}:{line}: {name}")
    assert not gone, "these are no more:\n" + "\n".join(gone)
