from __future__ import annotations

import pytest

from cryo_hpo import errors
from cryo_hpo.errors import CryoError, SpecError, UnknownName, did_you_mean

TREE = {
    "SpecError": "CryoError",
    "UnknownName": "SpecError",
    "BandMismatch": "SpecError",
    "DataError": "CryoError",
    "FetchError": "CryoError",
    "OutOfMemory": "CryoError",
    "WeightsError": "CryoError",
    "StorageError": "CryoError",
    "TrackingError": "CryoError",
    "ClusterDied": "CryoError",
    "Diverged": "CryoError",
}


@pytest.mark.parametrize(("name", "parent"), TREE.items())
def test_the_tree_is_the_one_drawn_on_top(name: str, parent: str) -> None:
    assert getattr(errors, name).__mro__[1] is getattr(errors, parent)
    assert name in (errors.__doc__ or "")


def test_every_exception_is_in_the_tree() -> None:
    own = {k for k, v in vars(errors).items() if isinstance(v, type) and issubclass(v, Exception)}
    assert own == {*TREE, "CryoError"}


def test_a_wrong_spec_is_also_a_value_error() -> None:
    assert issubclass(SpecError, ValueError)
    assert not issubclass(CryoError, ValueError)


def test_unknown_name_names_the_nearest_and_all_known() -> None:
    message = str(UnknownName("glidd", valid=["glid", "caffe"], what="dataset"))
    assert message == "No dataset named 'glidd'. Did you mean 'glid'? Known: caffe, glid."


def test_nothing_near_is_not_guessed() -> None:
    assert did_you_mean("zzz", ["glid"]) == ""
