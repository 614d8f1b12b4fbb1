"""Checkpoints in an object store: nodes that share no disk pull_checkpoints a study to the same end."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cryo_hpo.config import Site
from cryo_hpo.errors import SpecError, StorageError
from cryo_hpo.execution.submit import command
from cryo_hpo.training.checkpoint_store import (
    Store,
    Workdir,
    ensure_store_usable,
    probe_store,
    pull_checkpoints,
    workdir_on,
)

from ..support import stores
from ..support.clusters import environment, free_ports, run, tiny_study, until
from ..support.nodes import hosts, why_not
from ..support.outcomes import outcome
from ..support.recorded import nodes_of_epochs, recorded_events, trains_on

PORT, TRIALS, EPOCHS = 5556, 4, 60


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "store").mkdir()
    places = {f"CRYO_{name.upper()}": str(tmp_path / name) for name in ("storage", "cache")}
    return Site.from_env({**places, "CRYO_CHECKPOINTS": f"file://{tmp_path}/store"})


def of(site: Site, node: str = "a") -> Workdir:
    here = site.model_copy(update={"cache": site.cache / node})
    return workdir_on(here, site.storage / "study" / "trials" / "trial-0001")


def test_what_one_node_sends_another_takes_up(site: Site) -> None:
    one, other = of(site, "a"), of(site, "b")
    one.pull("last.pt")
    one.folder.mkdir(parents=True, exist_ok=True)
    (one.folder / "last.pt").write_bytes(b"epoch 1")
    one.push("best.pt", "last.pt")
    other.pull("last.pt", "best.pt")
    assert (other.folder / "last.pt").read_bytes() == b"epoch 1"
    assert not (other.folder / "best.pt").exists()
    one.leave()
    assert not one.folder.exists()
    home = site.storage / "study" / "trials" / "trial-0001"
    pull_checkpoints(site, home, "last.pt")
    assert (home / "last.pt").read_bytes() == b"epoch 1"


def test_what_the_store_does_not_hold_is_older_and_goes(site: Site) -> None:
    place = of(site)
    place.folder.mkdir(parents=True)
    (place.folder / "before.pt").write_bytes(b"of an earlier life")
    place.pull("last.pt", "before.pt")
    assert list(place.folder.iterdir()) == []


def test_only_what_changed_is_sent(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    monkeypatch.setattr(Store, "send", lambda _, file, key: sent.append(f"{file.name} {key}"))
    place = of(site)
    place.folder.mkdir(parents=True)
    for name in ("best.pt", "last.pt"):
        (place.folder / name).write_bytes(name.encode())
    place.push("best.pt", "last.pt")
    os.utime(place.folder / "last.pt", ns=(1, 1))
    place.push("best.pt", "last.pt")
    key = "study/trials/trial-0001"
    assert sent == [f"{name} {key}/{name}" for name in ("best.pt", "last.pt", "last.pt")]


def test_without_a_store_a_training_works_where_the_driver_says(tmp_path: Path) -> None:
    site = Site.from_env({"CRYO_STORAGE": str(tmp_path)})
    place = workdir_on(site, tmp_path / "study" / "trial-0001")
    assert place.folder == tmp_path / "study" / "trial-0001"
    place.folder.mkdir(parents=True)
    place.pull("last.pt")
    place.push("last.pt")
    place.leave()
    assert place.folder.exists()
    assert probe_store(site) is None
    ensure_store_usable(site, "study", begun=False)


@pytest.mark.parametrize(
    ("url", "law"),
    [
        ("/shared/checkpoints", "is not a URL: '/shared/checkpoints'"),
        ("s3://[::1/x", r"is not a URL: 's3://\[::1/x'"),
        ("s3://key:word@bucket/x", "holds a key"),
        ("s3://bucket/x?secret_key=word", "holds a key"),
    ],
)
def test_an_address_that_is_none_or_holds_a_secret_is_refused(url: str, law: str) -> None:
    with pytest.raises(SpecError, match=law):
        Site.from_env({"CRYO_CHECKPOINTS": url})


def test_a_new_study_does_not_take_up_what_another_left(site: Site) -> None:
    ensure_store_usable(site, "study", begun=False)
    place = of(site)
    place.folder.mkdir(parents=True)
    (place.folder / "last.pt").write_bytes(b"x")
    place.push("last.pt")
    ensure_store_usable(site, "study", begun=True)
    ensure_store_usable(site, "other", begun=False)
    with pytest.raises(SpecError, match="already holds checkpoints of a study named"):
        ensure_store_usable(site, "study", begun=False)


@pytest.mark.slow
def test_a_store_that_does_not_answer_is_named_with_a_remedy(site: Site) -> None:
    (port,) = free_ports(1)
    away = site.model_copy(update={"checkpoints": stores.url("127.0.0.1", port)})
    os.environ.update(stores.KEYS)  # scrubbed after the test, like all of AWS_
    os.environ["AWS_MAX_ATTEMPTS"] = "1"
    with pytest.raises(StorageError, match="Check its address, keys and free space"):
        ensure_store_usable(away, "study", begun=False)
    assert "127.0.0.1" in (probe_store(away) or "")
    assert probe_store(site) == ""


def test_submit_sends_the_address_along_and_no_keys(
    site: Site, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").touch()
    env = {"CRYO_CHECKPOINTS": str(site.checkpoints), **stores.KEYS}
    words = command(tmp_path / "study.yaml", site, address="http://127.0.0.1:8265", env=env)
    sent = json.loads(words[words.index("--runtime-env-json") + 1])["env_vars"]
    assert sent["CRYO_CHECKPOINTS"] == site.checkpoints
    assert not set(stores.KEYS) & set(sent)


@pytest.mark.machines
@pytest.mark.skipif(bool(why_not()), reason=why_not() or "it can")
def test_hosts_without_a_common_disk_end_where_one_does(tmp_path: Path) -> None:
    """The second host sees an empty folder where the storage is, and dies in a training."""
    changes: dict[str, Any] = {"base__epochs": EPOCHS, "search__trials": TRIALS, "seeds": [1]}
    changes["search__parallel"] = None
    study = tiny_study(tmp_path / "sent", tmp_path / "data", name="apart", **changes)
    storage, folder = tmp_path / "storage", tmp_path / "storage/apart"
    storage.mkdir()
    places = {"CRYO_DATA": str(tmp_path / "data"), "CRYO_STORAGE": str(storage)}
    url = stores.url("10.97.0.1", PORT)
    with hosts(tmp_path, num=2, **stores.KEYS) as two:
        at_head = {"port": PORT, "address": "10.97.0.1", "host": two.names[0]}
        with stores.server(tmp_path, **at_head):  # type: ignore[arg-type]
            two.start(1, hidden=storage)
            env = {**places, "CRYO_CHECKPOINTS": url}
            until(lambda: '"10.97.0.2"' in two.run("cryo-hpo", "doctor", "--json", **env).output)
            healthy = two.run("cryo-hpo", "doctor", **env)
            assert healthy.code == 0, healthy.output
            log = tmp_path / "log.txt"
            words = ("ip", "netns", "exec", two.names[0], "cryo-hpo", "run", str(study))
            with log.open("w") as out:
                mine = {**two.env, **env, "CRYO_CACHE": str(two.cache(0))}
                driver = subprocess.Popen(words, env=mine, stdout=out, stderr=subprocess.STDOUT)
            try:
                until(lambda: len(nodes_of_epochs(folder)) == 2, timeout_s=240)
                until(
                    lambda: trains_on(folder, two.address(1), before=EPOCHS // 2),
                    timeout_s=120,
                    every_s=0.05,
                )
                assert not any(folder.rglob("last.pt")), "they lie in the store alone"
                two.kill(1)
                assert driver.wait(600) == 0, log.read_text()
            finally:
                driver.kill()
    text = log.read_text() + "".join(p.read_text() for p in folder.rglob("*.jsonl"))
    assert stores.KEYS["AWS_SECRET_ACCESS_KEY"] not in text + (folder / "result.json").read_text()
    _was_taken_up(folder, dead=two.address(1))
    alone = {**places, "CRYO_STORAGE": str(tmp_path / "alone"), "CRYO_CACHE": str(two.cache(0))}
    done = run("cryo-hpo", "run", "--inline", study, env=environment(**alone), timeout_s=600)
    assert done.code == 0, done.output
    assert outcome(folder / "result.json") == outcome(tmp_path / "alone/apart/result.json")


def _was_taken_up(folder: Path, *, dead: str) -> None:
    """What the dead host was training resumed from what it had sent: all but one epoch at most."""
    epochs = recorded_events(folder, "epoch")
    last = {e["key"]: e["epoch"] for e in epochs if e["node"] == dead}
    moved = {e["key"]: [] for e in epochs if e["key"] in last and e["node"] != dead}  # type: ignore[var-annotated]
    for e in epochs:
        if e["key"] in moved and e["node"] != dead:
            moved[e["key"]].append(e["epoch"])
    assert moved
    for key, seen in moved.items():
        assert min(seen) >= last[key] - 1, "the last one's checkpoint may have been on its way"
