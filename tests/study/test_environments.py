"""Tiny studies in environments that differ from a developer's."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cryo_hpo.config import Study, dump_study
from cryo_hpo.results.study import load_result

from ..support.recorded import recorded_events
from ..support.sandbox import Sandbox

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CLASSES = ("K\u00e4r", "Gletscher-See \u00f6")
BACK_S = 10 * 365 * 86_400
# The clock that a process and its libraries see, once a variable of its environment says so.
CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
static long back(void) { const char *s = getenv("CLOCK_BACK_S"); return s ? atol(s) : 0; }
int clock_gettime(clockid_t id, struct timespec *t) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(id, t);
    if (id == CLOCK_REALTIME) t->tv_sec -= back();
    return failed;
}
time_t time(time_t *out) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (out) *out = t.tv_sec;
    return t.tv_sec;
}
int gettimeofday(struct timeval *v, void *zone) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    v->tv_sec = t.tv_sec;
    v->tv_usec = t.tv_nsec / 1000;
    return 0;
}
"""
# Imports once, in an environment that is odd itself, then forks a study for each further oddity.
DRIVERS = f"""
import json, os, resource, sys, time
import mlflow, optuna, rasterio, torch
from cryo_hpo.cli.main import main
from cryo_hpo.execution import inline
from cryo_hpo.study import run

torch.set_num_threads(1)


def nothing_more():
    pass


def few_files():
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))


def clock_back():
    os.environ["CLOCK_BACK_S"] = "{BACK_S}"
    assert time.gmtime().tm_year <= 2018


codes = {{}}
for odd in (nothing_more, few_files, clock_back):
    pid = os.fork()
    if not pid:
        odd()
        os.environ["CRYO_STORAGE"] += odd.__name__
        try:
            main(["run", "--inline", *sys.argv[1:]])
        except SystemExit as ended:
            sys.stdout.flush()
            os._exit(int(ended.code or 0))
    codes[odd.__name__] = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print("##" + json.dumps(codes))
"""
# In a mount namespace of its own: nobody else sees the read-only home.
ODD = """mount --bind "$HOME" "$HOME" && mount -o remount,ro,bind "$HOME" && exec "$@" """


@pytest.fixture(scope="module")
def tiny(sandbox: Sandbox) -> Study:
    """A study of one epoch, whose classes have names beyond ASCII."""
    base = {**sandbox.study("x").base.model_dump(mode="json"), "epochs": 1}
    base["data"]["card"]["classes"] = CLASSES
    return sandbox.study("tiny", search=None, seeds=(1,), base=base)


@pytest.fixture(scope="module")
def clock(sandbox: Sandbox) -> Path:
    """A library that sets the clock back."""
    (sandbox.root / "clock.c").write_text(CLOCK)
    if shutil.which("cc") is None:
        pytest.skip("there is no C compiler")
    library = sandbox.root / "clock.so"
    words = ["-shared", "-fPIC", "-o", str(library), str(sandbox.root / "clock.c"), "-ldl"]
    subprocess.run(["cc", *words], check=True)
    return library


def test_a_study_runs_where_little_is_as_usual(sandbox: Sandbox, tiny: Study, clock: Path) -> None:
    """Everywhere: a read-only home, a POSIX locale, a long TMPDIR. Then few open files, and an old clock."""
    spec, home = sandbox.root / "tiny.yaml", sandbox.root / "home"
    spec.write_text(dump_study(tiny), encoding="utf-8")
    home.mkdir()
    deep = sandbox.root / "scratch-of-the-batch-system" / "/".join(["job-0123456789"] * 6)
    deep.mkdir(parents=True)
    env = {**os.environ, **sandbox.places("odd-"), "OMP_NUM_THREADS": "1", "HOME": str(home)}
    env["LD_PRELOAD"] = str(clock)
    env |= {"TMPDIR": str(deep), "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")])
    del env["CRYO_CACHE"]
    done = subprocess.run(
        [*("unshare", "-m", "sh", "-c", ODD, "sh"), sys.executable, "-c", DRIVERS, str(spec)],
        env=env,
        cwd=sandbox.root,
        capture_output=True,
        timeout=800,
        check=False,
    )
    output = (done.stdout + done.stderr).decode(errors="replace")
    if "unshare" in output or "mount:" in output:
        pytest.skip(f"nothing can be mounted here: {output[:200]}")
    assert "Traceback" not in output
    codes = json.loads(output.partition("##")[2].splitlines()[0])
    assert codes == {"nothing_more": 0, "few_files": 0, "clock_back": 0}, output
    for name in codes:
        result = load_result(sandbox.root / f"odd-{name}" / "tiny")
        assert (result.classes, result.mlflow_pending) == (CLASSES, 0)
    assert list(home.iterdir()) == []
    first = recorded_events(sandbox.root / "odd-clock_back" / "tiny")[0]
    assert datetime.now(UTC) - datetime.fromisoformat(first["time"]) > timedelta(days=9 * 365)


def test_a_storage_that_was_moved_takes_the_next_study(sandbox: Sandbox, tiny: Study) -> None:
    """MLflow keeps the absolute place of an experiment's artifacts."""
    sandbox.run(tiny, "before")
    before, after = sandbox.root / "before", sandbox.root / "after"
    before.rename(after)
    sandbox.run(tiny.model_copy(update={"name": "second"}), "after")
    sandbox.run(tiny, "after", "upload")
    assert not before.exists(), sorted(before.rglob("*"))
    assert load_result(after / "second").mlflow_pending == 0
    assert any((after / "mlartifacts").rglob("report.html"))
