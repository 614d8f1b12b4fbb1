"""The tolerance of boundaries measures a study; no search may vary it."""

from __future__ import annotations

import pytest

from cryo_hpo.config.recipe import PATHS, DataSpec, Recipe
from cryo_hpo.errors import UnknownName


def test_a_recipe_with_the_usual_tolerance_keeps_its_id() -> None:
    usual = Recipe(data=DataSpec(name="glid"))
    named = Recipe(data=DataSpec(name="glid", boundary_tolerance="2 px"))
    other = Recipe(data=DataSpec(name="glid", boundary_tolerance="30 m"))
    assert usual.id == named.id
    assert other.id != usual.id


def test_no_search_and_no_arm_can_vary_it() -> None:
    assert "data.boundary_tolerance" not in PATHS
    with pytest.raises(UnknownName):
        Recipe(data=DataSpec(name="glid")).replace({"data.boundary_tolerance": "9 px"})


def test_a_tolerance_without_a_unit_is_refused_with_the_remedy() -> None:
    with pytest.raises(ValueError, match="Write 2 px or 30 m"):
        DataSpec(name="glid", boundary_tolerance="2")
