"""Bands by name: the table is consistent, and a plan says which goes where."""

from __future__ import annotations

import pytest

from cryo_hpo.bands import BANDS, BandPlan, Slot, find_band
from cryo_hpo.errors import UnknownName


@pytest.mark.parametrize("name", BANDS)
def test_table_is_keyed_by_name(name: str) -> None:
    assert find_band(name).name == name


def test_sentinel_2_has_thirteen_bands_from_violet_to_infrared() -> None:
    centers = [band.center_um for band in BANDS.values() if band.sensor == "sentinel-2"]
    assert len(centers) == 13
    assert None not in centers
    assert centers == sorted(center for center in centers if center)


def test_near_name_is_suggested() -> None:
    with pytest.raises(UnknownName, match=r"No band named 'GRAY'\. Did you mean 'GREY'\?"):
        find_band("GRAY")


VV, VH, RED, GREEN, BLUE = (find_band(name) for name in ("VV", "VH", "RED", "GREEN", "BLUE"))
PLAN = BandPlan(
    have=(BLUE, VV, RED),
    slots=(Slot(find_band("B1"), None), Slot(find_band("B4"), 2), Slot(BLUE, 0)),
    missing="mean",
    masked=(VH,),
)


def test_a_plan_says_itself_in_a_line():
    assert str(PLAN) == "B1=mean B4=RED BLUE"


def test_what_a_plan_uses_and_leaves():
    assert PLAN.layers == (0, 2)
    assert PLAN.gaps == (0,)
    assert PLAN.unused == (VV,)
    assert [band.name for band in PLAN.bands] == ["B1", "B4", "BLUE"]


def test_only_all_layers_in_their_order_are_as_given():
    whole = BandPlan(have=(RED, GREEN), slots=(Slot(RED, 0), Slot(GREEN, 1)))
    assert whole.as_given
    for slots in ((Slot(RED, 0),), whole.slots[::-1], (Slot(RED, 0), Slot(GREEN, None))):
        assert not BandPlan(have=whole.have, slots=slots).as_given
