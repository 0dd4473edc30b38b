"""JSON of unknown origin, read field by field: every value is asked for by its type, everything else stays behind."""

import json
import re
from typing import Any, Never

MAX_JSON_BYTES, MAX_BRACKETS, MAX_QUOTES = 32 * 2**20, 2**20, 2**22
MAX_DIGITS, MAX_NESTING = 19, 160
# Brackets outside of texts; possessive, so that it takes linear time whatever the bytes are.
_BRACKET = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}")
_FLOATS = {"Infinity": float("inf"), "-Infinity": float("-inf"), "NaN": float("nan")}


class Refusal(ValueError):
    """What is wrong with a program; the sentence begins with the file's name, which is put before it."""


def refuse(what: str) -> Never:
    """Raises `Refusal`."""
    raise Refusal(what)


def shown(value: object) -> str:
    """A text of the file for a sentence: short, ASCII, without escape sequences."""
    return ascii(value if len(str(value)) <= 80 else f"{str(value)[:80]}…")


def parse(data: bytes, what: str) -> Any:
    """The JSON value in `data`; bounded in size and nesting, integers of at most `MAX_DIGITS` digits."""
    if len(data) > MAX_JSON_BYTES:
        refuse(f"has {len(data):,} bytes of {what}, more than {MAX_JSON_BYTES:,}")
    if data.count(b"[") + data.count(b"{") > MAX_BRACKETS or data.count(b'"') > MAX_QUOTES:
        refuse(f"has more than {MAX_BRACKETS:,} lists and objects or {MAX_QUOTES:,} quotes in its {what}")
    depth = 0
    for found in _BRACKET.finditer(data):
        depth += (found[0] in b"[{") - (found[0] in b"]}")
        if depth > MAX_NESTING:
            refuse(f"is damaged: its {what} is nested more than {MAX_NESTING} deep")
    try:
        return json.loads(data, parse_int=_bounded_int, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        if isinstance(error, Refusal):
            raise
        raise Refusal(f"is damaged: its {what} cannot be read ({type(error).__name__})") from error


def _bounded_int(text: str) -> int:
    if len(text.lstrip("-")) > MAX_DIGITS:
        refuse(f"is damaged: it holds an integer of {len(text)} digits")
    return int(text)


def _no_constant(text: str) -> Never:
    refuse(f"is damaged: it holds {text}, which is no JSON")


def mapping(value: object, what: str) -> dict[str, Any]:
    """A JSON object."""
    return value if isinstance(value, dict) else refuse(f"is damaged: {what} is no object")


def items(value: object, what: str, limit: int) -> list[Any]:
    """A JSON array of at most `limit` items."""
    if not isinstance(value, list):
        refuse(f"is damaged: {what} is no list")
    return value if len(value) <= limit else refuse(f"holds {len(value):,} of {what}, more than {limit:,}")


def union(value: object, what: str) -> tuple[str, Any]:
    """The one key of a tagged value, and its content."""
    found = mapping(value, what)
    if len(found) != 1:
        refuse(f"is damaged: {what} is of {len(found)} kinds")
    return next(iter(found.items()))


def boolean(value: object, what: str) -> bool:
    """True or false."""
    return value if isinstance(value, bool) else refuse(f"is damaged: {what} is {shown(value)}, not true or false")


def integer(value: object, what: str, low: int = -(2**63), high: int = 2**63 - 1) -> int:
    """An integer from `low` to `high`."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        refuse(f"has {shown(value)} as {what}, which must be an integer from {low} to {high}")
    return value


def number(value: object, what: str) -> float:
    """A floating-point number; torch writes infinities and NaN as text."""
    if isinstance(value, str) and value in _FLOATS:
        return _FLOATS[value]
    if isinstance(value, bool) or not isinstance(value, int | float):
        refuse(f"has {shown(value)} as {what}, which must be a number")
    return float(value)


def name(value: object, what: str) -> str:
    """A plain name of ASCII letters, digits and underscores."""
    if not isinstance(value, str) or not _IDENTIFIER.fullmatch(value):
        refuse(f"names {what} {shown(value)}, which is no plain name")
    return value
