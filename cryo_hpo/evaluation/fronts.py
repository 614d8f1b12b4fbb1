"""Compare fronts and areas of a map with those of its mask: distances, boundary F1, km2."""

# F fronts, K classes, X numbers of a front, Y numbers of a class, H W pixels, P pixels of a front

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.dataset import IGNORE
from ..errors import DataError, SpecError
from .front_cleaning import drop_short, fill_and_keep_largest
from .front_distance import mark_front, strips, sum_distances

ROUNDING = 1e-9  # share of a tolerance in meters that division by the pixel size may lose
BETWEEN = "|"  # "ice|ocean" is the edge of ice towards ocean only
CLEANED = ", cleaned"  # end of the name of a front that is cleaned before it is measured
M2_PER_KM2 = 1e6


class Front(NamedTuple):
    """Name the edge of one class: towards any other class, or towards a certain one."""

    name: str
    inside: int
    """Class number of the pixels that make up the front."""
    outside: int | None
    """Class number of their neighbors; None: any other class."""
    is_cleaned: bool = False
    """Whether the mapped front is cleaned as CaFFe's is; only of two classes, and in meters."""

    @property
    def cleaned(self) -> Front:
        """The same front, cleaned before it is measured."""
        return self._replace(name=f"{self.name}{CLEANED}", is_cleaned=True)

    @classmethod
    def named(cls, name: str, classes: Sequence[str]) -> Front:
        """Return the front of a name: a class ("ice"), or two ("ice|ocean").

        Raises:
            SpecError: There is no such class, or both are one.
        """
        if name in classes:
            return cls(name, list(classes).index(name), None)
        parts = name.split(BETWEEN)
        if len(parts) != 2 or len(set(parts)) < 2 or not set(parts) <= set(classes):
            message = (
                f"There is no front '{name}'. A front is the edge of a class, or of one class "
                f"towards another, as 'ice{BETWEEN}ocean'. Classes: {', '.join(classes)}."
            )
            raise SpecError(message)
        inside, outside = (list(classes).index(part) for part in parts)
        return cls(name, inside, outside)


def fronts_of(classes: Sequence[str], *names: str) -> tuple[Front, ...]:
    """Return the edges of all classes (of two classes, only the second's), and further ones.

    Args:
        classes: Names of the classes.
        names: Further fronts; see `Front.named`.
    """
    edges = classes[1:] if len(classes) == 2 else classes
    return tuple(Front.named(name, classes) for name in dict.fromkeys((*edges, *names)))


class Edge(NamedTuple):
    """Hold the sums of one front over scenes. In meters only where the pixel size is known."""

    truth: float = 0.0
    """Pixels of the front in the masks."""
    map: float = 0.0
    """Pixels of the front in the maps."""
    truth_near: float = 0.0
    """Pixels of the masks' front within the tolerance of the map's."""
    map_near: float = 0.0
    """Pixels of the maps' front within the tolerance of the mask's."""
    pixels: float = 0.0
    """Pixels of both fronts, in scenes where mask and map have one."""
    distance_px: float = 0.0
    """Sum of their distances to the other front, pixels."""
    pixels_m: float = 0.0
    """As `pixels`, in scenes of known pixel size."""
    distance_m: float = 0.0
    """As `distance_px`, meters."""
    scenes: float = 0.0
    """Scenes where mask and map have the front."""
    directed_px: float = 0.0
    """Sum over them of the mean distance from the map's front to the mask's, pixels."""
    scenes_m: float = 0.0
    """As `scenes`, of known pixel size."""
    directed_m: float = 0.0
    """As `directed_px`, meters."""
    missed: float = 0.0
    """Scenes whose mask has the front and whose map has none."""
    invented: float = 0.0
    """Scenes whose map has the front and whose mask has none."""
    lone: float = 0.0
    """Pixels of fronts in scenes where only mask or map has one."""
    lone_px: float = 0.0
    """These pixels times the scene's diagonal in pixels, the farthest that they can be off."""
    lone_known: float = 0.0
    """As `lone`, in scenes of known pixel size."""
    lone_m: float = 0.0
    """As `lone_px`, meters."""


class Area(NamedTuple):
    """Hold the sums of one class over scenes of known pixel size."""

    scenes: float = 0.0
    truth_km2: float = 0.0
    map_km2: float = 0.0
    error_km2: float = 0.0
    """Sum over scenes of |area in the map - area in the mask|."""


@dataclass(frozen=True, slots=True, eq=False)
class FieldSums:
    """Hold the sums over scenes from which errors of fronts and areas are computed.

    Attributes:
        fronts: Names of the fronts.
        edges_FX: Sums of each front, in the order of `Edge`.
        areas_KY: Sums of each class, in the order of `Area`.
    """

    fronts: tuple[str, ...]
    edges_FX: NDArray[np.float64]
    areas_KY: NDArray[np.float64]

    @classmethod
    def of(
        cls,
        truth_HW: NDArray[np.uint8],
        map_HW: NDArray[np.uint8],
        *,
        fronts: Sequence[Front],
        num_classes: int,
        gsd_m: float | None,
        tolerance_px: float = 2.0,
    ) -> FieldSums:
        """Compute the sums of one scene.

        Args:
            truth_HW: Mask; where it is ignored, the map is ignored too.
            map_HW: Map of the same pixels.
            fronts: Fronts to compare.
            num_classes: K.
            gsd_m: Side of a pixel, meters; None: unknown.
            tolerance_px: Distance within which a pixel of a front counts as found, pixels.

        Raises:
            DataError: The shapes differ.
        """
        if truth_HW.shape != map_HW.shape:
            message = f"A map must have its mask's shape, got {map_HW.shape} for {truth_HW.shape}."
            raise DataError(message)
        edges = [
            _front_edge(truth_HW, map_HW, front, gsd_m, tolerance_px * (1 + ROUNDING))
            for front in fronts
        ]
        areas = _areas(truth_HW, map_HW, num_classes, gsd_m)
        return cls(tuple(front.name for front in fronts), _matrix(edges, Edge), areas)

    def __add__(self, other: FieldSums) -> FieldSums:
        assert self.fronts == other.fronts, "one list of fronts for all parts of a sum"
        return FieldSums(
            self.fronts, self.edges_FX + other.edges_FX, self.areas_KY + other.areas_KY
        )

    def edge(self, name: str) -> Edge:
        """Return the sums of one front."""
        return Edge(*self.edges_FX[self.fronts.index(name)].tolist())

    def area(self, number: int) -> Area:
        """Return the sums of one class."""
        return Area(*self.areas_KY[number].tolist())

    def to_json(self) -> dict[str, Any]:
        """Return plain values that `from_json` reads."""
        return {
            "fronts": list(self.fronts),
            "edges": self.edges_FX.tolist(),
            "areas": self.areas_KY.tolist(),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> FieldSums:
        """Return the sums that `to_json` wrote."""
        edges, areas = (np.array(value[key], dtype=np.float64) for key in ("edges", "areas"))
        return cls(
            tuple(value["fronts"]),
            edges.reshape(-1, len(Edge._fields)),
            areas.reshape(-1, len(Area._fields)),
        )


def _front_edge(
    truth_HW: NDArray[np.uint8],
    map_HW: NDArray[np.uint8],
    front: Front,
    gsd_m: float | None,
    tolerance_px: float,
) -> Edge:
    """Compare a front in mask and map; one that is cleaned only where the pixel size is known."""
    mark = partial(mark_front, truth_HW=truth_HW, inside=front.inside, outside=front.outside)
    if not front.is_cleaned:
        return _edge(mark(truth_HW), mark(map_HW), gsd_m, tolerance_px)
    if gsd_m is None or front.outside is None:
        return Edge()
    whole_HW = fill_and_keep_largest(map_HW, inside=front.inside, outside=front.outside)
    return _edge(mark(truth_HW), drop_short(mark(whole_HW), gsd_m=gsd_m), gsd_m, tolerance_px)


def _edge(
    truth_HW: NDArray[np.bool_],
    map_HW: NDArray[np.bool_],
    gsd_m: float | None,
    tolerance_px: float,
) -> Edge:
    """Compare the pixels of a front in mask and map."""
    has_gsd = float(gsd_m is not None)
    side = gsd_m or 0.0
    if not truth_HW.any() or not map_HW.any():
        truth, mapped = (float(np.count_nonzero(each)) for each in (truth_HW, map_HW))
        lone, diagonal = truth + mapped, math.hypot(*truth_HW.shape)
        return Edge(
            truth=truth,
            map=mapped,
            missed=float(truth > 0),
            invented=float(mapped > 0),
            lone=lone,
            lone_px=lone * diagonal,
            lone_known=lone * has_gsd,
            lone_m=lone * diagonal * side,
        )
    to_map = sum_distances(truth_HW, map_HW, tolerance_px=tolerance_px)
    to_truth = sum_distances(map_HW, truth_HW, tolerance_px=tolerance_px)
    pixels, distance = float(to_map.number + to_truth.number), to_map.sum_px + to_truth.sum_px
    directed = to_truth.sum_px / to_truth.number
    return Edge(
        truth=float(to_map.number),
        map=float(to_truth.number),
        truth_near=float(to_map.near),
        map_near=float(to_truth.near),
        pixels=pixels,
        distance_px=distance,
        pixels_m=pixels * has_gsd,
        distance_m=distance * side,
        scenes=1.0,
        directed_px=directed,
        scenes_m=has_gsd,
        directed_m=directed * side,
    )


def _areas(
    truth_HW: NDArray[np.uint8], map_HW: NDArray[np.uint8], num: int, gsd_m: float | None
) -> NDArray[np.float64]:
    """Return the areas of each class, (K, Y); zeros where the pixel size is unknown."""
    if gsd_m is None:
        return np.zeros((num, len(Area._fields)))
    counts_2K = np.zeros((2, num), dtype=np.int64)
    for top, bottom in strips(len(truth_HW)):
        labeled_HW = truth_HW[top:bottom] != IGNORE
        for counts_K, part_HW in zip(counts_2K, (truth_HW, map_HW), strict=True):
            counts_K += np.bincount(part_HW[top:bottom][labeled_HW], minlength=num)[:num]
    truth_K, map_K = gsd_m**2 / M2_PER_KM2 * counts_2K
    return np.stack([np.ones(num), truth_K, map_K, np.abs(map_K - truth_K)], axis=1)


def _matrix(rows: Sequence[Edge], kind: type[Edge]) -> NDArray[np.float64]:
    return np.array(rows, dtype=np.float64).reshape(-1, len(kind._fields))
