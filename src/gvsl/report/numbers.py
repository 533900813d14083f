"""Formats of numbers in the report, and means without the missing ones."""

import math
from collections.abc import Iterable
from statistics import fmean

MISSING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


def mean_of(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None, or None if there are none."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """Format a number with a true minus sign; a dash if it is missing or not finite."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:+.{digits}f}" if signed else f"{value:.{digits}f}"
    if float(text) == 0:  # -0.0004 is 0.000, not a negative nothing
        text = text.replace("-", "+" if signed else "")
    return text.replace("-", MINUS)


def short(value: float) -> str:
    """Format a number with two significant digits."""
    return f"{value:.2g}".replace("-", MINUS)


def percent(value: float | None, digits: int = 2) -> str:
    """Format a fraction of 0 to 1 as a percentage."""
    return MISSING if value is None or not math.isfinite(value) else f"{number(100 * value, digits)} %"


def plus_minus(value: float | None, digits: int = 3) -> str:
    """Format a deviation; a dash if it is missing or not finite."""
    return MISSING if value is None or not math.isfinite(value) else f"± {number(value, digits)}"


def duration(seconds: float) -> str:
    """Format a duration in its two largest units."""
    whole = round(seconds)
    if whole < 60:
        return f"{number(seconds, 1)} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def capital(sentence: str) -> str:
    """Capitalise the first letter only."""
    return sentence[:1].upper() + sentence[1:]


def plural(count: int, thing: str) -> str:
    """Format a count: 1 case, 2 cases."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
