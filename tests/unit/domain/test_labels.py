"""Labels, annotations, ports and metric names stand in `domain/labels.py` and nowhere else in the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from seawall.domain import labels

SOURCE = Path(labels.__file__).parents[1]
DEFINED = {
    value
    for name, value in vars(labels).items()
    if name.isupper() and isinstance(value, str) and ("/" in value or value.startswith("seawall_"))
}
OTHERS_PORTS = {"render/packaging/prereqs.py", "diagnose/examine_cluster.py"}
"""Prometheus listens on 9090 too."""


@cache
def sources() -> tuple[tuple[str, ast.Module], ...]:
    return tuple(_parsed())


def _parsed() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if name != "domain/labels.py":
            yield name, ast.parse(path.read_text("utf-8"))


def texts(tree: ast.Module) -> Iterator[ast.Constant]:
    """Every literal text but docstrings."""
    told = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in told:
            yield node


def test_no_label_and_no_metric_is_typed_a_second_time() -> None:
    found = [
        f"{name}:{node.lineno}: {value}"
        for name, tree in sources()
        for node in texts(tree)
        for value in DEFINED
        if value in str(node.value)
    ]
    assert not found, f"import them from seawall.domain.labels: {found}"


def test_every_label_under_our_name_is_one_that_is_defined() -> None:
    apart = ("seawall.dev/v1", "seawall.dev/schema", "seawall.dev/ ")
    unknown = [
        f"{name}:{node.lineno}: {node.value}"
        for name, tree in sources()
        for node in texts(tree)
        if str(node.value).startswith("seawall.dev/") and not f"{node.value} ".startswith(apart)
    ]
    assert not unknown, f"define them in seawall.domain.labels: {unknown}"


def test_no_port_is_typed_a_second_time() -> None:
    found = []
    for name, tree in sources():
        for node in ast.walk(tree):
            typed = isinstance(node, ast.Constant) and node.value == labels.ADMIN_PORT
            if typed and name not in OTHERS_PORTS:
                found.append(f"{name}:{node.lineno}")
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                names = [t.id for t in node.targets if isinstance(t, ast.Name)]
                if any(n.endswith("_PORT") and hasattr(labels, n) for n in names):
                    found.append(f"{name}:{node.lineno}: {names}")
    assert not found, f"import it from seawall.domain.labels: {found}"


def test_every_metric_of_the_gateway_has_its_name_from_there() -> None:
    from seawall.batch import metrics
    from seawall.gateway.process.metrics import METRICS

    own = {name for name in {**METRICS, **metrics.METRICS} if name.startswith("seawall_")}
    assert own == {value for value in DEFINED if value.startswith("seawall_")}
