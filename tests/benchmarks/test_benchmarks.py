"""`make bench` runs, at a size that says nothing about speed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.machines
def test_make_bench_measures_both_ratios(tmp_path):
    command = next(
        line for line in (ROOT / "Makefile").read_text().splitlines() if "benchmarks/" in line
    )
    script = command.split()[-1]
    sizes = ["--scenes", "8", "--size", "48", "--rounds", "2", "--epochs", "1"]
    done = subprocess.run(
        [sys.executable, ROOT / script, *sizes, "--json", tmp_path / "bench.json"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "bench.json").read_text())
    assert set(facts["data_path"]) == {"glid", "gld", "sicd", "caffe", "gsdd"}
    assert all(one["ratio"] > 0 and one["cpu_ratio"] > 0 for one in facts["data_path"].values())
    assert 0 < facts["quickstart_data_share"] < 1


@pytest.mark.machines
def test_a_pause_a_resume_and_a_new_trial_start_no_process(tmp_path):
    """With one worker and with two; Ray's default starts one each time."""
    sizes = ["--trials", "4", "--default-trials", "3", "--workers", "1", "2"]
    script = ROOT / "benchmarks" / "trial_overhead.py"
    done = subprocess.run(
        [sys.executable, script, *sizes, "--json", tmp_path / "bench.json"],
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    costs = json.loads((tmp_path / "bench.json").read_text())
    assert [(c["workers"], c["reuse"]) for c in costs] == [
        (1, True),
        (1, False),
        (2, True),
        (2, False),
    ]
    for cost in costs:
        assert cost["starts"] == (8 if cost["reuse"] else 6)
        assert cost["processes"] <= (cost["workers"] if cost["reuse"] else cost["starts"])
        assert cost["reuse"] or cost["processes"] == cost["starts"]


@pytest.mark.machines
def test_a_search_on_three_nodes_is_measured_whole(tmp_path):
    """Epochs outlast the start of a worker: else Tune goes on with those that are there."""
    sizes = ["--trials", "12", "--every", "4", "--epochs", "3", "--epoch-s", "5", "--memory"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scale", *sizes, "--json", tmp_path / "bench.json"],
        capture_output=True,
        text=True,
        timeout=500,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "bench.json").read_text())
    assert set(found["states"]) <= {"pruned", "complete"}
    assert (sum(found["states"].values()), len(found["starts"])) == (12, 3)
    assert [row["trials"] for row in found["rows"]] == [0, 4, 8, 12, 12]
    first, last = found["rows"][0], found["rows"][-1]
    assert last["epochs"] >= 12
    for part, seconds in last["cpu_s"].items():
        # a thread of a second may have taken less than a tick of the clock
        assert seconds >= first["cpu_s"][part], f"{part} went back in time"
    assert all(last["cpu_s"][part] > 0 for part in ("search rule", "sampler", "journal", "Tune"))
    assert all(row["rss_mib"] > 100 for row in found["rows"])
    sent = found["traffic"]
    assert sent["events"] >= sent["calls"] > 0
    assert sent["requests"] > 12, "a run has a start"
    assert sent["server_cpu_s"] > 0
    assert found["growth_kib"]
    assert f"12 trials {found['states']}" in done.stdout
