"""A wide space in Python: the learning rates of a YAML file, and what may depend on each other.

In a study: `space: ../wide.py:space`. As YAML: `cryo-hpo space search_spaces/wide.py:space`.
"""

from __future__ import annotations

from pathlib import Path

from cryo_hpo import Choice, Float, Int, SearchSpace, When, load_space

HERE = Path(__file__).parent


def space() -> SearchSpace:
    """Return rates, regularization and loss; what only some choices have exists only there."""
    rates = load_space(HERE / "lr-groups.yaml")
    return rates | SearchSpace(
        params={
            "model.tune": Choice(values=("full", "frozen")),
            "optim.encoder_lr_scale": Float(low=0.01, high=1.0, log=True),
            "optim.layer_decay": Float(low=0.5, high=1.0),
            "optim.weight_decay": Float(low=1e-4, high=0.3, log=True),
            "optim.warmup_epochs": Int(low=0, high=2),
            "loss.name": Choice(values=("ce", "focal", "ce+dice")),
            "loss.focal_gamma": Float(low=0.5, high=4.0),
            "batch_size": Choice(values=(8, 16, 32)),
        },
        when={
            "optim.encoder_lr_scale": When(param="model.tune", is_in=("full",)),
            "optim.layer_decay": When(param="model.tune", is_in=("full",)),
            "loss.focal_gamma": When(param="loss.name", is_in=("focal",)),
        },
    )
