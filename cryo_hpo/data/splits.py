"""List the scenes of a split's parts and hash their files; both are cached."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..config.site import expand_path
from ..config.split_rule import SplitRule
from ..errors import DataError
from ..storage.atomic import write_text
from ..storage.plain_files import parse_json
from .alignment import place_of
from .companions import companions
from .dataset import IGNORE, Dataset, SceneFiles, Split
from .leakage import SceneIdentity
from .progress_log import ProgressLog
from .raster import read_size
from .region_split import PARTS, divide
from .split_plan import plan_split
from .strips import read_strips
from .windows import describe_window, parse_window

BLOCK = 2**24  # bytes that are hashed at a time


def items_of(dataset: Dataset, root: Path, split: Split, *, cache: Path) -> Sequence[SceneFiles]:
    """List one part of the split that the dataset is used with, the official one or by region.

    A split by region reads every file of all parts once; the outcome is cached.

    Raises:
        DataError: The files do not match the dataset, or have no georeference.
    """
    if dataset.rule is not None:
        return parts_of(dataset, root, cache=cache)[split]
    if dataset.split_seed is None:
        return dataset.index(root, split)
    official = official_parts(dataset, root)
    by_id = {item.id: item for items in official.values() for item in items}
    memo = cache.absolute() / f"{_where(dataset, root)}.region-{dataset.split_seed}.json"
    state = sha256(dataset.rules, *(facts for item in by_id.values() for facts in _facts(item)))
    kept = _parts(memo, state)
    if kept is None or set().union(*kept.values()) != set(by_id):
        parts = divide(dataset, *_surveyed(dataset, root, official, cache=cache.absolute()))
        kept = {part: [item.id for item in items] for part, items in parts.items()}
        _remember(memo, {"state": state, "parts": kept})
    return [by_id[name] for name in kept[split]]


def parts_of(dataset: Dataset, root: Path, *, cache: Path) -> Mapping[Split, list[SceneFiles]]:
    """List all parts of a dataset: as published, by region, or as its rule divides it.

    Raises:
        DataError: The files do not match the dataset, or cannot be divided by its rule.
    """
    if dataset.rule is not None:
        return _ruled_parts(dataset, dataset.rule, root, cache=cache.absolute())
    if dataset.split_seed is None:
        return official_parts(dataset, root)
    return {part: list(items_of(dataset, root, part, cache=cache)) for part in PARTS}


def _ruled_parts(
    dataset: Dataset, rule: SplitRule, root: Path, *, cache: Path
) -> dict[Split, list[SceneFiles]]:
    """Divide all scenes once; the outcome is cached."""
    scenes = {item.id: item for item in dataset.index(root, "train")}
    folder = root / expand_path(dataset.folder, os.environ, named="root")
    state = sha256(
        rule.model_dump(mode="json"),
        dataset.rules,
        _list_digest(folder, rule),
        *(facts for item in scenes.values() for facts in _facts(item)),
    )
    memo = cache / f"{_where(dataset, root)}.{state[:16]}.split.json"
    kept = _parts(memo, state)
    if kept is None:
        identities = identify_scenes(dataset, root, list(scenes.values()), cache=cache)
        parts = plan_split(
            dataset.name,
            rule,
            identities,
            root=folder,
            count=partial(_count_classes, dataset),
            measure=lambda item: read_size(item.image, root=item.root),
        )
        rows = {part: [_row(item) for item in items] for part, items in parts.items()}
        _remember(memo, {"state": state, "parts": rows})
        return parts
    return {
        part: [
            scenes[of]._replace(id=name, window=parse_window(window))
            for name, of, window in kept[part]
        ]
        for part in PARTS
    }


def _row(item: SceneFiles) -> tuple[str, str, list[int] | None]:
    """Return an item as its id, the id of its scene, and its window."""
    scene = item.id if item.window is None else item.id.rpartition("@")[0]
    return item.id, scene, describe_window(item.window)


def _list_digest(folder: Path, rule: SplitRule) -> str:
    file = folder / rule.file if rule.file else None
    return _content_sha256((file,)) if file is not None and file.is_file() else ""


def _count_classes(dataset: Dataset, item: SceneFiles) -> list[int]:
    """Return the labeled pixels of each class in a scene."""
    counts_K = np.zeros(len(dataset.classes), dtype=np.int64)
    for _, scene in read_strips(dataset, item):
        labels = scene.mask_HW[scene.mask_HW != IGNORE]
        counts_K += np.bincount(labels, minlength=len(dataset.classes))
    counts: list[int] = counts_K.tolist()
    return counts


def official_parts(dataset: Dataset, root: Path) -> dict[Split, list[SceneFiles]]:
    """List all parts of the official split; ids that occur twice get the name of their part.

    Raises:
        DataError: The files do not match the dataset.
    """
    parts = {part: list(dataset.index(root, part)) for part in PARTS}
    ids = [item.id for items in parts.values() for item in items]
    if len(set(ids)) == len(ids):
        return parts
    return {
        part: [item._replace(id=f"{part}-{item.id}") for item in items]
        for part, items in parts.items()
    }


def identify_scenes(
    dataset: Dataset, root: Path, items: Sequence[SceneFiles], *, cache: Path
) -> list[SceneIdentity]:
    """Return the identity of scenes (hashes and positions), by which related scenes are found."""
    digests = digests_of(dataset, root, items, cache=cache.absolute())
    return [_identity(item, digest) for item, (digest, _) in zip(items, digests, strict=True)]


def _identity(item: SceneFiles, digest: str) -> SceneIdentity:
    digest = _digest_window(digest, item)
    place = place_of(item.image, root=item.root, window=item.window)
    if place is None:
        return SceneIdentity(item, digest, None)
    return SceneIdentity(item, digest, *place)


def _digest_window(digest: str, item: SceneFiles) -> str:
    """Return the hash of an image, or of a block of it: blocks of one file differ."""
    return digest if item.window is None else sha256(digest, describe_window(item.window))


def _surveyed(
    dataset: Dataset, root: Path, official: Mapping[Split, Sequence[SceneFiles]], *, cache: Path
) -> tuple[dict[Split, list[SceneIdentity]], dict[str, list[int]]]:
    """Return the identities of every part's scenes, and each scene's labeled pixels by class."""
    kin = {
        part: identify_scenes(dataset, root, items, cache=cache) for part, items in official.items()
    }
    counts = {}
    for item in (item for items in official.values() for item in items):
        counts[item.id] = _count_classes(dataset, item)
    return kin, counts


def _parts(memo: Path, state: str) -> dict[str, list[Any]] | None:
    try:
        memory = parse_json(memo.read_text(encoding="utf-8"))
        return dict(memory["parts"]) if memory["state"] == state else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _where(dataset: Dataset, root: Path) -> str:
    return sha256(str(root.absolute()), dataset.name)[:16]


def digests_of(
    dataset: Dataset, root: Path, items: Sequence[SceneFiles], *, cache: Path
) -> list[tuple[str, str]]:
    """Return the sha256 of each scene's image and mask.

    Raises:
        DataError: A file cannot be read.
    """
    try:
        return _file_digests(items, memo=cache / f"{_where(dataset, root)}.hashes.json")
    except OSError as error:
        raise DataError(f"{root}: a dataset's files must be readable: {error}.") from error


def _facts(item: SceneFiles) -> Iterator[str]:
    """Yield the region and the file states of a scene, sidecars and VRT sources included."""
    yield f"{item.id} region {item.region}"
    for path in (*item.image_files, item.mask):
        for file in (path, *companions(path)):
            yield f"{item.id} {_state(file)}"


def _file_digests(items: Sequence[SceneFiles], *, memo: Path) -> list[tuple[str, str]]:
    """Return the sha256 of each item's image and mask; unchanged files are not read again."""
    remembered = _remembered(memo)
    digests: dict[str, tuple[str, str]] = {}
    # Blocks of one scene are items with one file: it is read once.
    sets = list(dict.fromkeys(p for item in items for p in (item.image_files, (item.mask,))))
    with ProgressLog("hashing files", sum(map(_bytes, sets))) as progress:
        for paths in sets:
            files = [file for path in paths for file in (path, *companions(path))]
            state = " ".join(map(_state, files))
            old, digest = remembered.get(_key(paths), ("", ""))
            if old == state:
                progress.advance(_bytes(paths))
            else:
                digest = _content_sha256(files, progress)
            digests[_key(paths)] = (state, digest)
    if any(remembered.get(path) != facts for path, facts in digests.items()):
        _remember(memo, remembered | digests)
    return [(digests[_key(item.image_files)][1], digests[str(item.mask)][1]) for item in items]


def _bytes(paths: Sequence[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def _key(paths: Sequence[Path]) -> str:
    return os.pathsep.join(map(str, paths))


def _state(path: Path) -> str:
    """Return size, dates and inode of a file; any change of content changes one of them.

    Size and modification time can equal those of the previous file (`rsync`, `cp -p`, `touch -r`);
    the time of the last inode change cannot be set.
    """
    stat = path.stat()
    return f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"


def _remember(memo: Path, facts: Mapping[str, Any]) -> None:
    """Write a memo; a cache that is not writable only costs time, and building reports it."""
    with suppress(OSError):
        memo.parent.mkdir(parents=True, exist_ok=True)
        write_text(memo, json.dumps(facts), durable=False)


def _remembered(memo: Path) -> dict[str, tuple[str, str]]:
    try:
        return {
            path: (facts, digest)
            for path, (facts, digest) in parse_json(memo.read_text(encoding="utf-8")).items()
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _content_sha256(files: Sequence[Path], progress: ProgressLog | None = None) -> str:
    """Return the hash of a file's content; with sidecars or sources, of all their contents."""
    digests = []
    for path in files:
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
                if progress is not None:
                    progress.advance(len(block))
        digests.append(digest.hexdigest())
    return digests[0] if len(digests) == 1 else sha256(*digests)


def sha256(*facts: object) -> str:
    """Return the hash of facts, as JSON."""
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
