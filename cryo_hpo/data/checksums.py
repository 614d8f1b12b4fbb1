"""Keep checksums of a decoded copy in its index, and find damage that leaves the files' sizes."""

from __future__ import annotations

import json
import math
import secrets
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

BLOCK = 1 << 22  # bytes of a file that one checksum covers
CHECKED = 1 << 29  # bytes of a file that are compared when it is opened, about half a second
INDEX, SUMS, OWN = "index.json", "sums", "index"


def write_index(folder: Path, facts: Mapping[str, Any], files: Sequence[str]) -> None:
    """Write the index of a decoded copy, with the CRC-32 of each block of its files and its own.

    Raises:
        OSError: The folder cannot be written.
    """
    sums: dict[str, Any] = {name: list(_sums(folder / name)) for name in files}
    sums[OWN] = _own(facts)
    text = json.dumps({**facts, SUMS: sums})
    (folder / INDEX).write_text(text, encoding="utf-8")


def read_index(folder: Path) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """Return the facts of a decoded copy, and file -> the checksums of its blocks.

    Raises:
        ValueError: The index is damaged.
        KeyError: It lacks its checksums.
        OSError: It cannot be read.
    """
    facts = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    if not isinstance(facts, dict):
        raise ValueError(f"'{INDEX}' holds no facts")
    sums = dict(facts.pop(SUMS))
    if sums.pop(OWN) != _own(facts):
        raise ValueError(f"'{INDEX}' does not match its checksum")
    return facts, sums


def find_damage(folder: Path, sums: Mapping[str, Sequence[int]]) -> str:
    """Describe a block of a copy's files that does not match its checksum; empty if none is found.

    All blocks of a file of up to `CHECKED` bytes are compared; of a larger one as many blocks, spread
    evenly from a random one on.

    Raises:
        OSError: A file cannot be read.
    """
    for name, expected in sums.items():
        step = max(1, math.ceil(len(expected) * BLOCK / CHECKED))
        with (folder / name).open("rb") as file:
            for number in range(secrets.randbelow(step), len(expected), step):
                file.seek(number * BLOCK)
                if zlib.crc32(file.read(BLOCK)) != expected[number]:
                    return f"'{name}' does not match its checksum from byte {number * BLOCK:,} on"
    return ""


def _sums(path: Path) -> Iterator[int]:
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            yield zlib.crc32(block)


def _own(facts: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(facts).encode())
