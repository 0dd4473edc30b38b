"""Symbolic sizes: a batch size and arithmetic on it, read by a parser of their own and written anew.

torch evaluates the text of a size with Python's `eval` (through sympy). What reaches it here was printed from a tree
of known functions, symbols and small integers, so no other text can; length, depth, integers and powers are bounded,
so evaluating it is cheap.
"""

import re
from dataclasses import dataclass

from skyfan.models.programs.fields import integer, mapping, refuse, shown, union

MAX_LENGTH, MAX_DEPTH, MAX_INTEGER, MAX_POWER = 1_000, 24, 2**53, 4
_TOKEN = re.compile(r"\s*(?:(?P<name>[A-Za-z_]\w*)|(?P<number>-?\d{1,17})(?!\w)|'(?P<text>s\d{1,5})'|(?P<mark>[(),=]))")
_FUNCTIONS = {
    # the function's name: how many arguments it takes, at least and at most
    **dict.fromkeys(("Add", "Mul", "Max", "Min", "And", "Or"), (1, 32)),
    **dict.fromkeys(("Mod", "FloorDiv", "PythonMod", "CleanDiv", "CeilDiv", "IntTrueDiv", "FloatTrueDiv"), (2, 2)),
    **dict.fromkeys(("Equality", "Unequality", "Eq", "Ne", "StrictLessThan", "LessThan"), (2, 2)),
    **dict.fromkeys(("StrictGreaterThan", "GreaterThan", "Lt", "Le", "Gt", "Ge"), (2, 2)),
    **dict.fromkeys(("Not", "Abs", "Identity", "CeilToInt", "FloorToInt", "TruncToInt", "ToFloat"), (1, 1)),
    **dict.fromkeys(("ModularIndexing", "Where"), (3, 3)),
}
_ASSUMPTIONS = frozenset({"positive", "nonnegative", "integer"})


@dataclass(frozen=True)
class Expression:
    """A size as torch is given it, and its value when the program was exported."""

    text: str
    hint: int | None

    def json(self) -> dict[str, object]:
        """In the form of the archive."""
        hint = None if self.hint is None else {"as_int": self.hint}
        return {"expr_str": self.text, "hint": hint}


def read_expression(value: object) -> Expression:
    """The expression of an `as_expr` entry."""
    found = mapping(value, "a size")
    text = found.get("expr_str")
    if not isinstance(text, str) or len(text) > MAX_LENGTH:
        refuse(f"holds a size that cannot be read, {shown(text)}")
    hint = None
    if found.get("hint") is not None:
        kind, content = union(found["hint"], "the hint of a size")
        hint = integer(content, "the hint of a size") if kind == "as_int" else None
    return Expression(_Parser(text).whole(), hint)


class _Parser:
    """Recursive descent over `Name(argument, …)`, `Integer(n)` and `Symbol('s0', …)`; gives the text anew."""

    def __init__(self, text: str) -> None:
        self._source, self._at = text, 0

    def whole(self) -> str:
        text = self._expression(0)
        return text if self._at == len(self._source.rstrip()) else self._refuse()

    def _refuse(self) -> str:
        refuse(f"holds a size that is more than arithmetic, {shown(self._source)}")

    def _next(self, kind: str, wanted: str | None = None) -> str:
        found = _TOKEN.match(self._source, self._at)
        if found is None or found[kind] is None or wanted not in (None, found[kind]):
            return self._refuse()
        self._at = found.end()
        return str(found[kind])

    def _peek(self, mark: str) -> bool:
        found = _TOKEN.match(self._source, self._at)
        return found is not None and found["mark"] == mark

    def _integer(self, low: int = -MAX_INTEGER, high: int = MAX_INTEGER) -> str:
        return str(integer(int(self._next("number")), "a number in a size", low, high))

    def _expression(self, depth: int) -> str:
        name = self._next("name")
        if name in ("true", "false") or depth > MAX_DEPTH:
            return name if depth <= MAX_DEPTH else self._refuse()
        self._next("mark", "(")
        if name == "Symbol":
            inner = self._symbol()
        elif name == "Integer":
            inner = self._integer()
        elif name == "Rational":
            inner = self._integer() + self._next("mark", ",") + self._integer(1)
        elif name == "Pow":  # of a power none, and only small literal exponents: no towers
            base = self._expression(depth + 1)
            self._next("mark", ",")
            self._next("name", "Integer")
            self._next("mark", "(")
            inner = f"{base}, Integer({self._integer(-MAX_POWER, MAX_POWER)}{self._next('mark', ')')}"
            if "Pow" in base:
                self._refuse()
        else:
            inner = self._arguments(name, depth)
        return f"{name}({inner}{self._next('mark', ')')}"

    def _arguments(self, name: str, depth: int) -> str:
        if name not in _FUNCTIONS:
            self._refuse()
        found = [self._expression(depth + 1)]
        while self._peek(","):
            self._next("mark", ",")
            found.append(self._expression(depth + 1))
        low, high = _FUNCTIONS[name]
        return ", ".join(found) if low <= len(found) <= high else self._refuse()

    def _symbol(self) -> str:
        symbol = self._next("text")
        while self._peek(","):
            self._next("mark", ",")
            if self._next("name") not in _ASSUMPTIONS:
                self._refuse()
            self._next("mark", "=")
            self._next("name", "True")
        return f"'{symbol}', positive=True, integer=True"
