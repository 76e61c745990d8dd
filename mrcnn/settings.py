"""What the settings of all stages share: a field's type says which values it takes, and some fields can be changed.

    @dataclass(frozen=True)
    class BoxSettings(Settings):
        samples: Count = 512
        nms_iou: Share = 0.5

A value that makes no sense is refused where the settings are made, before it takes memory or gives wrong numbers. The
upper limits are far beyond any model that was published.
"""

import difflib
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from numbers import Integral, Real
from typing import Annotated, Any, get_args, get_type_hints


@dataclass(frozen=True)
class Rule:
    """expected: what a value must be, in words. holds: whether one is."""

    expected: str
    holds: Callable[[Any], bool]


def whole(low: int, high: int) -> Rule:
    """A whole number from low to high."""

    def holds(value: Any) -> bool:
        return isinstance(value, Integral) and not isinstance(value, bool) and low <= value <= high

    return Rule(f"a whole number from {low} to {high}", holds)


def number(low: float, high: float) -> Rule:
    """A number from low to high."""

    def holds(value: Any) -> bool:
        return isinstance(value, Real) and not isinstance(value, bool) and low <= value <= high

    return Rule(f"a number from {low:g} to {high:g}", holds)


def several(each: Rule, low: int, high: int) -> Rule:
    """A tuple of low to high values, for each of which the same rule holds."""

    def holds(value: Any) -> bool:
        return isinstance(value, tuple | list) and low <= len(value) <= high and all(map(each.holds, value))

    return Rule(f"a tuple of {low if low == high else f'{low} to {high}'}, each {each.expected}", holds)


def maybe(rule: Rule) -> Rule:
    """What the rule allows, or None."""
    return Rule(f"{rule.expected}, or None", lambda value: value is None or rule.holds(value))


SIDE = whole(1, 16384)  # of a picture in pixels, or of a layer in channels or features
BATCH = whole(1, 65536)  # pictures at once
WORKERS = whole(0, 1024)  # processes that fetch pictures
STEPS = whole(1, 10**9)  # of training; epochs too


Share = Annotated[float, number(0, 1)]
Positive = Annotated[float, POSITIVE := number(1e-6, 1e6)]
Positives = Annotated[tuple[float, ...], several(POSITIVE, 1, 64)]
Weights = Annotated[tuple[float, float, float, float], several(POSITIVE, 4, 4)]
Length = Annotated[float, number(0, 1e6)]  # in pixels
Count = Annotated[int, COUNT := whole(1, 10**6)]  # of anchors, proposals or detections
MaybeCount = Annotated[int | None, maybe(COUNT)]
Cells = Annotated[int, whole(1, 64)]  # of pooled features, along one side
Width = Annotated[int, SIDE]
Widths = Annotated[tuple[int, ...], several(SIDE, 1, 64)]
MaybeWidths = Annotated[tuple[int, ...], several(SIDE, 0, 64)]


class Settings:
    """The base of a stage's settings, a frozen dataclass: checks every field when it is made."""

    def __post_init__(self) -> None:
        for name, rule in rules(type(self)).items():
            require(self, name, rule.holds(getattr(self, name)), rule.expected)


@functools.cache
def rules(settings: type) -> dict[str, Rule]:
    """The rule of each field, by its type."""
    return {name: rule_of(hint) for name, hint in get_type_hints(settings, include_extras=True).items()}


def rule_of(hint: Any) -> Rule:
    """The rule that an annotated type names; of another, `MaskSettings | None`, that a value is of this type."""
    if hasattr(hint, "__metadata__"):
        return hint.__metadata__[0]
    names = [each.__name__.removesuffix("Type") for each in get_args(hint) or (hint,)]
    return Rule(" or ".join(names), lambda value: isinstance(value, hint))


def require(settings: Settings, name: str, holds: bool, expected: str) -> None:
    """Raises ValueError, with a sentence about one field, unless a condition holds."""
    if not holds:
        value = repr(getattr(settings, name))
        shown = value if len(value) <= 100 else f"{value[:100]} …"
        raise ValueError(f"{name} of {type(settings).__name__} must be {expected}, got {shown}")


def changed(settings: Settings, changes: dict[str, Any]) -> Settings:
    """The settings with the fields that `changes` names changed; where a field is itself settings and its change a
    dict, only the fields in that. Lists, which JSON makes of tuples, become tuples again.

    Raises TypeError for a field that does not exist, and names the nearest that does.
    """
    refuse_unknown(changes, [field.name for field in fields(settings)], type(settings).__name__)
    values = {}
    for name, value in changes.items():
        before = getattr(settings, name)
        values[name] = (
            changed(before, value) if isinstance(value, dict) and isinstance(before, Settings) else as_tuples(value)
        )
    return replace(settings, **values)


def optional(settings: type) -> dict[str, type]:
    """The fields that may be None, `mask: MaskSettings | None`, and what they are otherwise."""
    hints = get_type_hints(settings).items()
    kinds = {name: [each for each in get_args(hint) if issubclass(each, Settings)] for name, hint in hints}
    return {name: kind[0] for name, kind in kinds.items() if kind}


def refuse_unknown(names: Iterable[str], known: Iterable[str], owner: str) -> None:
    """Raises TypeError for a name that is not known, with the nearest that is."""
    known = list(known)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
            raise TypeError(f"{owner} has no {name!r}: {hint}")


def as_tuples(value: Any) -> Any:
    """The value with tuples for all its lists."""
    return tuple(map(as_tuples, value)) if isinstance(value, list | tuple) else value
