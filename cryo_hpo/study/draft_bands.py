"""Choose the bands of a card and their sensor: from the files' names, or as given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..bands import BANDS, SENSORS, Band, bands_of_sensor
from ..data.file_templates import token_of
from ..data.fingerprint import Fingerprint
from ..data.layer_names import NUMBERED, canonical
from ..data.layout import Layout
from ..data.layout_bands import guess_sensor
from ..errors import DataError, UnknownName, count_of

LEFT_OUT = {
    "PAN",
    "CIRRUS",
    "TIR2",
    "B10",
}  # of no use beside the others, or on a grid of their own


class Line(NamedTuple):
    """Hold a line of YAML and the reason for its value."""

    text: str
    reason: str = ""


class BandChoice(NamedTuple):
    """Hold the bands of a card, their sensor, and where both are from."""

    names: tuple[str, ...]
    reason: str
    sensor: str = ""
    """Key of `SENSORS`; "": names are those of `BANDS`."""
    sensor_reason: str = ""
    guess: str = ""
    """The assumption behind the names, a sentence without its point; "": nothing is assumed."""
    settle: str = ""
    """Option that settles it."""

    @property
    def is_guess(self) -> bool:
        """Whether the names are an assumption."""
        return bool(self.guess)

    @property
    def words(self) -> tuple[str, ...]:
        """Names in the order of the layers, as `--bands` takes them."""
        return self.names

    @property
    def bands(self) -> tuple[Band, ...]:
        """The bands that the names mean."""
        return bands_of_sensor(self.names, self.sensor or None)


GUESSES = {  # number of layers of 8 bits, which the files do not name -> their bands
    3: BandChoice(
        ("RED", "GREEN", "BLUE"),
        "three layers of 8 bits: taken to be a color image",
        guess="Three layers of 8 bits, which the files do not name, are taken for red, green and "
        "blue in this order; in another, pretrained encoders see false colors",
        settle="Give --bands RED,GREEN,BLUE, or the bands that they are in the files' order.",
    ),
    1: BandChoice(
        ("GREY",),
        "one layer of 8 bits: taken to be a gray image of no known sensor",
        guess="One layer of 8 bits, which the files do not name, is taken for a gray image",
        settle="Give --bands GREY, or the band that it is, such as VV or DEM.",
    ),
}

EXAMPLES = {2: "VV,VH", 3: "B4,B3,B2", 4: "B4,B3,B2,B8"}  # number of layers -> as many bands


def choose_bands(
    layout: Layout, look: Fingerprint, given: tuple[str, ...] | None, sensor: str | None
) -> BandChoice:
    """Choose the bands of the images, and the sensor whose numbers they are.

    Args:
        layout: Layout of the scenes' files.
        look: Fingerprint of the scenes.
        given: The user's names, in the order of the layers; None: choose.
        sensor: The user's sensor; None: guess it by the scenes' names.

    Raises:
        DataError: The files do not identify bands or sensor, or the given names do not fit.
        UnknownName: A given name is not a band or a sensor.
    """
    if sensor is not None and sensor not in SENSORS:
        raise UnknownName(sensor, valid=SENSORS, what="sensor")
    ids = [name for _, name, _, _ in layout.pairs]
    by_color = given and not layout.bands and not any(map(NUMBERED.fullmatch, given))
    guessed = "" if by_color else guess_sensor(ids, layout.bands)
    chosen = sensor or guessed
    why = "as given" if sensor else "as the scenes' names say" if guessed else ""
    if layout.bands:
        return _of_files(layout, given, chosen, why)
    return _of_layers(look, given, chosen)._replace(sensor=chosen, sensor_reason=why)


def _of_files(layout: Layout, given: tuple[str, ...] | None, sensor: str, why: str) -> BandChoice:
    """Choose among bands in files of their own."""
    names = tuple(layout.bands)
    if not sensor and any(name.startswith("B") for name in names):
        raise DataError(
            f"The scenes have files for the bands {', '.join(names)}, and nothing in their names tells "
            "the sensor: B4 is red for Sentinel-2 and Landsat 8, near infrared for Landsat 7. Name it: "
            "--sensor landsat-8 (`cryo-hpo list bands`)."
        )
    if given is None:
        table = SENSORS.get(sensor, {})
        usual = [n for n in names if n in table and table[n].name not in LEFT_OUT]
        if not usual:
            raise DataError(
                f"The scenes have files for the bands {', '.join(names)}, none of which {sensor} has. "
                "Give another --sensor, or --bands."
            )
        return BandChoice(tuple(usual), "a file for each", sensor, why)
    missing = [name for name in given if name not in names]
    if missing:
        raise DataError(
            f"Not every scene has a file for {', '.join(missing)}, named by --bands. All have: "
            f"{', '.join(names)}."
        )
    bands_of_sensor(given, sensor or None)
    return BandChoice(given, "as given", sensor, why)


def _of_layers(look: Fingerprint, given: tuple[str, ...] | None, sensor: str) -> BandChoice:
    """Choose the names of an image's layers; their sensor is added by the caller."""
    if given is not None:
        if len(given) not in {look.bands, look.bands - look.alpha}:
            raise DataError(
                f"The images have {count_of(look.bands, 'layer')}, --bands names {len(given)} "
                f"({', '.join(given)}). Name every layer, in the file's order."
            )
        bands_of_sensor(given, sensor or None)
        return BandChoice(given, "as given")
    names = tuple(canonical(name) or name for name in look.names)
    if names and _are_bands(names, sensor):
        numbers = any(name in SENSORS["sentinel-2"] for name in names) and not sensor
        note = ", numbers read as Sentinel-2's: --sensor for another" if numbers else ""
        return BandChoice(names, f"as the files' layer descriptions say{note}")
    if look.dtypes == ("uint8",) and look.bands - look.alpha in GUESSES:
        return GUESSES[look.bands - look.alpha]
    shown = f" ({', '.join(look.names)})" if any(look.names) else ""
    raise DataError(
        f"The images have {count_of(look.bands, 'layer')} of {' and '.join(look.dtypes)}{shown}, with values "
        f"from {look.low:g} to {look.high:g}; nothing in the files tells which "
        f"{_how_to_name(look.bands - look.alpha)} (`cryo-hpo list bands` shows the names)."
    )


def _how_to_name(layers: int) -> str:
    """Return the end of a sentence that asks for so many names, with an example of as many."""
    if layers == 1:
        return "band it is. Name it: --bands DEM, or VV, GREY, ..."
    if layers in EXAMPLES:
        return f"bands they are. Name them in the file's order, such as --bands {EXAMPLES[layers]}"
    return f"bands they are. Give {layers} names in the file's order, such as --bands B2,B3,B4,..."


def _are_bands(names: tuple[str, ...], sensor: str) -> bool:
    return len(set(names)) == len(names) and all(
        name in BANDS or name in SENSORS.get(sensor, {}) for name in names
    )


def draft_band_lines(layout: Layout, look: Fingerprint, choice: BandChoice) -> Iterator[Line]:
    """Yield the card's lines on bands, sensor, grids and clouds."""
    if choice.sensor:
        yield Line(f"sensor: {choice.sensor}", choice.sensor_reason)
    yield Line(f"bands: [{', '.join(choice.names)}]", choice.reason)
    texts = {name: layout.bands[name] for name in choice.names if name in layout.bands}
    odd = {n: t for n, t in texts.items() if t not in token_of(n, None)}
    if odd:
        pairs = ", ".join(f"{name}: {text}" for name, text in odd.items())
        yield Line(f"band_files: {{{pairs}}}", "the text of {band} in the files' names")
    if look.finest:
        to = look.finest if look.finest in choice.names else _finest(choice)
        yield Line(f"warp: {{to: {to}}}", "the bands' pixels differ in size: all on this grid")
    if layout.quality is not None:
        template, content = layout.quality
        yield Line(
            f'quality: {{file: "{template}", content: {content}}}',
            "clouds, their shadows and missing pixels are left out",
        )


def _finest(choice: BandChoice) -> str:
    """Return the chosen band with the smallest pixels, by its sensor."""
    table = SENSORS.get(choice.sensor, {})
    return min(choice.names, key=lambda name: table[name].pixel_m if name in table else 1e9)
