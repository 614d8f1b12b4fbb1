"""Bands by name: the table is consistent, and `select` finds them in any order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryo_hpo.bands import BANDS, Band, find_band, select
from cryo_hpo.errors import BandMismatch, UnknownName

some_bands = st.lists(st.sampled_from(list(BANDS.values())), unique=True)


@pytest.mark.parametrize("name", BANDS)
def test_table_is_keyed_by_name(name: str) -> None:
    assert find_band(name).name == name


def test_sentinel_2_has_thirteen_bands_from_violet_to_infrared() -> None:
    centres = [band.centre_um for band in BANDS.values() if band.sensor == "sentinel-2"]
    assert len(centres) == 13
    assert None not in centres
    assert centres == sorted(centre for centre in centres if centre)


def test_near_name_is_suggested() -> None:
    with pytest.raises(UnknownName, match=r"No band named 'GRAY'\. Did you mean 'GREY'\?"):
        find_band("GRAY")


@given(have=some_bands, data=st.data())
def test_select_gives_what_is_wanted_in_its_order(have: list[Band], data: st.DataObject) -> None:
    want = data.draw(st.lists(st.sampled_from(have))) if have else []
    assert [have[i] for i in select(have, want)] == want


def test_missing_bands_are_named() -> None:
    have, want = [find_band("VV")], [find_band(name) for name in ("B4", "VV", "B8A")]
    with pytest.raises(BandMismatch, match="B4 B8A not among VV"):
        select(have, want)
