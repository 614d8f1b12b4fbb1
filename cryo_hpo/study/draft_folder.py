"""Draft a dataset card and a study for a folder of images and masks, and check both."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..config import add_line_numbers, load_study
from ..config.site import Site
from ..data.audit import describe_overlap
from ..data.fingerprint import take_fingerprint
from ..data.layout import recognize_layout
from ..data.leakage import find_shared
from ..data.region_split import PARTS
from ..data.splits import identify_scenes, parts_of
from ..errors import CryoError, SpecError
from ..storage.atomic import restoring, write_text
from ..training.build import dataset_of, scenes_of
from .draft import draft_study
from .draft_card import Choices, draft_card, finer_blocks, format_lines, open_points_of
from .open_points import OpenPoint
from .preflight import check
from .timing import measure_epoch

if TYPE_CHECKING:
    from ..data.fingerprint import Fingerprint
    from ..data.layout import Layout
    from .timing import EpochSize

LEAK = (
    "Scores are too good then. Move such scenes into one part, or put all scenes together for an "
    "automatic division."
)


@dataclass(frozen=True, slots=True)
class Draft:
    """Hold the two files that were drafted for a folder, and what they assume.

    Attributes:
        card: File of the dataset card.
        study: File of the study: `load_study(draft.study)`.
        open_points: What the files of the folder do not settle, guesses first.
    """

    card: Path
    study: Path
    open_points: tuple[OpenPoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafter:
    """Write a folder's card and study for a user's choices, and check them.

    Attributes:
        folder: Folder of images and masks.
        layout: Layout of the scenes' files.
        look: Fingerprint of the scenes.
        site: Locations of data, cache and weights.
        card: File of the card.
        study: File of the study.
    """

    folder: Path
    layout: Layout
    look: Fingerprint
    site: Site
    card: Path
    study: Path

    @property
    def files(self) -> tuple[Path, Path]:
        """Both files."""
        return self.card, self.study

    def write(self, choices: Choices) -> None:
        """Write both files."""
        card = draft_card(self.layout, self.look, choices, root=self.folder)
        study = draft_study(
            self.layout, self.look, choices, card=self.card.name, weights=self.site.weights
        )
        self.card.parent.mkdir(parents=True, exist_ok=True)
        for file, lines in ((self.card, card), (self.study, study)):
            write_text(file, format_lines(lines))

    def divide(self, choices: Choices) -> Choices:
        """Write both files, with blocks of ground so small that no part has one class only.

        Returns:
            The choices, with the side of the blocks where it had to be lowered. Where no side helps,
            the choices as they were: the check of the draft says what is wrong.
        """
        self.write(choices)
        if not self._has_part_of_one_class():
            return choices
        for side in finer_blocks(self.layout, self.look):
            finer = replace(choices, block_px=side)
            self.write(finer)
            if self._has_part_of_one_class() is False:
                return finer
        self.write(choices)
        return choices

    def _has_part_of_one_class(self) -> bool | None:
        """Return whether the labels of a part are all of one class; None: the data cannot be read."""
        recipe = load_study(self.study).base
        try:
            counts = [scenes_of(recipe, part, self.site).class_counts for part in PARTS]
        except CryoError:
            return None
        return any(sum(count > 0 for count in counts_K) == 1 for counts_K in counts)

    def count(self) -> EpochSize:
        """Check data and study, and count what the split's train part gives in an epoch.

        Raises:
            CryoError: The drafted study cannot train.
        """
        study = load_study(self.study)
        try:
            check(study, site=self.site)
        except CryoError as error:
            raise add_line_numbers(error, self.study) from error
        return measure_epoch(study.base, self.site)

    def open_points(self, choices: Choices) -> tuple[OpenPoint, ...]:
        """Return what the draft assumes and the files do not settle, and what given parts share."""
        leaks = tuple(self._leaks()) if self.layout.parts else ()
        return leaks + open_points_of(self.layout, self.look, choices)

    def _leaks(self) -> Iterator[OpenPoint]:
        """Yield what the folders train, val and test share: regions, ground or images."""
        dataset = dataset_of(load_study(self.study).base.data)
        kin = {
            part: identify_scenes(dataset, self.site.data, items, cache=self.site.cache)
            for part, items in parts_of(dataset, self.site.data, cache=self.site.cache).items()
        }
        for overlap in find_shared(kin):
            for sentence in describe_overlap(overlap):
                yield OpenPoint("", sentence, LEAK, is_guess=True)


def draft_folder(  # noqa: PLR0913 (all but the folder by name)
    folder: Path | str,
    *,
    out: Path | str = ".",
    name: str | None = None,
    classes: Sequence[str] | None = None,
    bands: Sequence[str] | None = None,
    sensor: str | None = None,
    encoder: str | None = None,
    force: bool = False,
    site: Site | None = None,
) -> Draft:
    """Write a card and a study for a folder of images and masks, and check both.

    Args:
        folder: Images and masks in any of the usual layouts; `cryo-hpo init --help` names them.
        out: Folder of the two files.
        name: Name of dataset and study; None: the folder's.
        classes: Class names in the order of the mask values; or a text, "land,lake".
        bands: Band names in the order of the layers; or a text, "B4,B3,B2".
        sensor: Sensor whose numbers the bands are.
        encoder: One of `cryo-hpo list encoders`.
        force: Write over a card and a study of that name.
        site: Locations of data, cache and weights; None: by the environment.

    Returns:
        The two files, and the points to check before the study runs.

    Raises:
        CryoError: The files do not determine what a draft needs, or the draft cannot train; then no
            file is left.
    """
    root = Path(folder).expanduser().absolute()
    choices = Choices(
        name=name or as_name(root.name),
        classes=_names(classes),
        bands=_names(bands),
        encoder=encoder,
        sensor=sensor,
    )
    drafter = begin_draft(
        root, choices.name, out=Path(out), force=force, site=site or Site.from_env(os.environ)
    )
    with restoring(drafter.files):
        choices = drafter.divide(choices)
        choices = replace(choices, epoch=drafter.count())
        drafter.write(choices)
    return Draft(drafter.card, drafter.study, drafter.open_points(choices))


def _names(given: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return names as a tuple; one text holds them as an option does, with commas between."""
    if isinstance(given, str):
        return tuple(name.strip() for name in given.split(","))
    return None if given is None else tuple(given)


def begin_draft(folder: Path, name: str, *, out: Path, force: bool, site: Site) -> Drafter:
    """Look at a folder's files.

    Raises:
        SpecError: No study may have this name, or the files exist already.
        DataError: There are no pairs of images and masks.
    """
    if name != as_name(name):
        message = (
            f"--name '{name}': a study's name has small letters, digits, '.', '_' and '-' only. "
            f"Take {as_name(name)}."
        )
        raise SpecError(message)
    card, study = out / f"{name}.card.yaml", out / f"{name}.yaml"
    existing = [str(file) for file in (card, study) if file.exists()]
    if existing and not force:
        message = (
            f"{' and '.join(existing)} exist already. Give another --name or --out, or --force to "
            "write over them."
        )
        raise SpecError(message)
    layout = recognize_layout(folder)
    look = take_fingerprint(layout)
    return Drafter(folder=folder, layout=layout, look=look, site=site, card=card, study=study)


def as_name(text: str) -> str:
    """Return a text as a name that a study may have."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._") or "mine"
