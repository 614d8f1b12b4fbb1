"""Find the files of scenes by the path templates of a card."""

from __future__ import annotations

import glob
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..config.dataset_card import DatasetCard
from ..errors import DataError, count_of

SHOWN = 3  # names in a message; the others are counted
SIDECARS = (".hdr", ".xml", ".aux", ".ovr", ".msk", ".prj", ".sta", ".qml")
ALIKE = {".tif": (".tif", ".tiff"), ".tiff": (".tif", ".tiff"), ".jpg": (".jpg", ".jpeg")}


def find_files(
    root: Path, template: str, split: str, *, band: Sequence[str] = ()
) -> dict[str, Path]:
    """Return the files that match a template, by id; hidden files are not data.

    Suffixes match in any case, and `.tif` is also `.tiff`. Ids are composed Unicode (NFC), so that
    a name written on a Mac is the same name written on Linux. A * is any text within a name.

    Args:
        root: Folder of the dataset.
        template: Path below it.
        split: Text of {split}.
        band: Texts of {band}, any of them.

    Raises:
        DataError: The template is absolute, two files have the same id, or one is a pipe or device.
    """
    filled = unicodedata.normalize("NFC", template.replace("{split}", split))
    if Path(filled).is_absolute():
        raise DataError(
            f"{root}: 'images' and 'masks' of a card are paths below its 'root', got '{template}'. "
            "Move what all files share into 'root'."
        )
    suffix = Path(filled).suffix
    stem = filled[: len(filled) - len(suffix)]
    name = re.escape(stem).replace(r"\{id\}", "(?P<id>[^/]+)", 1).replace(r"\{id\}", "(?P=id)")
    name = name.replace(r"\*", "[^/]*")
    name = name.replace(r"\{band\}", f"(?i:{'|'.join(map(re.escape, band))})")
    ends = "|".join(map(re.escape, ALIKE.get(suffix.lower(), (suffix,))))
    pattern = re.compile(f"{name}(?i:{ends})")
    paths: dict[str, Path] = {}
    for path in sorted(root.glob(_wildcard(stem, suffix))):
        match = pattern.fullmatch(unicodedata.normalize("NFC", path.relative_to(root).as_posix()))
        if match is None or path.name.startswith("."):
            continue
        if not suffix and path.suffix.lower() in SIDECARS:
            continue  # a template without a suffix is for pixels of ENVI, named like their headers
        _refuse_pipe(path)
        twin = paths.setdefault(match["id"], path)
        if twin != path:
            raise DataError(
                f"{path}: its id '{match['id']}' is also that of '{twin.name}'. Remove or rename one."
            )
    return paths


def _refuse_pipe(path: Path) -> None:
    """Refuse a pipe, socket or device in a file's place: reading one may never end.

    Raises:
        DataError: The path is such a thing.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DataError(
            f"{path}: a scene's file must be a file, this is a pipe or device. Remove it."
        )


def _wildcard(stem: str, suffix: str) -> str:
    """Return the glob pattern of a template's files with any suffix; accents may be decomposed."""
    escaped = "*".join(map(glob.escape, stem.split("*")))
    bare = "".join(c if c.isascii() else "*" for c in escaped)
    return bare.replace("{id}", "*").replace("{band}", "*") + (".*" if suffix else "")


def find_band_files(card: DatasetCard, root: Path, part: str) -> dict[str, tuple[Path, ...]]:
    """Return the files of each scene's image by id: one, or one for each band.

    Raises:
        DataError: A scene lacks the file of a band.
    """
    if "{band}" not in card.images:
        return {name: (path,) for name, path in find_files(root, card.images, part).items()}
    by_band = [
        find_files(root, card.images, part, band=token_of(band, card.band_files))
        for band in card.bands
    ]
    names = sorted(set().union(*by_band))
    for band, files in zip(card.bands, by_band, strict=True):
        lacking = [name for name in names if name not in files]
        if lacking:
            raise DataError(
                f"{root}: {count_of(len(lacking), 'scene')} of '{card.name}' without the file of band {band} (first: "
                f"{', '.join(lacking[:SHOWN])}), looked for as '{card.images}' with "
                f"{' or '.join(token_of(band, card.band_files))} for {{band}}. Add the files, remove the band, or "
                f"name its file: `band_files: {{{band}: ...}}`."
            )
    return {name: tuple(files[name] for files in by_band) for name in names}


def scene_bands(
    template: Path, bands: Sequence[str], named: Mapping[str, str] | None = None
) -> tuple[Path, ...]:
    """Return the files of one scene's bands by the path they share.

    Args:
        template: Path with {band}; a * is any text within a name.
        bands: Names of the bands, as a card names them.
        named: Text of {band}, where it is not the band's name.

    Raises:
        DataError: A band has no file, or several.
    """
    files = []
    for band in bands:
        texts = token_of(band, named)
        matches = sorted(
            {
                p
                for text in texts
                for p in Path("/").glob(_band_pattern(template, text))
                if p.is_file()
            }
        )
        if len(matches) != 1:
            seen = ", ".join(p.name for p in matches[:SHOWN]) or "none"
            raise DataError(
                f"{template}: one file is needed for band {band}, with {' or '.join(texts)} for "
                f"{{band}}; {len(matches)} are there ({seen}). Check the path."
            )
        files.append(matches[0])
    return tuple(files)


def quality_of(scene: Path, images: str, layer: str) -> Path | None:
    """Return the quality layer beside one scene, by the templates of a card; None: it is not there.

    Args:
        scene: Path of the scene's image, or with {band} the common path of its bands.
        images: Template of a card's images; folders above {id} need not be those of the scene.
        layer: Template of its quality layers.
    """
    parts = Path(images).parts
    tail = "/".join(scene.absolute().parts[-len(parts) :])
    pattern = re.escape("/".join(parts)).replace(r"\*", "[^/]*").replace(r"\{split\}", "[^/]+")
    pattern = pattern.replace(r"\{id\}", "(?P<id>[^/]+)", 1).replace(r"\{id\}", "(?P=id)")
    match = re.fullmatch(pattern.replace(r"\{band\}", r"(?:\{band\}|[^/]+)"), tail, re.IGNORECASE)
    if match is None:
        return None
    split = re.search(r"\{split\}", images)
    part = tail.split("/")[images[: split.start()].count("/")] if split else ""
    root = scene.absolute().parents[len(parts) - 1]
    return find_files(root, layer, part).get(unicodedata.normalize("NFC", match["id"]))


def _band_pattern(template: Path, text: str) -> str:
    filled = str(template.absolute()).replace("{band}", text)
    return "*".join(map(glob.escape, filled.split("*"))).lstrip("/")


def token_of(band: str, named: Mapping[str, str] | None) -> tuple[str, ...]:
    """Return the texts that may stand for a band in a file's name."""
    if named and band in named:
        return (named[band],)
    number = re.fullmatch(r"B(\d)(\D?)", band)
    return (band, f"B0{number[1]}{number[2]}") if number else (band,)


def find_quality(card: DatasetCard, root: Path, part: str, names: set[str]) -> dict[str, Path]:
    """Return the quality layer of each scene by id; none if the card has none."""
    if card.quality is None:
        return {}
    layers = find_files(root, card.quality.file, part)
    lacking = sorted(names - set(layers))
    if lacking:
        raise DataError(
            f"{root}: {count_of(len(lacking), 'scene')} of '{card.name}' without a quality layer (first: "
            f"{', '.join(lacking[:SHOWN])}), looked for as '{card.quality.file}'. Add the files, or "
            "drop `quality` from the card."
        )
    return layers
