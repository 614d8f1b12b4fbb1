"""Estimate and test the improvement of a tuned recipe. Pure: only numpy and scipy.

`paired` compares two recipes on the same seeds, `bootstrap` resamples seeds and scenes, `power`
computes the number of seeds that a gain needs, `summary` summarizes the scores of one recipe.
"""

from .bootstrap import bca, bca_ratio, miou, over_scenes
from .intervals import Interval
from .paired import FEWEST, Improvement, Verdict, relative_improvement, typical_gain
from .power import MOST, power, seeds_needed
from .sequential import MIN_CHANCE, Stopping
from .summary import Share, Summary, share, summary

__all__ = [
    "FEWEST",
    "MIN_CHANCE",
    "MOST",
    "Improvement",
    "Interval",
    "Share",
    "Stopping",
    "Summary",
    "Verdict",
    "bca",
    "bca_ratio",
    "miou",
    "over_scenes",
    "power",
    "relative_improvement",
    "seeds_needed",
    "share",
    "summary",
    "typical_gain",
]
