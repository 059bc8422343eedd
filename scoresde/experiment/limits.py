"""Limits of the plain fields of a configuration, and their checks."""

import dataclasses
import difflib
import math
from typing import Any, ClassVar

_INT32, INT64 = 2**31, 2**63


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of a field. Numbers must be finite in any case, and whole numbers must be less than `below`.

    Attributes:
      least: smallest value allowed.
      above: lower bound that the value must exceed.
      below: upper bound that the value must not reach.
      words: strings allowed.
    """

    least: float | None = None
    above: float | None = None
    below: float = _INT32
    words: tuple[str, ...] = ()

    def problem(self, name: str, value: Any) -> str | None:
        """Return the problem with a value in one line, or None."""
        values = value if isinstance(value, tuple) else (value,)
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        expected = None
        if self.words and any(v not in self.words for v in values):
            wrong = next(str(v) for v in values if v not in self.words)
            near = difflib.get_close_matches(wrong, self.words, 1, cutoff=0.0)
            expected = f"one of {', '.join(filter(None, self.words))}; did you mean {near[0]}?"
        elif not all(map(math.isfinite, numbers)):
            expected = "a finite number"
        elif self.least is not None and any(v < self.least for v in numbers):
            expected = f"at least {self.least}"
        elif self.above is not None and any(v <= self.above for v in numbers):
            expected = f"a number above {self.above}"
        elif any(v >= self.below for v in numbers if isinstance(v, int) or self.below < _INT32):
            expected = f"less than {_power(self.below)}"
        return f"{name} = {value!r}: expected {expected}" if expected else None


def _power(limit: float) -> str:
    exponent = math.log2(limit) if limit > 1 else 0.5
    return f"2^{exponent:.0f}" if exponent == int(exponent) else f"{limit:g}"


class Settings:
    """Section of plain fields. A subclass is a dataclass and defines the limits of its fields."""

    section: ClassVar[str]
    limits: ClassVar[dict[str, Limits]]

    def problems(self) -> list[str]:
        """Return all problems with the values, one line each."""
        found = []
        for field in dataclasses.fields(self):
            limits = self.limits.get(field.name, Limits())
            if text := limits.problem(f"{self.section}.{field.name}", getattr(self, field.name)):
                found.append(text)
        return found or self.together()

    def together(self) -> list[str]:
        """Return the problems between fields, which are checked if each field alone is valid."""
        return []
