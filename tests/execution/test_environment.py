"""What of an environment would break a study is found, and what can be put right is."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cryo_hpo.config import Site
from cryo_hpo.execution import environment
from cryo_hpo.execution.environment import environment_problems
from cryo_hpo.execution.ray_watch import children


def _problems(tmp_path: Path, **env: str) -> str:
    return "\n".join(environment_problems(env, cache=tmp_path / "cache/not/yet"))


def test_a_usual_environment_has_no_problem(tmp_path: Path) -> None:
    assert _problems(tmp_path, TMPDIR=str(tmp_path), RAY_TMPDIR="/tmp/ray") == ""


def test_each_problem_is_named_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = "/tmp/" + "d" * 60
    assert "RAY_TMPDIR must be shorter than" in _problems(tmp_path, RAY_TMPDIR=deep)
    assert "TMPDIR must be a writable folder" in _problems(tmp_path, TMPDIR=str(tmp_path / "no"))
    monkeypatch.setattr("cryo_hpo.execution.environment.os.access", lambda *_: False)
    assert "CRYO_CACHE must be writable" in _problems(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr("cryo_hpo.execution.environment.time.time", lambda: 86_400.0)
    assert "The clock is set back to 1970-01-02" in _problems(tmp_path)
    monkeypatch.undo()
    monkeypatch.setattr("cryo_hpo.execution.environment.resource.getrlimit", lambda _: (256, 1024))
    assert "ulimit -Hn 4096" in _problems(tmp_path)


def test_open_files_are_raised_to_what_the_user_may(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(
        "cryo_hpo.execution.environment.resource.setrlimit", lambda _, limits: asked.append(limits)
    )
    for limits in ((256, 1024), (256, resource.RLIM_INFINITY), (8192, 10_000), (1024, 1024)):
        monkeypatch.setattr(
            "cryo_hpo.execution.environment.resource.getrlimit", lambda _, both=limits: both
        )
        environment.raise_open_files()
    assert asked == [(1024, 1024), (4096, resource.RLIM_INFINITY)]


def test_a_read_only_home_gives_a_private_cache_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Site.from_env({}).cache == tmp_path / ".cache/cryo_hpo"
    monkeypatch.setattr("cryo_hpo.config.site.os.access", lambda *_: False)
    assert Site.from_env({}).cache.name == f"cryo_hpo-{os.getuid()}"
    assert Site.from_env({"CRYO_CACHE": "/elsewhere"}).cache == Path("/elsewhere")


def test_output_in_a_poor_encoding_shows_escapes_and_no_traceback() -> None:
    code = (
        "from cryo_hpo.execution.environment import write_any_text as w; w(); "
        "print('Gr' + chr(0xf6) + chr(0xdf) + 'e ' + chr(0x2192))"
    )
    env = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == "Gr\\xf6\\xdfe \\u2192", done.stderr


def test_the_children_of_a_process_are_listed_with_their_command() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        assert "time.sleep(60)" in children(os.getpid())[process.pid]
    finally:
        process.kill()
        process.wait()


# A call that opens text in the locale's encoding: its arguments, to the parenthesis that closes them.
TEXT_CALL = re.compile(
    r"""(?<!rasterio)(?<!atomic)\.(?:(?:read|write)_text\(|open\("[rwax]"[,)])(?:[^()]|\((?:[^()]|\([^()]*\))*\))*"""
)


def test_text_is_utf8_whatever_the_locale() -> None:
    package = Path(environment.__file__).parents[1]
    places = [
        f"{file.name}: {call[0]}"
        for file in package.rglob("*.py")
        for call in TEXT_CALL.finditer(file.read_text(encoding="utf-8"))
        if "encoding=" not in call[0]
    ]
    assert not places


@pytest.mark.parametrize(
    ("line", "is_found"),
    [
        ("path.read_text()", True),
        ("(a / b).write_text(json.dumps([f(x) for x in y]))", True),
        ('path.open("w") as file', True),
        ('(a / b).write_text(f(g(x)), encoding="utf-8")', False),
        ('path.open("a", encoding="utf-8")', False),
        ('path.open("rb")', False),
    ],
)
def test_a_call_without_an_encoding_is_found(line: str, is_found: bool) -> None:
    calls = [call[0] for call in TEXT_CALL.finditer(line)]
    assert any("encoding=" not in call for call in calls) == is_found
