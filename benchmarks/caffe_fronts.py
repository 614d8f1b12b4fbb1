"""Record the mean distance errors that CaFFe's own code finds, for tests/golden/caffe-fronts.npz.

    python -m benchmarks.caffe_fronts PATH/Calving_Fronts_and_Where_to_Find_Them

The folder is a checkout of github.com/Nora-Go/Calving_Fronts_and_Where_to_Find_Them (MIT license).
Its functions are run, none of them is copied: `front_error` of validate_or_test.py, and
`extract_front_from_zones` and `postprocess_zone_segmenation` of data_processing/data_postprocessing.py.
They need scikit-image, which this package does not.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import distance

OUT = Path(__file__).parents[1] / "tests" / "golden" / "caffe-fronts.npz"
GRAY = np.array([0, 64, 127, 254], np.uint8)  # its values of: no data, rock, glacier, ocean
SIDE, PAIRS = 96, 12
GSD_M = (6, 7, 12, 17, 20)  # of its scenes
SHORTEST_M = 750.0  # fronts that its post-processing deletes, in a path that is not a function


def functions(file: Path, *names: str) -> list[Callable[..., Any]]:
    """Return functions of a file, without the imports that the rest of it needs."""
    import skimage.measure

    tree = ast.parse(file.read_text())
    tree.body = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in names]
    space: dict[str, Any] = {"np": np, "skimage": skimage, "distance": distance}
    exec(compile(tree, str(file), "exec"), space)  # the code that the caller points to
    return [space[name] for name in names]


def scene(rng: np.random.Generator, *, rough: float, patches: int) -> NDArray[np.uint8]:
    """Return zones: a fjord with a glacier and its ocean, with stray patches as maps have them."""
    row, column = np.mgrid[:SIDE, :SIDE]
    noise = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 6) * rough
    front = SIDE * rng.uniform(0.35, 0.65) + 12 * np.sin(row / rng.uniform(8, 20)) + noise * SIDE
    zones = np.where(column < front, 2, 3)
    zones[np.abs(row - SIDE / 2) > SIDE * rng.uniform(0.3, 0.45)] = 1
    for _ in range(patches):
        y, x = rng.integers(0, SIDE, 2)
        size = rng.integers(2, 9)
        zones[y : y + size, x : x + size] = rng.integers(0, 4)
    return zones.astype(np.uint8)


def main() -> None:
    """Write zones, pixel sizes, and what the code finds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    (front_error,) = functions(folder / "validate_or_test.py", "front_error")
    extract, clean = functions(
        folder / "data_processing" / "data_postprocessing.py",
        "extract_front_from_zones",
        "postprocess_zone_segmenation",
    )
    rng = np.random.default_rng(0)
    truth = np.stack([scene(rng, rough=1.0, patches=0) for _ in range(PAIRS)])
    maps = np.stack([scene(rng, rough=3.0, patches=n) for n in range(PAIRS)])
    maps[-1][maps[-1] == 3] = 2  # a map without ocean has no front
    gsd_m = np.array([GSD_M[n % len(GSD_M)] for n in range(PAIRS)], float)
    fields: dict[str, list[NDArray[np.float64]]] = {"raw": [], "cleaned": []}
    for zones, mapped, side in zip(truth, maps, gsd_m, strict=True):
        line = extract(GRAY[zones], 0)
        lines = {
            "raw": extract(GRAY[mapped], 0),
            "cleaned": extract(clean(GRAY[mapped].copy()), SHORTEST_M / side),
        }
        for name, drawn in lines.items():
            is_there, errors = front_error(drawn / 255, line / 255)
            fields[name].append(side * errors if is_there else np.empty(0))
    facts: dict[str, Any] = {
        f"{k}_missing": np.array(sum(not len(e) for e in v)) for k, v in fields.items()
    }
    facts |= {f"{k}_mde_m": np.array(np.concatenate(v).mean()) for k, v in fields.items()}
    arrays = {"truth_NHW": truth, "map_NHW": maps, "gsd_m": gsd_m, **facts}
    np.savez_compressed(OUT, allow_pickle=False, **arrays)
    print({name: float(value) for name, value in facts.items()})


if __name__ == "__main__":
    main()
