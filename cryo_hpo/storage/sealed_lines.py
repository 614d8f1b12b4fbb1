"""Seal the lines of JSON logs: each ends with the CRC-32 of the text before it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from typing import Any


def seal(record: Mapping[str, Any]) -> bytes:
    """Format a record as a line of JSON that ends with its checksum under the key `crc`.

    Raises:
        ValueError: A number is not finite.
    """
    body = json.dumps(record, allow_nan=False)[:-1].encode()
    return body + b', "crc": "%08x"}\n' % zlib.crc32(body)


def unseal(line: bytes) -> dict[str, Any] | None:
    """Parse a sealed line; None if it is torn or damaged."""
    body, mark, rest = line.rpartition(b', "crc": "')
    if not mark or rest != b'%08x"}\n' % zlib.crc32(body):
        return None
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
