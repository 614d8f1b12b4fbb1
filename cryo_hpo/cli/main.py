"""Define the command line: `cryo-hpo run study.yaml`, and the commands around it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import click

from ..errors import CryoError
from . import campaign as campaigns
from .compare import compare
from .data import data
from .doctor import doctor
from .extend import extend
from .guard import BEGUN, STUDY, GuardedGroup, heartbeat, line_numbers, read_site
from .init import init
from .learn import learn
from .list import list_
from .model import export, predict
from .status import status, stop
from .store import store
from .weights import weights

INLINE = click.option(
    "--inline",
    is_flag=True,
    help="Train in this process, one training after another, without Ray or RAY_ADDRESS. "
    "Default: on Ray, as many at a time as fit.",
)


@click.group(
    cls=GuardedGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(package_name="cryo-hpo")
def main() -> None:
    """Tune geospatial foundation models on cryosphere maps, with proof against a fixed LR.

    \b
    A study of your own images and masks:
      cryo-hpo init FOLDER

    \b
    A first study, on generated scenes:
      cryo-hpo data generate lakes-demo
      cryo-hpo check quickstart
      cryo-hpo run quickstart
      cryo-hpo status quickstart
      cryo-hpo ui

    \b
    Where things are comes from the environment, never from a spec:
      CRYO_DATA            datasets                       ./data
      CRYO_WEIGHTS         checkpoints of encoders        ./weights
      CRYO_STORAGE         studies; shared between nodes  ./runs
      CRYO_CACHE           decoded pixels; local to a node  ~/.cache/cryo_hpo
      CRYO_OPTUNA_STORAGE  PostgreSQL for trials          a file in the study's folder
      MLFLOW_TRACKING_URI  where trials are recorded      sqlite:///CRYO_STORAGE/mlflow.db
      RAY_ADDRESS          the cluster to use             a local one
    """  # noqa: D301  click takes the backspace itself


@main.command()
@STUDY
@INLINE
def run(study: Path, *, inline: bool) -> None:
    """Run STUDY to its verdict. The same command after a crash resumes it.

    STUDY is a YAML file, or a name of `cryo-hpo list studies`.

    A file with a `matrix` is a campaign: many studies, one queue of trials, one table.

    Ends with exit code 0 when there is a verdict, 1 when the study failed, 2 when the spec or
    what it names is wrong, 130 when it was stopped.
    """
    _run(study, inline=inline)


@main.command()
@click.argument("name")
@INLINE
def resume(name: str, *, inline: bool) -> None:
    """Resume the study NAME from the spec in its folder, as giving `run` again does."""
    from ..results.known import no_such_study
    from ..storage.plain_files import require_plain_folder
    from ..study.folder import CAMPAIGN, SPEC

    folder = read_site().storage / name
    require_plain_folder(folder)
    path = folder / (CAMPAIGN if (folder / CAMPAIGN).exists() else SPEC)
    if not path.exists():
        raise no_such_study(folder)
    _run(path, inline=inline)


@main.command()
@STUDY
def check(study: Path) -> None:
    """Check everything that STUDY needs before anything runs: spec, data, weights, groups, GPU.

    Every file of the dataset is decoded once, into the cache that the trials will read. All that
    is wrong is reported at once.
    """
    if campaigns.is_campaign(study):
        campaigns.check(study)
        return
    from ..config import format_source, load_study
    from ..report.table import align_columns
    from ..report.wording import count_of
    from ..study.calibrated import calibrated_lines
    from ..study.folder import unusable
    from ..study.initial_weights import exported_lines
    from ..study.packing import pack_lines
    from ..study.plan import proof_lines
    from ..study.preflight import SPLITS, band_plans, optimizer_lines, protocol_lines
    from ..study.preflight import check as check_study
    from ..study.start_words import start_lines
    from ..training.build import dataset_of, scenes_of
    from .encoders_text import band_lines

    spec, site = load_study(study), read_site()
    with line_numbers(study):
        groups = check_study(spec, site=site)
    for split in SPLITS:
        scenes = scenes_of(spec.base, split, site)
        unit = dataset_of(spec.base.data).unit
        sizes = f"{count_of(len(scenes), unit)}, {count_of(scenes.num_bands, 'band')}"
        click.echo(f"{split}: {sizes}, {scenes.dtype}")
    for encoder, plan in band_plans(spec):
        click.echo("\n".join(band_lines(encoder, plan)))
    rows = [
        (g.name, str(len(g.parameters)), f"{g.num_values:,}", f"{g.lr:.3g}", f"{g.weight_decay:g}")
        for g in groups
    ]
    click.echo(align_columns(("group", "tensors", "parameters", "lr", "decay"), rows))
    click.echo(f"Every trainable parameter is in exactly one of {len(groups)} groups.")
    lines = (
        *exported_lines(spec, site),
        *protocol_lines(spec.base),
        *optimizer_lines(spec),
        *calibrated_lines(spec),
        *start_lines(spec),
        *proof_lines(spec.proof),
        *pack_lines([spec], site),
    )
    for line in lines:
        click.echo(line)
    if problem := unusable(site.storage):
        click.echo(f"Warning: {problem}", err=True)
    click.echo(f"'{spec.name}' can run: cryo-hpo run {format_source(study)}")


@main.command()
@BEGUN
def plan(study: Path) -> None:
    """Estimate what STUDY will cost: trials, epochs, disk, and promotions at each rung.

    STUDY is a YAML file, a name of `cryo-hpo list studies`, or the name of a study that has begun.
    """
    if campaigns.is_campaign(study):
        campaigns.plan(study)
        return
    from ..config import load_study
    from ..study import hours
    from ..study import plan as planning
    from ..study.minutes import Clock, minutes_line
    from ..study.packing import pack_lines
    from ..study.timing import measure_epoch

    spec = load_study(study)
    with line_numbers(study), heartbeat():
        if spec.budget is not None:
            shares = hours.plan_hours(spec, read_site())
            click.echo("\n".join(hours.hours_lines(spec, shares)))
            spec = hours.resolve(spec, shares)
        size = planning.plan(spec, site=read_site())
        packs = pack_lines([spec], read_site())
    for line in (*planning.lines(size), *packs):
        click.echo(line)
    try:
        click.echo(str(measure_epoch(spec.base, read_site())))
    except CryoError:  # a plan can be made where the data are not
        click.echo("steps of an epoch: unknown, the data are not here or not in order (`check`)")
    with heartbeat():
        click.echo(minutes_line(Clock(read_site()).minutes(spec, size)))


@main.command()
@click.argument("study")
@click.option("--out", type=click.Path(path_type=Path), help="Folder to write to.")
@click.option(
    "--against",
    metavar="cryo-bench[@REVISION]",
    help=(
        "Print the published scores on the study's dataset beside its own; without a revision those "
        "of the study's protocol, else the newest."
    ),
)
def report(study: str, out: Path | None, against: str | None) -> None:
    """Write tables and figures of a finished STUDY: its name, its folder or a result.json."""
    from ..report import cryo_bench as published
    from ..report import write
    from ..report.verdict import verdict_lines
    from ..results.known import study_path
    from ..results.study import load_result

    revision = published.revision_named(against) if against else None
    path = study_path(study, read_site().storage)
    if campaigns.report(path, out):
        return
    result = load_result(path)
    folder = path if path.is_dir() else path.parent
    for file in write(result, out or folder / "report", folder=folder):
        click.echo(file)
    click.echo("\n\n".join(verdict_lines(result)))
    for line in published.against(result, revision) if against else ():
        click.echo(line)


@main.command()
@click.argument("source")
def space(source: str) -> None:
    """Print a search space as YAML.

    SOURCE is file.yaml, file.py:function, or a name of `cryo-hpo list spaces`.
    """
    from ..config import dump_space, load_space

    click.echo(dump_space(load_space(source)), nl=False)


@main.command()
@click.option("--space", "what", flag_value="space", help="Of search-space files instead.")
@click.option("--campaign", "what", flag_value="campaign", help="Of campaign files instead.")
def schema(what: str | None) -> None:
    """Print the JSON Schema of study files, for editors."""
    from .. import config as specfile

    of = {"space": specfile.space_schema, "campaign": specfile.campaign_schema}
    click.echo(json.dumps(of.get(what or "", specfile.schema)(), indent=2))


@main.command()
@click.option("--port", default=5000, show_default=True, help="Port on loopback.")
@click.option("--print", "only_print", is_flag=True, help="Show the command instead of running it.")
def ui(port: int, *, only_print: bool) -> None:
    """Open the MLflow UI of the studies' records, for this machine only.

    Prints the addresses that open on the answer: every study above its trainings, with learning
    rate, state, best validation mIoU, verdict and relative improvement.
    """
    from ..tracking import charts_of, experiment_pages, require_records, ui_command

    uri = read_site().mlflow
    require_records(uri)
    command, pages = ui_command(uri, port=port), {}
    with contextlib.suppress(CryoError):  # a server that does not answer still has an address
        pages = experiment_pages(uri, port=port)
    for name, address in pages.items():
        click.echo(f"{name}: {address}")
        click.echo(f"{name}, charts: {charts_of(address)}")
    click.echo(command)
    if not only_print and not command.startswith("http"):
        # this installation's MLflow, wherever PATH leads
        sys.exit(subprocess.call([sys.executable, "-m", *shlex.split(command)]))


@main.command()
@click.argument("study")
def upload(study: str) -> None:
    """Deliver the records of STUDY (its name) that were kept while MLflow or W&B was away.

    A result that was not published whole is published first.
    """
    from ..campaign import publish as campaign_publish
    from ..config import cell_studies, load_campaign, load_study
    from ..storage.plain_files import require_plain_folder
    from ..study.folder import CAMPAIGN, EVENTS, SPEC
    from ..study.run import publish_finished
    from ..tracking import deliver, deliver_to_wandb

    site, spec = read_site(), read_site().storage / study / SPEC
    require_plain_folder(spec.parent)
    if (campaign := spec.with_name(CAMPAIGN)).exists():
        matrix = load_campaign(campaign)
        project, names = matrix.project, [study, *(s.name for s in cell_studies(matrix).values())]
    else:
        project, names = load_study(spec).project, [study]
    # A cell that has not started has no log.
    logs = [log for name in names if (log := site.storage / name / EVENTS).exists()]
    logs = logs or [spec.with_name(EVENTS)]
    for name in names:
        publish_finished(site.storage / name, site)
    campaign_publish.publish_finished(site.storage / study, site)
    left = sum(deliver(log, uri=site.mlflow, experiment=f"cryo/{project}") for log in logs)
    if site.wandb is not None:
        left += sum(deliver_to_wandb(log, project=site.wandb) for log in logs)
    click.echo(
        "All records are delivered." if not left else f"{left} records are still to be delivered."
    )
    sys.exit(1 if left else 0)


@main.command(context_settings={"ignore_unknown_options": True})
@STUDY
@click.option(
    "--address",
    envvar="RAY_API_SERVER_ADDRESS",
    default="http://127.0.0.1:8265",
    show_default=True,
    help="Address of the Ray head.",
)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def submit(study: Path, address: str, options: tuple[str, ...]) -> None:
    """Send STUDY to a Ray cluster: `ray job submit`, with what a study needs.

    The current folder is sent, without data, weights, runs and .venv. OPTIONS go to
    `ray job submit`, such as --no-wait. The study file is checked here first.
    """
    from ..config import load_campaign, load_study
    from ..execution.submit import command

    (load_campaign if campaigns.is_campaign(study) else load_study)(study)
    words = command(study, read_site(), address=address, env=os.environ, options=options)
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    sys.exit(subprocess.call(words, env={**os.environ, "PATH": path}))


def _run(file: Path, *, inline: bool) -> None:
    if campaigns.is_campaign(file):
        campaigns.run(file, inline=inline)
        return
    from ..config import load_study
    from ..execution.submit import require_storage
    from ..report.verdict import verdict_text
    from ..study import run_study
    from .outcome import print_outcome

    study, site = load_study(file), read_site()
    require_storage(os.environ)
    with line_numbers(file):
        result = run_study(study, site, inline=inline)
    done = site.storage / study.name / "result.json"
    print_outcome(verdict_text(result), done, site.mlflow, result.mlflow_experiment)


for command in (
    *(compare, data, doctor, export, extend, init, learn, list_),
    *(predict, status, stop, store, weights),
):
    main.add_command(command)

if __name__ == "__main__":
    main()
