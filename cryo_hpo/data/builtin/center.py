"""Cut scenes down to their center, as Cryo-Bench's first revision read SICD."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..dataset import Dataset, Scene, SceneFiles


def center_scenes(dataset: Dataset) -> Dataset:
    """Return a dataset whose scenes are the central `size_px` pixels; unchanged if not `centered`.

    A scene smaller than that stays whole.
    """
    side = dataset.size_px
    if not dataset.centered or side is None:
        return dataset

    def read(item: SceneFiles) -> Scene:
        scene = dataset.read(item)
        tops = [max(length - side, 0) // 2 for length in scene.mask_HW.shape]
        place = np.s_[tops[0] : tops[0] + side, tops[1] : tops[1] + side]
        return scene._replace(
            image_CHW=np.ascontiguousarray(scene.image_CHW[:, *place]),
            mask_HW=np.ascontiguousarray(scene.mask_HW[place]),
            absent_HW=np.ascontiguousarray(scene.absent_HW[place]),
        )

    return replace(dataset, read=read, rules=f"{dataset.rules} center={side}")
