"""The PromQL in a world, parsed: where each query stands, which metrics it reads and how. No rule here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import promql_parser as pq

from seawall.lint.node import YamlNode
from seawall.lint.objects import Obj
from seawall.lint.world import Manifests

_RATES = {"rate", "irate", "increase"}


@dataclass
class Use:
    """One metric as a query uses it."""

    name: str
    labels: dict[str, tuple[str, str]]
    """label -> (operator, value)."""
    function: str = ""
    """The function straight around its range: rate, increase, avg_over_time ..."""
    inside: tuple[str, ...] = ()
    """Functions and aggregations around it, outermost first."""


@dataclass
class Query:
    """One PromQL expression and where it stands."""

    obj: Obj
    node: YamlNode
    text: str
    trigger: YamlNode | None = None
    """The ScaledObject's trigger, when it scales on the query."""
    tree: Any = None
    error: str = ""
    uses: list[Use] = field(default_factory=list)


def queries(world: Manifests) -> list[Query]:
    """Every query of ScaledObjects and PrometheusRules, parsed once per world."""
    cached: list[Query] | None = world.cache.get("queries")
    if cached is None:
        cached = [_parsed(q) for q in _found(world)]
        world.cache["queries"] = cached
    return cached


def _found(world: Manifests) -> Iterator[Query]:
    for obj in world.kinds("ScaledObject", "ScaledJob"):
        for trigger in obj.spec["triggers"]:
            node = trigger.at("metadata", "query")
            if trigger["type"].text() == "prometheus" and node:
                yield Query(obj, node, node.text(), trigger)
    for obj in world.kinds("PrometheusRule"):
        for group in obj.spec["groups"]:
            for rule in group["rules"]:
                if rule["expr"]:
                    yield Query(obj, rule["expr"], rule["expr"].text())


def _parsed(query: Query) -> Query:
    if "{{" in query.text or len(query.text) > 100_000 or query.text.count("(") > 500:
        return query
    try:
        query.tree = pq.parse(query.text.strip())
    except (ValueError, RuntimeError) as e:
        query.error = " ".join(str(e).split())[:200]
        return query
    query.uses = list(_uses(query.tree, (), ""))
    return query


def _uses(e: Any, inside: tuple[str, ...], function: str) -> Iterator[Use]:
    match e:
        case pq.VectorSelector():
            yield Use(_name(e), {m.name: (_op(m), m.value) for m in _matchers(e)}, function, inside)
        case pq.MatrixSelector():
            yield from _uses(e.vector_selector, inside, function)
        case pq.SubqueryExpr():
            yield from _uses(e.expr, inside, "")
        case pq.AggregateExpr():
            yield from _uses(e.expr, (*inside, str(e.op)), "")
        case pq.Call():
            for arg in e.args:
                yield from _uses(arg, (*inside, e.func.name), e.func.name)
        case pq.BinaryExpr():
            yield from _uses(e.lhs, (*inside, "binary"), "")
            yield from _uses(e.rhs, (*inside, "binary"), "")
        case pq.ParenExpr() | pq.UnaryExpr():
            yield from _uses(e.expr, inside, function)


def _matchers(selector: Any) -> list[Any]:
    return list(selector.matchers.matchers)


def _name(selector: Any) -> str:
    if selector.name:
        return str(selector.name)
    return next((m.value for m in _matchers(selector) if m.name == "__name__"), "")


def _op(matcher: Any) -> str:
    return str(matcher.op).rsplit(".", 1)[-1]


def strip(e: Any) -> Any:
    """Without the parentheses around it."""
    while isinstance(e, pq.ParenExpr):
        e = e.expr
    return e


def single(e: Any) -> bool:
    """True when an expression yields one element at most: what KEDA demands of a query."""
    e = strip(e)
    match e:
        case pq.NumberLiteral() | pq.StringLiteral():
            return True
        case pq.AggregateExpr():
            by = e.modifier
            if str(e.op) in ("topk", "bottomk", "limitk"):
                return getattr(e.param, "val", 0) == 1 and by is None
            return str(e.op) != "count_values" and (by is None or (_by(by) and not by.labels))
        case pq.Call():
            if e.func.name in ("vector", "scalar", "time", "pi", "absent", "absent_over_time"):
                return True
            if e.func.name == "histogram_quantile":
                return _quantile_single(e.args[1])
            return all(
                single(a) for a in e.args if not isinstance(strip(a), (pq.NumberLiteral, pq.StringLiteral))
            )
        case pq.BinaryExpr():
            return single(e.lhs) and single(e.rhs)
        case pq.UnaryExpr():
            return single(e.expr)
        case pq.SubqueryExpr():
            return single(e.expr)
        case _:
            return False


def _by(modifier: Any) -> bool:
    return "by" in str(modifier.type).lower()


def _quantile_single(e: Any) -> bool:
    e = strip(e)
    return (
        isinstance(e, pq.AggregateExpr)
        and e.modifier is not None
        and _by(e.modifier)
        and set(e.modifier.labels) <= {"le"}
    )


def averages(e: Any) -> str | None:
    """`avg` (or max, min, ...) when the whole query is one average over the replicas; None otherwise."""
    e = strip(e)
    if isinstance(e, pq.AggregateExpr) and str(e.op) in ("avg", "quantile", "max", "min"):
        return str(e.op)
    if isinstance(e, pq.BinaryExpr):
        left, right = strip(e.lhs), strip(e.rhs)
        if isinstance(right, pq.NumberLiteral):
            return averages(left)
        counted = isinstance(right, pq.AggregateExpr) and str(right.op) == "count"
        if counted and str(e.op) == "/" and isinstance(left, pq.AggregateExpr) and str(left.op) == "sum":
            return "sum/count"
    if isinstance(e, pq.Call) and e.func.name == "histogram_quantile":
        return "histogram_quantile"
    if (
        isinstance(e, pq.Call)
        and e.func.name in ("ceil", "floor", "round", "scalar", "clamp_min", "clamp_max")
        and e.args
    ):
        return averages(e.args[0])
    return None
