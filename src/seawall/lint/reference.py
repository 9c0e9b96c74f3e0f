"""Writes docs/reference/lint-rules.md from the rules: `python -m seawall.lint.reference`. Nothing else."""

from __future__ import annotations

from pathlib import Path

from seawall.lint.report import reference

PAGE = Path("docs/reference/lint-rules.md")

if __name__ == "__main__":
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(reference(), "utf-8")
