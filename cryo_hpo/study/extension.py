"""Extend a finished study: more seeds for its comparison, or more trials for its search.

Nothing is repeated: trials, trainings and test scores of the study stay, and a study that is
extended is then resumed as one that was interrupted. The earlier result is kept under a dated name.
Removing `result.json` is the last step, so an extension that is cut short before it begins anew.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from rich.console import Console

from ..config import Site, Study, dump_study, load_study
from ..config.files.load import validate_study
from ..errors import SpecError
from ..results.extensions import Extension, read_extensions, write_extensions
from ..results.known import no_such_study
from ..results.study import NAME, Result, load_result
from ..storage.atomic import write_text
from ..storage.plain_files import require_plain_folder
from . import folder as folders
from .data_guard import DataGuard
from .own_result import is_kept_already, own_result
from .preflight import check
from .run import drive, run_study

if TYPE_CHECKING:
    from ..stats import Improvement

REPORT = "report"


class Addition(NamedTuple):
    """Hold what is added to a finished study."""

    seeds: tuple[int, ...] = ()
    trials: int = 0
    at_most: int | None = None
    proof: Literal["full"] | None = None


def extend_study(  # noqa: PLR0913 (the options of a command)
    name: str,
    site: Site | None = None,
    *,
    seeds: Sequence[int] = (),
    trials: int = 0,
    at_most: int | None = None,
    proof: Literal["full"] | None = None,
    console: Console | None = None,
    inline: bool = False,
) -> Result:
    """Add seeds or trials to a finished study, and run it to its new verdict.

    The same call after a stop resumes it.

    Args:
        name: Name of the study.
        site: Locations of data, weights, storage, cache and MLflow; None: from the environment.
        seeds: Seeds to add to a comparison whose seeds are a list.
        trials: Number of trials to add to the search.
        at_most: New limit of repeats, for a comparison that stops when it is decided.
        proof: "full" adds the comparison to a study with `proof: none` or `quick`.
        console: Console for progress; None: standard output.
        inline: Train in this process, without Ray; see `run_study`.

    Raises:
        CryoError: The study has not finished, or it cannot be extended so; nothing has changed
            then. Or the extended study failed; `cryo-hpo resume` resumes it.
        Stopped: A signal requested a stop.
    """
    site, console = site or Site.from_env(os.environ), console or Console()
    path = site.storage / name
    require_plain_folder(path)
    added = Addition(tuple(seeds), trials, at_most, proof)
    if _is_begun(path, added):
        console.print(f"Study '{name}' has begun this extension, and goes on.", highlight=False)
        return run_study(path / folders.SPEC, site, console=console, inline=inline)
    _refuse_unfinished(path)
    with folders.driving(path):
        before = load_study(path / folders.SPEC)
        if _lacks_last_step(path, before, added):
            _make_way(path)
            return drive(before, site, path, console=console, inline=inline)
        result = own_result(before, path)
        study = extended_spec(result, added)
        _refuse_hours(before)
        check(before, site=site)  # what is added needs no check
        DataGuard(study.base, site, path).check()
        kept = keep_result(result, path, study, added)
        line = f"Study '{name}' is extended; its earlier result is kept as {kept.name}."
        console.print(line, highlight=False)
        # The lock is held from the first look at the earlier result to the end of the new one.
        return drive(study, site, path, console=console, inline=inline)


def _is_begun(path: Path, added: Addition) -> bool:
    """Return True if a study is being extended by just this, and has no new result yet."""
    if (path / NAME).exists() or not (path / folders.SPEC).exists():
        return False
    return _is_newest(path, added)


def _is_newest(path: Path, added: Addition) -> bool:
    begun = read_extensions(path)[-1:]
    return [e.model_dump(include=set(Addition._fields)) for e in begun] == [added._asdict()]


def _lacks_last_step(path: Path, study: Study, added: Addition) -> bool:
    """Return True if just this extension was killed when only the earlier result was to be removed."""
    if not (_is_newest(path, added) and is_kept_already(path)):
        return False
    return study == extended_spec(load_result(path), added)


def _refuse_unfinished(path: Path) -> None:
    """Refuse what is no finished study of its own.

    Raises:
        SpecError: The message says what the folder holds.
    """
    campaign = path.with_name(path.name.partition(".")[0]) / folders.CAMPAIGN
    if (path / folders.CAMPAIGN).exists() or ("." in path.name and campaign.exists()):
        message = (
            f"A campaign cannot be extended: '{path.name}' is one, or a cell of one, and its table "
            "holds for equal seeds. Run a campaign of a new name."
        )
        raise SpecError(message)
    if not (path / folders.SPEC).exists():
        raise no_such_study(path)
    if not (path / NAME).exists():
        message = (
            f"Only a finished study can be extended, '{path.name}' has no result yet. Run "
            f"`cryo-hpo resume {path.name}` first."
        )
        raise SpecError(message)


def _refuse_hours(study: Study) -> None:
    """Refuse a study whose length was planned from a budget in hours.

    Raises:
        SpecError: It has such a budget.
    """
    if study.budget is not None:
        message = (
            f"'{study.name}' has a budget of {study.budget}, which search and comparison share, so "
            "nothing can be added to it. Run a study of a new name with a larger `budget`."
        )
        raise SpecError(message)


def extended_spec(result: Result, added: Addition) -> Study:
    """Return the spec of a finished study with more seeds or trials.

    Raises:
        SpecError: The study cannot be extended so; the message names every problem.
    """
    problems = _problems(result, added)
    if problems:
        raise SpecError("\n".join(problems))
    spec: dict[str, Any] = json.loads(json.dumps(result.spec))
    if added.seeds:
        spec["seeds"] = [*spec["seeds"], *added.seeds]
    if added.at_most is not None:
        spec["seeds"] = {"at_most": added.at_most}
    if added.trials:
        spec["search"]["trials"] += added.trials
    if added.proof is not None:
        spec["proof"] = added.proof
    study, faults = validate_study(spec)
    if study is None or faults:
        raise SpecError("\n".join(problem.message for problem in faults))
    return study


def _problems(result: Result, added: Addition) -> list[str]:
    """Return why a finished study cannot be extended so."""
    search, limit = result.spec.get("search"), _limit(result)
    seeds, trials, at_most, proof = added
    problems = []
    if not any(added):
        problems.append("Nothing is added. Give --seeds, --trials, --at-most or --proof full.")
    if proof is not None and result.proof == proof:
        problems.append(f"'{result.study}' has a full comparison already.")
    if (seeds or at_most) and result.proof != "full" and proof is None:
        problems.append(
            f"'{result.study}' has `proof: {result.proof}`, which uses no further seeds. Add the "
            "comparison with them: --proof full."
        )
    if trials < 0:
        problems.append(f"The number of added trials must be positive, got {trials}.")
    if trials and search is None:
        problems.append(f"'{result.study}' has no search, so no trials can be added to it.")
    if trials and search is not None and search.get("trials") is None:
        problems.append(
            f"The search of '{result.study}' ends by its budget of {search.get('budget')} trainings, "
            "not by a number of trials. Run a study of a new name with a larger `budget`."
        )
    if seeds and limit is not None:
        problems.append(
            f"'{result.study}' trains repeats until its comparison is decided, at most {limit}. "
            f"Raise the limit instead: --at-most {limit + len(seeds)}."
        )
    if at_most is not None:
        problems += _limit_problems(result, at_most)
    return problems


def _limit_problems(result: Result, at_most: int) -> list[str]:
    limit = _limit(result)
    if limit is None:
        return [f"The seeds of '{result.study}' are a list, without a limit. Give --seeds."]
    if at_most <= limit:
        return [f"The limit of repeats is {limit} and can only be raised, got {at_most}."]
    if _is_decided(result.improvement):
        return [
            f"The comparison of '{result.study}' is decided ({result.verdict}), so no "
            "repeat is added by a higher limit."
        ]
    return []


def _limit(result: Result) -> int | None:
    seeds = result.spec.get("seeds")
    return int(seeds["at_most"]) if isinstance(seeds, dict) else None


def _is_decided(improvement: Improvement | None) -> bool:
    return (
        improvement is not None
        and improvement.stopped is not None
        and improvement.stopped.decision in ("improved", "worse")
    )


def keep_result(result: Result, path: Path, study: Study, added: Addition) -> Path:
    """Keep a study's result under a dated name and give the study its new spec.

    Returns:
        The file that holds the earlier result.

    Raises:
        StorageError: The folder cannot be written; the result is still there.
    """
    text = (path / NAME).read_text(encoding="utf-8")
    earlier = [e for e in read_extensions(path) if _read(path / e.kept) != text]
    today = datetime.now(UTC).date().isoformat()
    kept = _free_name(path, today, {e.kept for e in earlier})
    extension = Extension(
        date=today,
        kept=kept.name,
        **added._asdict(),
        former_winner=result.winner,
        former_verdict=None if result.improvement is None else result.improvement.verdict,
    )
    folders.write(kept, text)
    _keep_report(path, kept.stem.removeprefix("result"))
    with folders.writing(path):
        write_extensions([*earlier, extension], path)
    write_text(path / folders.SPEC, dump_study(study))
    _make_way(path)
    return kept


def _make_way(path: Path) -> None:
    """Remove the earlier result, which is kept, and its maps: both are made again."""
    (path / folders.TEST_MAPS).unlink(missing_ok=True)
    (path / NAME).unlink()


def _keep_report(path: Path, ending: str) -> None:
    """Rename the folder of the earlier report, so that the new one holds nothing of it."""
    kept = path / f"{REPORT}{ending}"
    if (path / REPORT).is_dir() and not kept.exists():
        (path / REPORT).rename(kept)


def _free_name(path: Path, today: str, taken: set[str]) -> Path:
    """Return a dated name for the earlier result, which no earlier extension has."""
    number, name = 1, f"result-{today}.json"
    while name in taken:
        number += 1
        name = f"result-{today}-{number}.json"
    return path / name


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""
