"""The doctor: what the nodes say of themselves, and what is wrong with it."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest
import torch
from click.testing import CliRunner

from cryo_hpo.cli.main import main
from cryo_hpo.config import Site
from cryo_hpo.execution.node import Node, examine, hints, problems

WELL = Node(
    address="10.0.0.1",
    host="a",
    versions={"python": "3.11.7", "ray": "2.60.0"},
    gpus=("A100",),
    promised_gpus=1.0,
    sees_mark=True,
    storage_problem="",
    data_problem="",
    free_gib={"storage": 100.0, "cache": 100.0, "shared memory": 8.0},
    skew_s=0.3,
)
OTHER = replace(WELL, address="10.0.0.2", host="b")
SICK = {
    "version": (
        replace(OTHER, versions={"python": "3.11.7", "ray": "2.59.0"}),
        "one version of ray",
    ),
    "no package": (replace(OTHER, versions={"python": "3.11.7", "ray": None}), "10.0.0.2 none"),
    "storage": (replace(OTHER, storage_problem="Read-only file system"), "Read-only file system"),
    "two disks": (replace(OTHER, sees_mark=False), "one disk for all nodes"),
    "store": (
        replace(OTHER, store_problem="Access Denied on 10.0.0.2.", sees_mark=False),
        "Denied",
    ),
    "data": (replace(OTHER, data_problem="'/data' cannot be read"), "'/data' cannot be read"),
    "clock": (replace(OTHER, skew_s=-7.0), "-7.0 s"),
    "fewer GPUs": (replace(OTHER, promised_gpus=2.0), "torch sees 1"),
    "no GPU": (replace(OTHER, gpus=(), promised_gpus=0.0), "torch sees none"),
    "old card": (replace(OTHER, card_problem="V100 has no kernels here."), "V100 has no kernels"),
    "disk": (
        replace(OTHER, free_gib={"storage": 0.5, "cache": 9, "shared memory": 8}),
        "5 GiB of storage",
    ),
    "shm": (
        replace(OTHER, free_gib={"storage": 50, "cache": 9, "shared memory": 0.06}),
        "--shm-size",
    ),
}


def test_a_cluster_that_is_well_has_no_problems():
    assert problems([WELL, OTHER], needs_gpus=True) == []


def test_with_an_object_store_nodes_need_no_disk_in_common():
    apart = replace(OTHER, store_problem="", sees_mark=False, storage_problem="No such folder")
    assert problems([WELL, apart], needs_gpus=True) == []


@pytest.mark.parametrize(("node", "expected"), SICK.values(), ids=SICK)
def test_each_problem_is_named_with_its_node_and_its_remedy(node, expected):
    (found,) = problems([WELL, node], needs_gpus=True)
    assert expected in found
    assert "10.0.0.2" in found
    assert found.endswith((".", "?"))


def test_all_problems_are_said_at_once():
    everything = replace(OTHER, sees_mark=False, skew_s=9.0, data_problem="no", gpus=())
    assert len(problems([WELL, everything], needs_gpus=False)) == 4


def test_data_that_are_not_there_yet_are_a_problem_of_clusters_only():
    bare = replace(WELL, data_problem="'/data' cannot be read", lacks_data=True)
    assert problems([bare], needs_gpus=True) == []
    assert hints([bare]) == [
        "There are no data yet: CRYO_DATA, '/data', does not exist. Put data there, or let "
        "`cryo-hpo data generate` make some."
    ]
    assert len(problems([WELL, replace(bare, address="b")], needs_gpus=True)) == 1
    closed = replace(bare, lacks_data=False)
    assert (hints([closed]), len(problems([closed], needs_gpus=True))) == ([], 1)


@pytest.mark.parametrize(
    ("capability", "available", "bf16", "problem", "emulates"),
    [
        ((7, 0), True, False, "compute capability 7.0", False),
        ((7, 5), True, False, "", True),
        ((9, 0), True, True, "", False),
        ((9, 0), False, False, "driver is too old", False),
    ],
)
def test_a_card_that_torch_cannot_use_is_named(
    capability, available, bf16, problem, emulates, tmp_path, monkeypatch
):
    doctor = pytest.importorskip("cryo_hpo.execution.doctor")
    put = monkeypatch.setattr
    put(torch.cuda, "device_count", lambda: 1)
    put(torch.cuda, "is_available", lambda: available)
    put(torch.cuda, "get_device_name", lambda *_: "Some card")
    put(torch.cuda, "get_device_capability", lambda: capability)
    put(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80"])
    put(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation or bf16)
    site = Site.from_env({"CRYO_STORAGE": str(tmp_path), "CRYO_CACHE": str(tmp_path / "cache")})
    node = doctor._look("here", site, "mark")
    assert problem in node.card_problem
    assert bool(node.card_problem) == bool(problem)
    assert node.emulates_bf16 == emulates
    assert any("only emulates bf16" in text for text in hints([node])) == emulates


def test_a_machine_is_examined(tmp_path):
    (tmp_path / "mark").touch()
    places = {"storage": tmp_path, "cache": tmp_path / "not/yet", "data": tmp_path / "none"}
    node = examine(address="here", **places, mark="mark", gpus=())
    assert node.sees_mark
    assert not node.storage_problem
    assert "cannot be read" in node.data_problem
    assert node.lacks_data
    assert node.free_gib["cache"] == pytest.approx(node.free_gib["storage"], rel=0.1)
    assert [p.name for p in tmp_path.iterdir()] == ["mark"], "nothing is left behind"
    file = tmp_path / "file"
    file.touch()
    assert examine(address="x", **{**places, "storage": file}, mark="m", gpus=()).storage_problem


def test_the_command_says_what_is_wrong(tmp_path, monkeypatch):
    for name in [n for n in os.environ if n.startswith(("CRYO_", "MLFLOW_", "RAY_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("CRYO_STORAGE", str(tmp_path / "runs"))
    monkeypatch.setenv("CRYO_DATA", str(tmp_path))
    monkeypatch.setenv("CRYO_CACHE", str(tmp_path / "cache"))
    well = CliRunner().invoke(main, ["doctor"])
    assert (well.exit_code, "Nothing is wrong." in well.output) == (0, True), well.output
    monkeypatch.setenv("CRYO_DATA", str(tmp_path / "nowhere"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:s3cret@127.0.0.1:9")
    sick = CliRunner().invoke(main, ["doctor", "--json"])
    assert sick.exit_code == 1
    report = json.loads(sick.output)
    (problem,) = report["problems"]
    assert "MLflow must answer" in problem
    (hint,) = report["hints"]
    assert "There are no data yet: CRYO_DATA" in hint
    assert "nowhere" in hint
    assert "s3cret" not in sick.output
