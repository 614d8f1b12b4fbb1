"""Configure studies: recipes, search spaces, campaigns and sites as frozen values, and their files."""

from __future__ import annotations

from .campaign import Campaign, Cell, Matrix, Skip
from .dataset_card import DatasetCard
from .files.dump import (
    changed_values,
    differences,
    dump_space,
    dump_study,
    schema,
    space_schema,
)
from .files.load import add_line_numbers, load_card, load_space, load_study
from .files.load_campaign import (
    campaign_schema,
    cell_studies,
    dump_campaign,
    is_campaign,
    load_campaign,
    locate_in_campaign,
)
from .files.python_space import load_callable
from .files.shipped import find_source, format_source, is_shipped, list_shipped
from .hours import Hours
from .messages import explain
from .optim import OptimSpec
from .prior import Prior
from .recipe import PATHS, DataSpec, LoraSpec, LossSpec, ModelSpec, Recipe
from .seeds import SharedSeedLimit
from .site import Site
from .start import StartFrom
from .study import (
    Asha,
    DefineByRun,
    NoStopping,
    Resources,
    Search,
    SeedLimit,
    Study,
)
from .variation import explain_refusal

__all__ = [
    "PATHS",
    "Asha",
    "Campaign",
    "Cell",
    "DataSpec",
    "DatasetCard",
    "DefineByRun",
    "Hours",
    "LoraSpec",
    "LossSpec",
    "Matrix",
    "ModelSpec",
    "NoStopping",
    "OptimSpec",
    "Prior",
    "Recipe",
    "Resources",
    "Search",
    "SeedLimit",
    "SharedSeedLimit",
    "Site",
    "Skip",
    "StartFrom",
    "Study",
    "add_line_numbers",
    "campaign_schema",
    "cell_studies",
    "changed_values",
    "differences",
    "dump_campaign",
    "dump_space",
    "dump_study",
    "explain",
    "explain_refusal",
    "find_source",
    "format_source",
    "is_campaign",
    "is_shipped",
    "list_shipped",
    "load_callable",
    "load_campaign",
    "load_card",
    "load_space",
    "load_study",
    "locate_in_campaign",
    "schema",
    "space_schema",
]
