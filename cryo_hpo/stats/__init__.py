"""Is the tuned recipe better, by how much, and how sure is that? Pure: numpy and scipy alone.

`paired` compares two recipes on the same seeds, `bootstrap` resamples seeds and scenes, `power`
says how many seeds a gain needs, `summary` describes the scores of one recipe.
"""

from .bootstrap import bca, bca_ratio, miou, over_scenes
from .intervals import Interval
from .paired import FEWEST, Improvement, Verdict, relative_improvement, typical_gain
from .power import MOST, power, seeds_needed
from .summary import Share, Summary, share, summary

__all__ = [
    "FEWEST",
    "MOST",
    "Improvement",
    "Interval",
    "Share",
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
