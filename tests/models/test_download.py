"""Weights from a server on this machine: the hub's way and a plain address, and every refusal."""

from __future__ import annotations

import hashlib
import io
import logging
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub.constants as hub
import pytest
import torch
from click.testing import CliRunner
from torch import nn

from cryo_hpo.cli.main import main
from cryo_hpo.errors import WeightsError
from cryo_hpo.models import lookup as encoders
from cryo_hpo.models.backbones.unet import UNet
from cryo_hpo.models.lookup import ENCODERS, Encoder
from cryo_hpo.models.weights.download import resolve_url
from cryo_hpo.models.weights.load import load_weights
from cryo_hpo.models.weights.published import Weights

from ..support.web import Web

FILE, HUB = "toy/w.pt", "hf://someone/toy/v1/w.pt"
ON_HUB = "/someone/toy/resolve/main/v1/w.pt"


def _build(*_: object, **knobs: Any) -> nn.Module:
    torch.manual_seed(0)
    return UNet(3, width=2)


def _checkpoint() -> bytes:
    file = io.BytesIO()
    torch.save({"model": {key: x * 0 for key, x in _build().state_dict().items()}}, file)
    return file.getvalue()


CONTENT = _checkpoint()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(hub, "HF_HUB_CACHE", str(tmp_path_factory.mktemp("hub")))
    monkeypatch.setattr(hub, "HF_HUB_OFFLINE", False)  # read by the client when it is imported
    with Web({ON_HUB: CONTENT, "/w.pt": CONTENT}) as server:
        server.headers = {"X-Repo-Commit": "1cb683f6c14739634cdfaaceb076529adf898c74"}
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        yield server


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Encoder:
    """An encoder of the table whose weights are a small file of the hub's."""
    published = Weights(
        file=FILE, url="https://far.example/toy", address=HUB, sha256=SHA256, entry="model"
    )
    card = replace(ENCODERS["unet"], name="toy", weights=published, build=_build)
    monkeypatch.setitem(encoders.ENCODERS, "toy", card)
    monkeypatch.setenv("CRYO_WEIGHTS", str(tmp_path))
    return card


def _cli(*words: str) -> Any:
    return CliRunner().invoke(main, ["weights", *words], catch_exceptions=False)


def _load(card: Encoder, root: Path, wanted: str | None = None) -> nn.Module:
    model = _build()
    load_weights(model, wanted, published=card.weights, root=root, name="toy")
    return model


def _is_zero(model: nn.Module) -> bool:
    return not any(x.any() for x in model.state_dict().values())


@pytest.mark.parametrize("wanted", [None, "hub"])
def test_a_training_fetches_what_it_lacks_once(
    web: Web, toy: Encoder, tmp_path: Path, wanted: str | None
) -> None:
    assert _is_zero(_load(toy, tmp_path, wanted))
    assert _is_zero(_load(toy, tmp_path, wanted))
    assert [path for path, _ in web.asked] == [ON_HUB] * 2  # its facts, then the file


def test_the_command_resumes_a_cut_download_and_compares(
    web: Web, toy: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = len(CONTENT) // 2
    monkeypatch.setattr(hub, "DOWNLOAD_CHUNK_SIZE", half)  # what came in whole chunks is kept
    web.cut = [half]
    done = _cli("get", "toy")
    assert done.exit_code == 0, done.output
    assert (tmp_path / FILE).read_bytes() == CONTENT
    assert web.asked[-1][1] == f"bytes={half}-"
    assert f"{tmp_path / FILE}: {len(_build().state_dict())} tensors, all of them fit 'toy'" in (
        done.output
    )


def test_the_list_says_what_is_here(web: Web, toy: Encoder, tmp_path: Path) -> None:
    row = next(line for line in _cli("list").output.splitlines() if line.startswith("toy"))
    assert row.split() == ["toy", "to", "fetch", FILE, HUB]
    _cli("get", "toy")
    row = next(line for line in _cli("list").output.splitlines() if line.startswith("toy"))
    assert row.split() == ["toy", "here", FILE, HUB]
    galileo = next(line for line in _cli("list").output.splitlines() if "galileo-nano" in line)
    assert galileo.split()[1] in ("to", "by", "here")


def _refused(toy: Encoder, root: Path) -> str:
    """The same message from the command and from a training; nothing is left behind."""
    done = _cli("get", "toy")
    assert done.exit_code == 1
    with pytest.raises(WeightsError) as caught:
        _load(toy, root)
    assert str(caught.value) in done.output
    assert not (root / FILE).exists()
    return str(caught.value)


def test_a_wrong_checksum_is_refused(web: Web, toy: Encoder, tmp_path: Path) -> None:
    web.files[ON_HUB] = CONTENT + b"x"
    message = _refused(toy, tmp_path)
    assert f"must have the sha256 {SHA256}" in message
    assert not list((tmp_path / "toy").glob("*.part"))


def test_a_file_that_is_not_there_any_more(web: Web, toy: Encoder, tmp_path: Path) -> None:
    web.files.clear()
    web.headers["X-Error-Code"] = "EntryNotFound"
    message = _refused(toy, tmp_path)
    assert "resolve/main/v1/w.pt: RemoteEntryNotFoundError: 404" in message
    assert f"at '{tmp_path / FILE}'" in message


def test_no_network_says_which_file_to_put_where(
    web: Web, toy: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Web({}) as gone:
        monkeypatch.setenv("HF_ENDPOINT", gone.url)
        monkeypatch.setattr(hub, "DEFAULT_ETAG_TIMEOUT", 0.1)
    message = _refused(toy, tmp_path)
    assert "The weights of 'toy' cannot be downloaded." in message
    assert f"Put the file from {gone.url}/someone/toy/resolve/main/v1/w.pt at " in message
    assert f"at '{tmp_path / FILE}', or set model.weights" in message


def test_the_clients_retries_are_one_line_in_our_words(
    web: Web,
    toy: Encoder,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Web({}) as gone:
        monkeypatch.setenv("HF_ENDPOINT", gone.url)
        monkeypatch.setattr(hub, "DEFAULT_ETAG_TIMEOUT", 0.1)
    library, theirs = logging.getLogger("huggingface_hub"), logging.NullHandler()
    printed: list[str] = []
    monkeypatch.setattr(theirs, "handle", lambda record: printed.append(record.getMessage()))
    library.addHandler(theirs)
    before = list(library.handlers)
    try:
        with pytest.raises(WeightsError):
            _load(toy, tmp_path)
        assert library.handlers == before
        assert printed == []
        library.warning("outside a download it prints as before")
        assert len(printed) == 1
    finally:
        library.removeHandler(theirs)
    lines = [record.getMessage() for record in caplog.records if "hub_log" in record.name]
    assert lines == [
        f"{gone.url} does not answer: it is tried again, for up to half a minute. On a machine "
        "without a way to the web, set HF_HUB_OFFLINE=1."
    ]


def test_a_machine_that_stays_offline_is_not_made_to_ask(
    web: Web, toy: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "set to stay offline" in _refused(toy, tmp_path)
    assert web.asked == []


def test_a_repository_behind_terms_names_the_token(web: Web, toy: Encoder, tmp_path: Path) -> None:
    web.files.clear()
    web.headers["X-Error-Code"] = "GatedRepo"
    assert "Accept its terms on the web, then set HF_TOKEN" in _refused(toy, tmp_path)


def test_the_token_of_the_environment_is_sent_to_the_hub_and_to_no_other(
    web: Web, toy: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    _load(toy, tmp_path)
    assert web.tokens == ["Bearer hf_secret"] * 2
    assert toy.weights is not None
    plain = replace(toy.weights, file="plain.pt", address=f"{web.url}/w.pt")
    _load(replace(toy, weights=plain), tmp_path)
    assert web.tokens[2:] == [""]


def test_the_cache_of_the_hub_serves_a_machine_that_stays_offline(
    web: Web, toy: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _load(toy, tmp_path)
    (tmp_path / FILE).unlink()
    web.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert _is_zero(_load(toy, tmp_path))
    assert web.asked == []


def test_a_file_of_the_wrong_checksum_leaves_the_cache_too(
    web: Web, toy: Encoder, tmp_path: Path
) -> None:
    web.files[ON_HUB] = CONTENT + b"x"
    _refused(toy, tmp_path)
    web.files[ON_HUB] = CONTENT
    assert _is_zero(_load(toy, tmp_path))


def test_weights_that_no_machine_can_fetch(
    web: Web, toy: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert toy.weights is not None
    alone = replace(toy, weights=replace(toy.weights, address=""))
    monkeypatch.setitem(encoders.ENCODERS, "toy", alone)
    message = _refused(alone, tmp_path)
    assert (
        "cannot be downloaded by a program. Put the file from https://far.example/toy at" in message
    )


def test_a_file_that_fits_another_encoder_is_kept_and_said(
    web: Web, toy: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(encoders.ENCODERS, "toy", replace(toy, build=lambda _: UNet(3, width=4)))
    done = _cli("get", "toy")
    assert done.exit_code == 1
    assert "weights must fit 'toy' key by key" in done.output


def test_encoders_without_weights_and_unknown_ones(toy: Encoder) -> None:
    assert "'unet' has no published weights" in _cli("get", "unet").output
    done = _cli("get", "galileo-nan")
    assert done.exit_code == 2
    assert "Did you mean 'galileo-nano'?" in done.output


def test_a_plain_address_is_used_as_it_is(web: Web, toy: Encoder, tmp_path: Path) -> None:
    assert toy.weights is not None
    plain = replace(toy, weights=replace(toy.weights, address=f"{web.url}/w.pt"))
    assert _is_zero(_load(plain, tmp_path))


def test_addresses_of_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert resolve_url(HUB) == "https://huggingface.co/someone/toy/resolve/main/v1/w.pt"
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    assert resolve_url(HUB) == "https://mirror.example/someone/toy/resolve/main/v1/w.pt"
    assert (
        resolve_url("hf://a/b@1cb683f/c/d.pth")
        == "https://mirror.example/a/b/resolve/1cb683f/c/d.pth"
    )
    assert resolve_url("https://x.example/w.pt") == "https://x.example/w.pt"


def test_what_a_library_fetches_is_kept_where_trainings_look(
    toy: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {key: x * 0 for key, x in _build().state_dict().items()}
    asked: list[nn.Module] = []

    def ask(model: nn.Module) -> dict[str, torch.Tensor]:
        asked.append(model)
        return state

    rules = Weights(file="timm/toy.safetensors", url="far", download=ask)
    card = replace(toy, weights=rules)
    monkeypatch.setitem(encoders.ENCODERS, "toy", card)
    done = _cli("get", "toy")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "timm" / "toy.safetensors").is_file()
    assert _is_zero(_load(card, tmp_path))
    assert len(asked) == 1


@pytest.mark.parametrize("offline", [False, True])
def test_a_library_that_cannot_fetch_is_answered_with_the_file_to_put(
    toy: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    def ask(_: nn.Module) -> dict[str, torch.Tensor]:
        raise OSError("no way to the web")

    monkeypatch.setenv("HF_HUB_OFFLINE", str(int(offline)))
    card = replace(toy, weights=Weights(file="timm/toy.safetensors", url="far", download=ask))
    with pytest.raises(WeightsError) as caught:
        _load(card, tmp_path)
    assert f"Put the file from far at '{tmp_path}/timm/toy.safetensors'" in str(caught.value)
    assert ("set to stay offline" in str(caught.value)) == offline


def test_a_mirror_serves_where_the_authors_file_cannot_be_fetched(
    web: Web, toy: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flat = io.BytesIO()
    torch.save({f"their.{key}": x * 0 for key, x in _build().state_dict().items()}, flat)
    web.files["/theirs/toy/resolve/1cb683f/flat.pt"] = flat.getvalue()
    mirror = Weights(
        file="toy/flat.pt",
        url="https://theirs.example",
        address="hf://theirs/toy@1cb683f/flat.pt",
        adapt=lambda _, state: {k.removeprefix("their."): x for k, x in state.items()},
    )
    assert toy.weights is not None
    card = replace(toy, weights=replace(toy.weights, address="", mirror=mirror))
    monkeypatch.setitem(encoders.ENCODERS, "toy", card)
    assert _cli("get", "toy").exit_code == 0
    assert (tmp_path / "toy" / "flat.pt").is_file()
    assert _is_zero(_load(card, tmp_path))
    assert _is_zero(_load(card, tmp_path, "toy/flat.pt"))
    (tmp_path / FILE).write_bytes(CONTENT)  # the authors' own, put there by hand, is preferred
    (tmp_path / "toy" / "flat.pt").write_bytes(b"not read")
    assert _is_zero(_load(card, tmp_path))
