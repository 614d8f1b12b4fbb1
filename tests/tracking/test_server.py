"""MLflow's database file is made whole, by one process at a time, and named where it is damaged."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cryo_hpo.errors import TrackingError
from cryo_hpo.tracking.server import connect

CONNECT = "import sys; from cryo_hpo.tracking.server import connect; connect(sys.argv[1], 'cryo/x')"


@pytest.mark.slow
def test_studies_that_begin_together_share_one_new_database(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/runs/mlflow.db"
    together = [
        subprocess.Popen(
            [sys.executable, "-c", CONNECT, uri],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in together]
    assert [process.returncode for process in together] == [0, 0, 0], outputs
    assert [file.name for file in (tmp_path / "runs").glob("[!.]*")] == ["mlflow.db"]


def test_a_file_that_is_no_database_of_mlflow_is_named_with_what_helps(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    file.write_bytes(b"SQLite format 3\0 and then nothing of the kind" * 50)
    with pytest.raises(TrackingError) as caught:
        connect(f"sqlite:///{file}", "cryo/x")
    assert f"'{file}'" in str(caught.value)
    assert "Move it away" in str(caught.value)
    assert "mlflow server" not in str(caught.value)
