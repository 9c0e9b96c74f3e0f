"""The arithmetic of KEDA's `scalingModifiers.formula`: the part of expr-lang that scaling formulas use.

Why: a composite metric decides the replicas, so a what-if must compute it. Covered: numbers, trigger names, nil,
true, false, + - * / % ^ **, comparisons, and/or/not, `??`, `?:`, arrays, abs ceil floor round min max sum mean
median len, and over arrays with a predicate (`{# > 1}`) count any all none one filter map sum. A trigger's value
is a float and a literal without a point an integer: `%` takes integers only, as upstream.
Not covered (an error says so): strings, pipes, `let`, ranges, `in`. Forbidden: eval().
"""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Mapping
from typing import TypeAlias

Value: TypeAlias = "float | bool | list[Value] | None"
Thunk: TypeAlias = Callable[[], Value]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d[\d_]*\.?\d*(?:[eE][+-]?\d+)?|\.\d+)|(?P<name>[A-Za-z_$][\w$]*)"
    r"|(?P<op>\?\?|\*\*|&&|\|\||[<>=!]=|[-+*/%^<>!?:(),\[\]{}#]))"
)
_POWER = {"?:": 1, "??": 15, "||": 2, "or": 2, "&&": 3, "and": 3}
_POWER |= dict.fromkeys(("==", "!=", "<", ">", "<=", ">="), 5)
_POWER |= {"+": 8, "-": 8, "*": 10, "/": 10, "%": 10, "**": 14, "^": 14}
MAX_LENGTH = 4096


class FormulaError(Exception):
    """The formula cannot be computed from these triggers."""


def evaluate(formula: str, variables: Mapping[str, float | None]) -> float:
    """The formula's number. A missing variable is nil; nil in arithmetic is an error, as in expr-lang."""
    value = evaluated(formula, variables)
    if value is None:
        raise FormulaError("the formula gives nil, not a number")
    return value


def evaluated(formula: str, variables: Mapping[str, float | None]) -> float | None:
    """The formula's number, or None where it gives nil."""
    if len(formula) > MAX_LENGTH:
        raise FormulaError(f"the formula is longer than {MAX_LENGTH} characters")
    parser = _Parser(formula, variables)
    try:
        value = parser.whole()()
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise FormulaError(f"the formula gives {_shown(value)}, not a number")
        number = float(value)
    except (RecursionError, OverflowError, ZeroDivisionError, ValueError) as e:
        raise FormulaError(f"the formula cannot be computed: {type(e).__name__}") from e
    if not math.isfinite(number):
        raise FormulaError(f"the formula gives {number}")
    return number


def _shown(value: Value) -> str:
    return "nil" if value is None else str(value)


def _number(value: Value, where: str) -> float:
    if value is None or isinstance(value, (bool, list)):
        raise FormulaError(f"{_shown(value)} is no operand for {where}")
    return value


def _truth(value: Value, where: str) -> bool:
    if not isinstance(value, bool):
        raise FormulaError(f"{_shown(value)} is no operand for {where}")
    return value


def _equal(a: Value, b: Value) -> bool:
    """true is not 1: a bool equals only a bool."""
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def _modulo(a: float, b: float) -> float:
    """Go's remainder, of integers only; a trigger's value is a float and refused."""
    if not (isinstance(a, int) and isinstance(b, int)):
        raise FormulaError("% takes integers; a trigger's value is a float")
    return int(math.fmod(a, b))


def _divided(a: float, b: float) -> float:
    """Go's float division: by zero gives an infinity or NaN, which `evaluate` then refuses."""
    return a / b if b else math.nan


_ARITHMETIC: dict[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divided,
    "%": _modulo,
    "**": math.pow,
    "^": math.pow,
}
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}
_FUNCTIONS: dict[str, Callable[[list[float]], float]] = {
    "abs": lambda xs: abs(xs[0]),
    "ceil": lambda xs: math.ceil(xs[0]),
    "floor": lambda xs: math.floor(xs[0]),
    "round": lambda xs: math.copysign(math.floor(abs(xs[0]) + 0.5), xs[0]),
    "max": max,
    "min": min,
    "mean": statistics.fmean,
    "median": statistics.median,
    "len": len,
}


class _Parser:
    """Precedence climbing; builds thunks, so that `??` and `?:` leave the other side alone."""

    def __init__(self, text: str, variables: Mapping[str, float | None]) -> None:
        self.variables = variables
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while text[at:].strip():
            m = _TOKEN.match(text, at)
            if m is None or m.lastgroup is None:
                raise FormulaError(f"the formula cannot be read at {text[at : at + 12].strip()!r}")
            self.tokens.append((m.lastgroup, m[m.lastgroup]))
            at = m.end()
        self.at = 0
        self.elements: list[Value] = []
        """What `#` stands for; the innermost predicate's last."""

    def whole(self) -> Thunk:
        value = self.expression(0)
        if self.at < len(self.tokens):
            raise FormulaError(f"unexpected {self.tokens[self.at][1]!r}")
        return value

    def peek(self) -> str:
        return self.tokens[self.at][1] if self.at < len(self.tokens) else ""

    def take(self, expected: str = "") -> tuple[str, str]:
        if self.at >= len(self.tokens):
            raise FormulaError("the formula ends too early")
        token = self.tokens[self.at]
        if expected and token[1] != expected:
            raise FormulaError(f"expected {expected!r}, found {token[1]!r}")
        self.at += 1
        return token

    def expression(self, least: int) -> Thunk:
        left = self.unary()
        while True:
            op = self.peek()
            if op == "?" and least <= _POWER["?:"]:
                left = self.ternary(left)
            elif op in _POWER and _POWER[op] > least:
                self.take()
                right_binds = _POWER[op] - 1 if op in ("**", "^") else _POWER[op]
                left = self.binary(op, left, self.expression(right_binds))
            else:
                return left

    def ternary(self, condition: Thunk) -> Thunk:
        self.take("?")
        yes = self.expression(0)
        self.take(":")
        no = self.expression(0)
        return lambda: yes() if _truth(condition(), "?:") else no()

    def binary(self, op: str, left: Thunk, right: Thunk) -> Thunk:
        if op == "??":
            return lambda: right() if (value := left()) is None else value
        if op in ("||", "or"):
            return lambda: _truth(left(), op) or _truth(right(), op)
        if op in ("&&", "and"):
            return lambda: _truth(left(), op) and _truth(right(), op)
        if op == "==":
            return lambda: _equal(left(), right())
        if op == "!=":
            return lambda: not _equal(left(), right())
        if op in _COMPARE:
            compare = _COMPARE[op]
            return lambda: compare(_number(left(), op), _number(right(), op))
        arithmetic = _ARITHMETIC[op]
        return lambda: arithmetic(_number(left(), op), _number(right(), op))

    def unary(self) -> Thunk:
        op = self.peek()
        if op in ("-", "+"):
            self.take()
            value = self.expression(11)
            sign = -1.0 if op == "-" else 1.0
            return lambda: sign * _number(value(), op)
        if op in ("!", "not"):
            self.take()
            truth = self.expression(11)
            return lambda: not _truth(truth(), op)
        return self.primary()

    def primary(self) -> Thunk:
        kind, text = self.take()
        if kind == "number":
            plain = text.replace("_", "")
            number = int(plain) if plain.isdigit() else float(plain)
            return lambda: number
        if text == "#":
            return self.element
        if kind == "name":
            return self.named(text)
        if text == "(":
            inner = self.expression(0)
            self.take(")")
            return inner
        if text == "[":
            items = self.listed("]")
            return lambda: [item() for item in items]
        raise FormulaError(f"unexpected {text!r}")

    def element(self) -> Value:
        if not self.elements:
            raise FormulaError("# stands outside a predicate")
        return self.elements[-1]

    def over(self, name: str) -> Thunk:
        """`count(array, {predicate})` and its kind; the braces may be left out."""
        self.take("(")
        array = self.expression(0)
        if self.peek() == ")":
            self.take(")")
            return lambda: _reduced(name, _listed(name, array()), None)
        self.take(",")
        braces = self.peek() == "{"
        if braces:
            self.take("{")
        body = self.expression(0)
        if braces:
            self.take("}")
        self.take(")")

        def reduced() -> Value:
            items, found = _listed(name, array()), []
            for item in items:
                self.elements.append(item)
                try:
                    found.append(body())
                finally:
                    self.elements.pop()
            return _reduced(name, items, found)

        return reduced

    def named(self, name: str) -> Thunk:
        if self.peek() == "(" and name in _PREDICATED:
            return self.over(name)
        if self.peek() == "(":
            if name not in _FUNCTIONS:
                raise FormulaError(
                    f"the function {name!r} is not known here; known: {', '.join((*_FUNCTIONS, *_PREDICATED))}"
                )
            self.take("(")
            arguments, function = self.listed(")"), _FUNCTIONS[name]
            return lambda: function(_flat(name, [a() for a in arguments]))
        constants: dict[str, Value] = {"nil": None, "true": True, "false": False}
        if name in constants:
            return lambda: constants[name]
        return lambda: self.variables.get(name)

    def listed(self, end: str) -> list[Thunk]:
        items: list[Thunk] = []
        while self.peek() != end:
            items.append(self.expression(0))
            if self.peek() != end:
                self.take(",")
        self.take(end)
        return items


_PREDICATED = ("count", "any", "all", "none", "one", "filter", "map", "sum")


def _listed(name: str, value: Value) -> list[Value]:
    if not isinstance(value, list):
        raise FormulaError(f"{name} takes an array, not {_shown(value)}")
    return value


def _reduced(name: str, items: list[Value], found: list[Value] | None) -> Value:
    """What a function makes of its array and, per element, the predicate's value (None: it has none)."""
    if found is None and name not in ("count", "sum"):
        raise FormulaError(f"{name} takes an array and a predicate")
    if name == "map":
        return found
    if name == "sum":
        return sum(_number(v, name) for v in (items if found is None else found))
    truths = [_truth(v, name) for v in (items if found is None else found)]
    match name:
        case "filter":
            return [item for item, keep in zip(items, truths, strict=True) if keep]
        case "any":
            return any(truths)
        case "all":
            return all(truths)
        case "none":
            return not any(truths)
        case "one":
            return sum(truths) == 1
    return sum(truths)


def _flat(name: str, values: list[Value]) -> list[float]:
    flat: list[float] = []
    for value in values:
        flat += _flat(name, value) if isinstance(value, list) else [_number(value, name)]
    if not flat:
        raise FormulaError(f"{name} of nothing")
    return flat
