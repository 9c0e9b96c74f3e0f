"""What we render lints clean: no error, no warning, no note."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from seawall.cli.lint import command as lint
from seawall.cli.render import command as render

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda p: p.stem)
def test_rendered_examples_have_no_findings(example: Path) -> None:
    rendered = CliRunner().invoke(render, [str(example)])
    assert rendered.exit_code == 0, rendered.output
    result = CliRunner().invoke(lint, ["-"], input=rendered.stdout)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("no findings in"), result.output
    assert "no vLLM workload" not in result.output
