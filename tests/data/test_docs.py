"""The page on datasets says what the table says, and its commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from cryo_hpo.cli.main import main

from ..support.fakes import fake_glid
from ..support.web import Web

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "datasets.md").read_text()
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)
    for line in block.splitlines()
    if "oetz" not in line  # a real scene: tests/cli/test_init.py runs these where it is
]


def test_table_is_the_one_that_the_command_prints() -> None:
    """To renew it, put the output of the command between the two marks."""
    printed = CliRunner().invoke(main, ["list", "datasets", "--markdown"]).output
    assert f"<!-- datasets -->\n{printed}<!-- /datasets -->" in PAGE


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_glid(tmp_path / "data")
    monkeypatch.setenv("CRYO_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("CRYO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    program, *words = shlex.split(command)
    assert program == "cryo-hpo"
    with Web({"/api/records/14838695": b'{"files": []}'}) as web:
        monkeypatch.setattr("cryo_hpo.data.download.ZENODO", f"{web.url}/api/records")
        done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_pictures_are_there_and_small() -> None:
    names = re.findall(r"\]\((contact-[a-z-]+\.png)\)", PAGE)
    assert len(names) == 3
    assert all((ROOT / "docs" / name).stat().st_size < 450_000 for name in names)
