"""Models with adapters: mapped, exported as adapters, and exported merged."""

# C bands, H W pixels

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from cryo_hpo.cli.main import main
from cryo_hpo.errors import WeightsError
from cryo_hpo.models import is_adapted
from cryo_hpo.models.segmenter import FINGERPRINT
from cryo_hpo.prediction.model import export_model, load_model, open_model

from ..support.finished import Finished, finished_study

MODEL = {"encoder": "galileo-nano", "decoder": "upernet", "channels": 8, "tune": "lora"}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, shared: Path) -> Finished:
    return finished_study(
        tmp_path_factory.mktemp("done"), model=MODEL, weights=shared / "weights", epochs=2
    )


@pytest.fixture(autouse=True)
def weights(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRYO_WEIGHTS", str(shared / "weights"))


def test_a_merged_export_maps_alike_and_needs_no_other_weights(
    done: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = export_model(done.folder, tmp_path / "adapters.pt", site=done.site)
    whole = export_model(done.folder, tmp_path / "merged.pt", site=done.site, merge=True)
    assert (card.merged, whole.merged) == (False, True)
    assert card.weights_sha256 != whole.weights_sha256
    assert FINGERPRINT in torch.load(tmp_path / "adapters.pt", weights_only=True)["model"]
    image_CHW = np.random.default_rng(0).integers(0, 255, (3, 40, 40)).astype("uint8")
    adapted = load_model(tmp_path / "adapters.pt")
    assert is_adapted(adapted.segmenter)
    monkeypatch.setenv("CRYO_WEIGHTS", str(tmp_path / "empty"))
    merged = load_model(tmp_path / "merged.pt")
    assert not is_adapted(merged.segmenter)
    expected = adapted.probabilities(image_CHW)
    np.testing.assert_allclose(merged.probabilities(image_CHW), expected, rtol=0, atol=1e-6)
    with pytest.raises(WeightsError, match="set to stay offline"):
        load_model(tmp_path / "adapters.pt")


def test_the_network_for_other_programs_is_merged_and_whole(done: Finished) -> None:
    model = open_model(done.folder, site=done.site)
    native = model.native()
    assert is_adapted(model.segmenter)
    assert not is_adapted(native)
    assert set(native.state_dict()) >= {key for key, _ in native.named_parameters()}


def test_the_command_merges_and_refuses_what_has_no_adapters(
    done: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CRYO_DATA", str(done.site.data))
    monkeypatch.setenv("CRYO_CACHE", str(done.site.cache))
    words = ["export", str(done.folder), "--out", str(tmp_path / "m.pt"), "--merge"]
    assert CliRunner().invoke(main, words, catch_exceptions=False).exit_code == 0
    assert load_model(tmp_path / "m.pt").card.merged
    plain = finished_study(tmp_path / "plain", epochs=1)
    words[1] = str(plain.folder)
    refused = CliRunner().invoke(main, words, catch_exceptions=False)
    assert refused.exit_code != 0
    assert "Only a model with adapters can be merged" in refused.output
