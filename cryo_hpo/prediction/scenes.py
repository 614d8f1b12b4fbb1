"""Plan the maps of one scene, or of the scenes in files, folders and patterns."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..data.companions import is_envi
from ..data.layout import RASTERS
from ..data.outlines import SUFFIX, require_coordinates, require_suffix
from ..errors import SpecError

MAP_SUFFIX = ".tif"  # of maps that are named after their scenes


class MapJob(NamedTuple):
    """Hold one scene and the files that are written of it."""

    scene: Path
    out: Path
    probabilities: Path | None
    uncertainty: Path | None
    vector: Path | None


def plan_maps(
    scenes: Sequence[str],
    *,
    out: Path,
    probabilities: Path | None = None,
    uncertainty: Path | None = None,
    vector: Path | None = None,
) -> list[MapJob]:
    """Return a job for each scene.

    Args:
        scenes: Files, folders and patterns. One file gives one map named `out`; anything else
            gives maps with the names of the scenes, in the folder `out`.
        out: Map, or folder of maps.
        probabilities: File or folder of the probabilities; None: none.
        uncertainty: File or folder of the uncertainties; None: none.
        vector: File or folder of the outlines; None: none.

    Raises:
        SpecError: A pattern or folder has no scene, two maps would have one name, or an output is
            a file where a folder is required.
        DataError: Outlines are requested of a scene without coordinates.
    """
    files = list(dict.fromkeys(file for scene in scenes for file in _expand(scene)))
    if vector is not None:
        for file in files:
            if file.is_file():  # a pattern of band files is looked at when it is opened
                require_coordinates(file)
    if len(scenes) == 1 and files == [Path(scenes[0])]:
        if vector is not None:
            require_suffix(vector)
        return [MapJob(files[0], out, probabilities, uncertainty, vector)]
    folders = [out, *filter(None, (probabilities, uncertainty, vector))]
    _refuse_files(folders, number=len(files))
    _refuse_equal_names(files)
    _refuse_overwriting(files, folders)
    return [
        MapJob(
            file,
            out / f"{_stem(file)}{MAP_SUFFIX}",
            probabilities and probabilities / f"{_stem(file)}{MAP_SUFFIX}",
            uncertainty and uncertainty / f"{_stem(file)}{MAP_SUFFIX}",
            vector and vector / f"{_stem(file)}{SUFFIX}",
        )
        for file in files
    ]


def _stem(scene: Path) -> str:
    """Return a scene's name without suffix, and without what stands for its bands."""
    return scene.stem.partition("{band}")[0].rstrip("-_.") if "{band}" in scene.stem else scene.stem


def _expand(scene: str) -> Iterator[Path]:
    """Yield the files of a file, folder or pattern.

    A file that does not exist is kept as it is, and so is the common path of a scene's bands.
    """
    path = Path(scene)
    if path.is_dir():
        # A scene in another format is named itself.
        files = sorted(f for f in path.iterdir() if f.suffix.lower() in RASTERS or is_envi(f))
        what = f"folder '{scene}' has no file that ends in {', '.join(sorted(RASTERS))}"
    elif path.exists() or not glob.has_magic(scene) or "{band}" in scene:
        files, what = [path], ""
    else:
        files = [file for name in sorted(glob.glob(scene)) if (file := Path(name)).is_file()]  # noqa: PTH207 (absolute patterns)
        what = f"pattern '{scene}' matches no file"
    if not files:
        raise SpecError(f"There is no scene to map: {what}. Check the path.")
    yield from files


def _refuse_files(folders: Sequence[Path], *, number: int) -> None:
    for folder in folders:
        if folder.is_file() or folder.suffix.lower() in (".tif", ".tiff", ".png", SUFFIX):
            message = (
                f"{number} scenes are mapped into folders, '{folder}' is the name of a file. "
                "Give a folder."
            )
            raise SpecError(message)


def _refuse_equal_names(files: Sequence[Path]) -> None:
    twice = [name for name, n in Counter(file.stem.lower() for file in files).items() if n > 1]
    if twice:
        message = (
            f"Two scenes would have one map '{twice[0]}{MAP_SUFFIX}': "
            f"{', '.join(str(f) for f in files if f.stem.lower() == twice[0])}. "
            "Map them into folders of their own."
        )
        raise SpecError(message)


def _refuse_overwriting(files: Sequence[Path], folders: Sequence[Path]) -> None:
    places = [folder.resolve() for folder in folders]
    taken = [file for file in files if file.parent.resolve() in places]
    if taken or len(set(places)) < len(places):
        what = f"'{taken[0]}' lies in a folder of maps" if taken else "two outputs are one folder"
        message = f"Scenes and their maps have folders of their own: {what}. Choose another --out."
        raise SpecError(message)
