"""Share a sandbox and the studies that ran through in it among the tests of whole studies."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..support.sandbox import Sandbox


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"))
    yield sandbox
    sandbox.close()


@pytest.fixture(scope="session")
def finished(sandbox: Sandbox) -> Callable[[str], Path]:
    """Rule -> the folder of a study that ran to its end without trouble; each runs once."""
    folders: dict[str, Path] = {}

    def of(rule: str) -> Path:
        if rule not in folders:
            study = sandbox.study(f"whole-{rule}", rule=rule)
            sandbox.run(study, "whole")
            folders[rule] = sandbox.root / "whole" / study.name
        return folders[rule]

    return of
