"""Import timm without W&B, which timm would import for its training scripts: seconds of every process."""

from __future__ import annotations

import sys


def import_timm() -> None:
    """Import timm; where W&B is installed and not yet imported, hide it meanwhile.

    `timm.utils.summary` imports it if it can, and takes an ImportError for "not installed".
    Measured with wandb 0.30: 5.7 of 14 s of `cryo-hpo check`.
    """
    hidden = "wandb" not in sys.modules
    if hidden:
        sys.modules["wandb"] = None  # type: ignore[assignment]  # an import then raises ImportError
    try:
        import timm  # noqa: F401
    finally:
        if hidden:
            del sys.modules["wandb"]


import_timm()
