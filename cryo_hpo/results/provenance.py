"""Record code revision, package versions and machine of a run, but no environment variables."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("cryo-hpo", "mlflow", "numpy", "optuna", "rasterio", "ray", "timm", "torch")
TRAINING = (  # folders and files of this package
    "bands.py",
    "config/metric.py",
    "config/protocol.py",
    "data",
    "evaluation",
    "execution/worker.py",
    "models",
    "training",
)
LIBRARIES = (
    "numpy",
    "prodigyopt",
    "pyogrio",
    "rasterio",
    "schedulefree",
    "scipy",
    "shapely",
    "timm",
    "torch",
    "torchvision",
)


def environment() -> dict[str, object]:
    """Return the software environment needed to reproduce a run, as JSON values.

    Returns:
        `git_revision` and `git_dirty` of the repository that holds this package, None where it
        was installed without one; `python`; `packages`, name -> version, None where one is
        missing; `platform`; `cpus`.
    """
    revision = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain") if revision else None
    return {
        "git_revision": revision,
        "git_dirty": None if changes is None else bool(changes),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
    }


def hash_training_code() -> str:
    """Return the sha256 of the source files that decide what a training gives."""
    root = Path(__file__).parents[1]
    paths = [root / part for part in TRAINING]
    files = [file for p in paths for file in ([p] if p.suffix else p.rglob("*.py"))]
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(root).as_posix()}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def training_libraries() -> dict[str, str | None]:
    """Return the versions that decide what a training gives, name -> version; None: missing."""
    return {"python": platform.python_version(), **{name: _version(name) for name in LIBRARIES}}


def _git(*command: str) -> str | None:
    """Run git on this file's repository; return its output, None if git does not track the file."""
    module = Path(__file__)
    git = ["git", "-C", str(module.parent)]
    try:
        # A package installed into some project's folder is not part of that project.
        subprocess.run(
            [*git, "ls-files", "--error-unmatch", module.name], capture_output=True, check=True
        )
        run = subprocess.run([*git, *command], capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
