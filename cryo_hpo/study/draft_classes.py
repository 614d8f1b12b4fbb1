"""Choose the classes of a card: from the values of the masks, or as given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..config.dataset_card import IGNORED
from ..data.fingerprint import Fingerprint
from ..errors import DataError
from ..report.wording import percent_of

UNNAMED = ("background", "foreground")
NO_LABEL = 255
MAX_LISTED = 12  # colors in a message


class ClassChoice(NamedTuple):
    """Hold the classes of a card, and where they are from."""

    names: Mapping[int, str]
    """Mask value -> class."""
    reason: str
    is_guess: bool
    words: tuple[str, ...]
    """A name for every mask value, `ignore` for one that is left out."""


def choose_classes(look: Fingerprint, given: tuple[str, ...] | None) -> ClassChoice:
    """Choose the class of each mask value.

    Values that are given the name `ignore` are no classes, and left out.

    Raises:
        DataError: Masks hold one value, values that are not whole numbers, or another number of
            classes was given.
    """
    values = _whole_values(look)
    numbers = [0, 1, NO_LABEL] if not look.colors else None
    if given is None and values == numbers and not look.is_together(1, NO_LABEL):
        raise DataError(
            f"Some masks hold 0 and 1 ({look.carriers[1]}), others 0 and {NO_LABEL} "
            f"({look.carriers[NO_LABEL]}), and none holds both. Give --classes land,lake,lake if 1 "
            f"and {NO_LABEL} are one class, or land,lake,ignore if {NO_LABEL} is no label."
        )
    if given is None and values == numbers:
        reason = "0, 1, and 255 for no label: guessed"
        words = (*UNNAMED, IGNORED)
        return ClassChoice(dict(enumerate(UNNAMED)), reason, is_guess=True, words=words)
    _require_several([look.name_of(value) for value in look.values])
    if given is not None and len(given) != len(values):
        stray = f" {_describe_rarest(look, given)}" if len(given) < len(values) else ""
        raise DataError(
            f"The masks hold {list_values(look)}, --classes names "
            f"{len(given)} ({', '.join(given)}). Name a class for every value, in this order.{stray}"
        )
    if given is None and len(values) > 2:
        raise DataError(
            f"The masks hold {list_values(look)}. Name their "
            f"classes in this order: --classes background,lake,river. {_describe_rarest(look, ())}"
        )
    names = given or UNNAMED
    classes = {v: name for v, name in zip(values, names, strict=True) if name != IGNORED}
    if len(classes) < 2:
        raise DataError(
            f"--classes leaves {len(classes)} of {len(values)} mask values, the others are "
            f"'{IGNORED}'; two classes at least are needed. Name more of the values."
        )
    what = "colors" if look.colors else "values"
    reason = "as given" if given else f"two {what}: names guessed"
    return ClassChoice(classes, reason, is_guess=given is None, words=names)


def list_values(look: Fingerprint) -> str:
    """Return number and list of the masks' values; of colors, with their shares of the pixels."""
    if not look.colors:
        return f"{len(look.values)} values ({', '.join(map(look.name_of, look.values))})"
    usual = set(sorted(look.values, key=lambda value: -look.values[value])[:MAX_LISTED])
    shares = [f"{look.name_of(v)}: {percent_of(look.values[v])}" for v in look.values if v in usual]
    more = f", {len(look.values) - len(usual)} rarer ones" if len(look.values) > len(usual) else ""
    return f"{len(look.values)} colors ({', '.join(shares)} of the pixels{more})"


def _whole_values(look: Fingerprint) -> list[int]:
    """Return the values of the masks.

    Raises:
        DataError: A value is not a whole number.
    """
    odd = [value for value in look.values if value != int(value)]
    if odd:
        raise DataError(
            f"Mask values must be whole numbers, found {odd[0]:g}: {look.carriers[odd[0]]}. Was a "
            "mask resampled with interpolation? Resample it again with nearest neighbor."
        )
    return [int(value) for value in look.values]


def _require_several(values: Sequence[str]) -> None:
    if len(values) < 2:
        raise DataError(
            f"Every mask pixel has the value {values[0] if values else 'nothing'}; two classes at "
            "least are needed. Are these the masks?"
        )


def _is_no_label(look: Fingerprint, value: float) -> bool:
    """Return whether a mask value is what others often write for "no label": 255, or below 0."""
    return not look.colors and value in look.values and (value == NO_LABEL or value < 0)


def _describe_rarest(look: Fingerprint, given: Sequence[str]) -> str:
    """Name the value that may be no class, else the rarest, its file, and the name that leaves it out."""
    usual = next((v for v in (float(NO_LABEL), min(look.values)) if _is_no_label(look, v)), None)
    rarest = min(look.values, key=lambda value: look.values[value]) if usual is None else usual
    names = list(given) if len(given) == len(look.values) - 1 else []
    names.insert(list(look.values).index(rarest), IGNORED)
    example = f": --classes {','.join(names)}" if len(names) > 1 else ""
    name = look.name_of(rarest)
    line = f'values: {{"{name}": {IGNORED}, ...}}' if look.colors else f"ignore: {name}"
    return (
        f"{'The rarest is' if usual is None else 'Often no label:'} {name}: {look.carriers[rarest]}. "
        "If it is no class, correct the mask, or "
        f"give '{IGNORED}' as its name, and the card leaves it out with `{line}`{example}."
    )
