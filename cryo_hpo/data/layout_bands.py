"""Recognize scenes whose bands lie in files of their own, and the sensor that their names give."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import DataError
from .layer_names import canonical
from .region_split import PARTS

TOKEN = re.compile(
    r"(?P<id>.+?)(?P<sep>[-_.])(?P<token>(?:SR_|ST_|TOA_)?B\d{1,2}[AN]?(?:_\d{2}m)?|VV|VH|HH|HV)",
    re.IGNORECASE,
)
QUALITY = re.compile(r"(?P<id>.+?)(?P<sep>[-_.])(?P<token>QA_PIXEL|SCL(?:_\d{2}m)?)", re.IGNORECASE)
KINDS = {"QA_PIXEL": "qa_pixel", "SCL": "scl"}
SAFE = ".SAFE"
# Names of products, whose sensors number their bands differently.
# Source: USGS, Landsat Collection 2 product identifiers; ESA, Sentinel-2 naming convention.
LANDSAT = re.compile(r"(?:^|[/_])L[COTEM]0?([45789])_", re.IGNORECASE)
SENTINEL_2 = re.compile(r"(?:^|[/_])(?:S2[A-D]_|T\d{2}[A-Z]{3}_\d{8}T)", re.IGNORECASE)
SAME_NUMBERS = ({"4", "5", "7"}, {"8", "9"})

Key = tuple[str, str]
"""Part ("" without parts) and id of a scene."""


class BandPlace(NamedTuple):
    """Hold where the bands of scenes lie: what their paths have in common."""

    folder: str
    """With {split} for a part, and {id} and * within a SAFE folder."""
    name: str
    """Name after the id, with {band}: _{band}.TIF; in a SAFE folder the whole of it."""


class BandFile(NamedTuple):
    """Read a path as the file of a scene's band."""

    place: BandPlace
    key: Key
    token: str
    path: Path


def fold_suffix(name: str) -> str:
    """Return a name with its suffix as all its spellings: .tif for .TIF and .tiff."""
    match = re.fullmatch(r"(.*)(\.\w+)", name)
    if match is None:
        return name
    suffix = match[2].lower()
    return match[1] + (".tif" if suffix == ".tiff" else suffix)


def read_band_files(
    root: Path, files: Iterable[Path]
) -> dict[BandPlace, dict[Key, dict[str, Path]]]:
    """Return the files of each scene's bands by the text that names the band; two bands at least."""
    scenes: dict[BandPlace, dict[Key, dict[str, Path]]] = defaultdict(lambda: defaultdict(dict))
    spelled: dict[tuple[BandPlace, str], str] = {}  # suffixes and bands count in any case
    places: dict[BandPlace, Counter[BandPlace]] = defaultdict(Counter)
    for path in files:
        file = _read(path.relative_to(root), path, TOKEN, "{band}")
        if file is not None:
            place = file.place._replace(name=fold_suffix(file.place.name))
            token = spelled.setdefault((place, file.token.upper()), file.token)
            scenes[place][file.key][token] = path
            places[place][file.place] += 1
    several = {
        places[place].most_common(1)[0][0]: {
            key: _finest(tokens) for key, tokens in by_key.items() if len(tokens) > 1
        }
        for place, by_key in scenes.items()
    }
    return {place: by_key for place, by_key in several.items() if by_key}


def read_quality_files(root: Path, files: Iterable[Path]) -> dict[tuple[str, str], set[Key]]:
    """Return the scenes of each (path template, kind) of quality layers."""
    scenes: dict[tuple[str, str], set[Key]] = defaultdict(set)
    for path in files:
        file = _read(path.relative_to(root), path, QUALITY, "")
        if file is not None:
            name = file.place.name if "{id}" in file.place.folder else "{id}" + file.place.name
            template = "/".join(filter(None, (file.place.folder, name)))
            scenes[template, KINDS[_bare(file.token).upper()]].add(file.key)
    return dict(scenes)


def common_bands(scenes: Iterable[Mapping[str, Path]]) -> dict[str, str]:
    """Return band -> text in the files' names, for bands that all scenes have under one text."""
    shared = set.intersection(*(set(tokens) for tokens in scenes))
    bands: dict[str, str] = {}
    for token in sorted(shared, key=_order):
        bands.setdefault(canonical(_bare(token)), token)
    return bands


def guess_sensor(names: Sequence[str], bands: Iterable[str]) -> str:
    """Return the sensor that the names of scenes, or their bands, give; "" if they do not.

    Raises:
        DataError: The scenes are of sensors that number their bands differently.
    """
    bands = set(bands)
    numbers = {match[1] for name in names if (match := LANDSAT.search(name))}
    optical = sum(bool(SENTINEL_2.search(name)) for name in names)
    others = len(names) - optical - sum(bool(LANDSAT.search(name)) for name in names)
    alike = not numbers or any(numbers <= same for same in SAME_NUMBERS)
    if not alike or (numbers and optical):
        missions = [f"Landsat {number}" for number in sorted(numbers)]
        missions += ["Sentinel-2"] if optical else []
        raise DataError(
            f"The scenes are of {' and '.join(missions)}, which number their bands differently: B4 "
            "is red of one and near infrared of another. Put them into folders of their own"
            f"{'' if bands else ', or name layers of the same color in all by it: --bands RED,GREEN,BLUE'}."
        )
    if numbers and not others:
        return f"landsat-{max(numbers)}"
    if (optical and not others) or "B8A" in bands:
        return "sentinel-2"
    return "sentinel-1" if bands and bands <= {"VV", "VH", "HH", "HV"} else ""


def _read(inner: Path, path: Path, pattern: re.Pattern[str], hole: str) -> BandFile | None:
    match = pattern.fullmatch(inner.stem)
    folders = list(inner.parent.parts)
    if match is None and folders and folders[-1] not in PARTS:
        # A folder for each scene: LC08_x/B4.TIF is read as LC08_x_B4.TIF.
        return _read_in_folder(inner, path, pattern, hole)
    if match is None:
        return None
    parts = [name for name in folders if name in PARTS]
    part = parts[0] if len(parts) == 1 else ""
    place = ["{split}" if name in PARTS else name for name in folders]
    safe = next((i for i, name in enumerate(place) if name.upper().endswith(SAFE)), None)
    token = match["token"]
    end = (hole or token) + inner.suffix
    if safe is None and folders and folders[-1] == match["id"]:
        # A folder for each scene, named like its files: LC08_x/LC08_x_SR_B4.TIF.
        own = BandPlace("/".join([*place[:-1], "{id}"]), "{id}" + match["sep"] + end)
        return BandFile(own, (part, match["id"]), token, path)
    if safe is None:
        return BandFile(
            BandPlace("/".join(place), match["sep"] + end), (part, match["id"]), token, path
        )
    name = Path(place[safe]).stem
    inside = [re.sub(r"^R\d+m$", "R*", folder) for folder in place[safe + 1 :]]
    if len(inside) > 1 and inside[0] == "GRANULE":
        inside[1] = "*"
    folder = "/".join([*place[:safe], "{id}" + SAFE, *inside])
    return BandFile(BandPlace(folder, "*" + match["sep"] + end), (part, name), token, path)


def _read_in_folder(
    inner: Path, path: Path, pattern: re.Pattern[str], hole: str
) -> BandFile | None:
    """Read a file that is named for its band only, in a folder that is named for the scene."""
    match = pattern.fullmatch(f"x_{inner.stem}")
    if match is None:
        return None
    *above, scene = inner.parent.parts
    parts = [name for name in above if name in PARTS]
    place = ["{split}" if name in PARTS else name for name in above]
    name = (hole or match["token"]) + inner.suffix
    part = parts[0] if len(parts) == 1 else ""
    return BandFile(
        BandPlace("/".join([*place, "{id}"]), name), (part, scene), match["token"], path
    )


def _finest(tokens: Mapping[str, Path]) -> dict[str, Path]:
    """Return the files of the finest pixels where a band has several: B03_10m of B03_20m."""
    best: dict[str, str] = {}
    for token in sorted(tokens, key=_side):
        best.setdefault(_bare(token), token)
    return {token: tokens[token] for token in best.values()}


def _bare(token: str) -> str:
    """Return the text of a band without that of its pixels: B03 of B03_10m."""
    return re.sub(r"_\d+m$", "", token, flags=re.IGNORECASE)


def _side(token: str) -> int:
    match = re.search(r"_(\d+)m$", token, re.I)
    return int(match[1]) if match else 0


def _order(token: str) -> tuple[int, str]:
    match = re.search(r"B(\d+)", token, re.I)
    return (int(match[1]) if match else 0, token)
