"""Sizes and times, as people write them.

MB and MiB both mean 2²⁰ bytes, KB/KiB 2¹⁰ and GB/GiB 2³⁰: the convention of the reference system, whose
"100MB" files hold 5,113 samples (AI-for-Astronomy, arXiv 2501.06249).
"""

import re

from skyfan.errors import BadInput

_FACTORS = {"": 1, "B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(I?)(B?)\s*", re.IGNORECASE)


def parse_size(text: str, what: str = "size") -> int:
    """`"25MB"` → 26_214_400. `what` names the option in the error.

    Raises:
        BadInput: it is no size, or not above zero.
    """
    match = _SIZE.fullmatch(text)
    if not match:
        raise BadInput(f"{what} {text!r} is not a size; write a number with KB, MB or GB, such as 25MB.")
    number, prefix = match[1], match[2].upper()
    size_bytes = int(float(number) * _FACTORS[f"{prefix}B" if prefix else ""])
    if size_bytes <= 0:
        raise BadInput(f"{what} {text!r} must be greater than zero.")
    return size_bytes


def format_size(size_bytes: float) -> str:
    """26_214_400 → `"25 MB"`; three significant digits above bytes."""
    value = float(size_bytes)
    for unit in ("B", "KB", "MB", "GB"):
        if round(abs(value)) < 1024:
            return f"{_three_digits(value)} {unit}"
        value /= 1024
    return f"{_three_digits(value)} TB"


def _three_digits(value: float) -> str:
    """Numbers from 1,000, of which a unit has up to 1,023, in whole."""
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:.0f}"


def counted(number: int, thing: str) -> str:
    """`"1 rank"`, `"1,278 ranks"`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def format_duration(duration_s: float) -> str:
    """75.2 → `"1 min 15 s"`; under ten seconds with one decimal."""
    if duration_s < 10:
        return f"{duration_s:.1f} s"
    whole_s = round(duration_s)
    if whole_s < 60:
        return f"{whole_s} s"
    minutes, seconds = divmod(whole_s, 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
