"""Define `cryo-hpo predict` and `cryo-hpo export`: use the models of a finished study."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import SpecError, did_you_mean
from .guard import read_site
from .model_checks import is_study, refuse_both, refuse_choice, require_option, warn_of_weak_models
from .repeated import repeated_once
from .skipped import SkippedScenes

if TYPE_CHECKING:
    from ..config import Site
    from ..prediction.card import ModelCard
    from ..prediction.ensemble import Ensemble

ARM = click.option(
    "--arm",
    help="tuned, baseline, a named baseline, or winner: the search's own model. Left out: what won.",
)

SEED = click.option("--seed", type=int, help="Which training; left out: best on validation.")


MEMBERS = ("all", "best")


@click.command()
@click.argument("model")
@click.argument("scenes", metavar="SCENE...", nargs=-1, required=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Map, a .tif or .png; of several scenes, a folder.",
)
@click.option(
    "--probabilities",
    type=click.Path(path_type=Path),
    help="Probabilities of every class, a .tif; of several scenes, a folder.",
)
@click.option(
    "--uncertainty",
    type=click.Path(path_type=Path),
    help="Entropy and spread, a .tif; of several scenes, a folder.",
)
@click.option(
    "--vector",
    type=click.Path(path_type=Path),
    help="Outlines, a .gpkg: class, area in km2 and mean confidence of every polygon.",
)
@click.option(
    "--classes",
    help="Classes to outline: ice,lake; 'ice|ocean' is their front, as lines. Left out: all but the first.",
)
@click.option(
    "--areas", type=click.Path(path_type=Path), help="Table of the areas of all maps, a .csv."
)
@click.option("--smallest", default=0.0, help="Smallest outline, km2.")
@click.option("--simplify", default=0.0, help="Tolerance of the outlines, meters.")
@click.option("--layers", help="Layers of SCENE that are the model's bands: 3,2,1.")
@ARM
@click.option("--seed", type=int, help="Only the training of this seed.")
@click.option(
    "--members",
    type=click.Choice(MEMBERS),
    default="all",
    show_default=True,
    help="Of a study: the mean of all its trainings of the arm, or the best on validation.",
)
@click.option("--tta", is_flag=True, help="Average over mirrored windows too: four times as long.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or what is there.")
@click.option("--force", is_flag=True, help="Map a scene unlike the training data all the same.")
@click.option(
    "--quality",
    type=click.Path(path_type=Path),
    help="Layer of clouds that are left out, as in training; none: map them.  [default: beside SCENE]",
)
@click.option(
    "--batch",
    default=16,
    show_default=True,
    type=click.IntRange(1),
    help="Windows mapped at a time.",
)
def predict(  # noqa: PLR0913 (options of a command)
    model: str,
    scenes: tuple[str, ...],
    out: Path,
    probabilities: Path | None,
    uncertainty: Path | None,
    vector: Path | None,
    classes: str | None,
    areas: Path | None,
    smallest: float,
    simplify: float,
    layers: str | None,
    arm: str | None,
    seed: int | None,
    members: str,
    device: str,
    batch: int,
    quality: Path | None,
    *,
    tta: bool,
    force: bool,
) -> None:
    """Map SCENE, a raster of any size, with MODEL.

    MODEL is a finished study (its name, folder, result.json or MLflow run) or a file that
    `cryo-hpo export` wrote. The trainings of a study map together: the mean of their
    probabilities. The map lies where the scene lies: same coordinates and size, class numbers
    with colors, 255 where the scene has no data.

    SCENE... may be files, folders and patterns such as 'scenes/2024*.tif'; --out and the other
    outputs are then folders, with a map of the scene's name for each.

    \b
      cryo-hpo predict lakes-lr scene.tif --out mask.tif
      cryo-hpo predict lakes-lr scene.tif --out mask.tif --uncertainty doubt.tif
      cryo-hpo predict lakes-lr scene.tif --out mask.tif --vector lakes.gpkg --smallest 0.001
      cryo-hpo predict lakes-lr scenes --out maps
      cryo-hpo predict model.pt scene.tif --out mask.tif --probabilities shares.tif
    """  # noqa: D301  click takes the backspace itself
    from ..prediction.outlines import require_classes, require_table, write_areas
    from ..prediction.scene import predict_scene
    from ..prediction.scenes import plan_maps

    if vector is None:
        why = "outlines are written to --vector alone"
        require_option("--vector FILE.gpkg", why, "classes", "smallest", "simplify")
    refuse_both("seed", "members", "--seed maps with one training")
    if areas is not None:
        require_table(areas)
    jobs = plan_maps(
        scenes, out=out, probabilities=probabilities, uncertainty=uncertainty, vector=vector
    )
    chosen = _open(model, arm=arm, seed=seed, members=members, device=device, tta=tta)
    names = () if classes is None else tuple(classes.split(","))
    require_classes(names, chosen.card.classes)
    numbers = None if layers is None else _numbers(layers)
    if quality is not None and len(jobs) > 1 and str(quality) != "none":
        raise SpecError(f"--quality '{quality}' is of one scene, and {len(jobs)} are mapped.")
    skipped = SkippedScenes(len(jobs))
    with repeated_once(predict_scene.__module__):
        for number, job in enumerate(jobs, 1):
            with (
                skipped.going_on(job.scene),
                _kept_while_outlined(job.out, job.vector) as sure,
            ):
                with _watched(job.scene.name) as advance:
                    counts = predict_scene(
                        chosen,
                        job.scene,
                        job.out,
                        probabilities=job.probabilities,
                        uncertainty=job.uncertainty,
                        confidence=sure,
                        layers=numbers,
                        quality=quality,
                        batch=batch,
                        force=force,
                        progress=advance,
                    )
                total = max(sum(counts.values()), 1)
                shares = ", ".join(f"{name} {100 * n / total:.1f} %" for name, n in counts.items())
                progress = f"{number}/{len(jobs)} " if len(jobs) > 1 else ""
                click.echo(f"{progress}{job.out}: {shares}")
                if job.vector is not None and sure is not None:
                    given = {"only": names, "smallest_km2": smallest, "simplify_m": simplify}
                    given["scene"] = job.scene.stem
                    sizes = _outline(job.out, job.vector, sure, chosen.card.classes, given)
                    click.echo(f"{progress}{job.vector}: {sizes}")
    maps = [(job.scene, job.out) for job in jobs if job.scene not in skipped.scenes]
    if areas is not None and maps:
        click.echo(f"areas: {write_areas(maps, areas, classes=chosen.card.classes)}")
    skipped.refuse()


def _outline(
    mask: Path, out: Path, confidence: Path, classes: tuple[str, ...], given: dict[str, Any]
) -> str:
    """Outline a map, and return the sizes as text."""
    from ..prediction.outlines import outline_map

    with _watched(out.name, doing="outlining"):
        sizes = outline_map(mask, out, classes=classes, confidence=confidence, **given)
    return ", ".join(
        f"{name} {size:.6g} {'km2' if name in classes else 'km'}" for name, size in sizes.items()
    )


@contextmanager
def _kept_while_outlined(mask: Path, vector: Path | None) -> Iterator[Path | None]:
    """Yield the file of the layer of confidence, which outlines need; it is removed at the end."""
    confidence = None if vector is None else mask.with_name(f".{mask.stem}.confidence.tif")
    try:
        yield confidence
    finally:
        if confidence is not None:
            confidence.unlink(missing_ok=True)


@contextmanager
def _watched(name: str, *, doing: str = "mapping") -> Iterator[Callable[[int, int], None]]:
    """Show how many rows are mapped, on a terminal, and a line wherever ten seconds are silent."""
    from ..monitoring.heartbeat import Heartbeat, phase

    shown = sys.stderr.isatty()
    below = "\n" if shown else ""  # a line of its own, not behind the bar
    with (
        click.progressbar(length=100, label=name, file=sys.stderr, hidden=not shown) as bar,
        Heartbeat(lambda text: click.echo(f"{below}{text}", err=True)) as beat,
        phase(f"{doing} {name}"),
    ):

        def advance(done: int, rows: int) -> None:
            percent = 100 * done // max(rows, 1)
            if shown and percent > bar.pos:
                beat.reset()
            bar.update(percent - bar.pos)

        yield advance


def _open(
    name: str, *, arm: str | None, seed: int | None, members: str, device: str, tta: bool
) -> Ensemble:
    """Open the models that map together, and print which they are."""
    from ..prediction.ensemble import Ensemble, open_ensemble, with_flips
    from ..prediction.model import open_model

    site = read_site()
    study = _study(name, site)
    refuse_choice(study, "arm", "seed", "members")
    if seed is None and members == "all" and is_study(study):
        models = open_ensemble(study, arm=arm, site=site, device=device)
    else:
        models = Ensemble((open_model(study, arm=arm, seed=seed, site=site, device=device),))
    if tta:
        models = Ensemble(tuple(with_flips(model) for model in models.members))
    card, seeds = models.card, ", ".join(str(model.card.seed) for model in models.members)
    number = len(models.members)
    mean = f"the mean of {number} trainings, seeds" if number > 1 else "one training, seed"
    mirrored = ", each over four mirror images" if tta else ""
    click.echo(f"'{card.arm}' of study '{card.study}': {mean} {seeds}{mirrored}{_unproven(card)}")
    warn_of_weak_models([model.card for model in models.members])
    return models


@click.command()
@click.argument("study")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="A file, model.pt; or a folder that loads with torch alone.",
)
@ARM
@SEED
@click.option("--merge", is_flag=True, help="Fold LoRA adapters into the encoder's weights.")
@click.option("--ensemble", is_flag=True, help="A folder with all trainings of the arm.")
@click.option("--onnx", is_flag=True, help="A folder with model.onnx too.")
@click.option("--push", metavar="OWNER/NAME", help="Upload the folder to the Hugging Face hub.")
@click.option("--public", is_flag=True, help="Make a new repository of --push public.")
def export(  # noqa: PLR0913 (options of a command)
    study: str,
    out: Path,
    arm: str | None,
    seed: int | None,
    push: str | None,
    *,
    merge: bool,
    ensemble: bool,
    onnx: bool,
    public: bool,
) -> None:
    """Write a model of a finished STUDY to a file, or a folder that needs no cryo_hpo.

    A file (model.pt, with its card as JSON beside it) holds plain tensors and the card: recipe,
    bands, classes, normalization, scores, provenance. `cryo-hpo predict` and
    `cryo_hpo.load_model` read it, on any machine. A model of `tune: lora` needs the encoder's
    published weights beside it, unless --merge made it whole.

    A folder (--out without .pt) holds the model as a graph, predict.py that maps scenes of any
    size with torch and numpy only, and a model card as the Hugging Face hub reads it.

    \b
      cryo-hpo export lakes-lr --out model.pt
      cryo-hpo export lakes-lr --out lakes-model --ensemble
      cryo-hpo export lakes-lr --out lakes-model --push me/lakes   (HF_TOKEN)
    """  # noqa: D301  click takes the backspace itself
    from ..prediction.model import export_model

    if push is None:
        require_option("--push OWNER/NAME", "it is of an upload", "public")
    site = read_site()
    if not out.suffix:
        if merge:
            raise SpecError("The graphs of a folder are merged already. Leave out --merge.")
        given = {"arm": arm, "seed": seed, "site": site, "ensemble": ensemble, "onnx": onnx}
        source = _study(study, site)
        refuse_choice(source, "arm", "seed")
        _export_folder(source, out, given, push=push, public=public)
        return
    if ensemble or onnx or push is not None:
        message = (
            f"--ensemble, --onnx and --push write a folder, '{out}' is a file. Give --out a name "
            "without a suffix."
        )
        raise SpecError(message)
    source = _study(study, site)
    card = export_model(source, out, arm=arm, seed=seed, site=site, merge=merge)
    click.echo(
        f"{out}: {card.arm} of '{card.study}', seed {card.seed}{_test_score(card)}"
        f"{_unproven(card)}; card: {out.with_suffix('.json')}"
    )
    warn_of_weak_models([card])


def _export_folder(
    study: Path, out: Path, given: dict[str, Any], *, push: str | None, public: bool
) -> None:
    """Write the folder, print what it holds, and upload it if requested."""
    from ..prediction.bundle import export_folder

    cards = export_folder(study, out, **given)
    seeds = ", ".join(str(card.seed) for card in cards)
    click.echo(
        f"{out}: {cards[0].arm} of '{cards[0].study}', {'seeds' if len(cards) > 1 else 'seed'} "
        f"{seeds}{_unproven(cards[0])}; predict.py in it maps with torch alone"
    )
    warn_of_weak_models(cards)
    if push is not None:
        from ..models.weights.push import push_folder

        click.echo(push_folder(out, push, private=not public))


def _test_score(card: ModelCard) -> str:
    if card.test_miou is None:
        return ""
    constant = card.constant_map
    nothing = (
        ""
        if constant is None
        else f" (a map of '{constant.label}' everywhere: {100 * constant.test_miou:.2f} %)"
    )
    return f", test mIoU {100 * card.test_miou:.2f} %{nothing}"


def _unproven(card: ModelCard) -> str:
    """Return what a search's winner is, and is not; empty for a model of the comparison."""
    if card.trial is None:
        return ""
    return (
        f", trial {card.trial} of the search with the best validation mIoU "
        f"({100 * card.val_miou:.2f} %); it is not scored on the test split, and no gain is shown "
        "with it"
    )


def _study(name: str, site: Site) -> Path:
    """Return the study that a name refers to: a path, a study in the storage, or an MLflow run."""
    from ..results.known import known_names, study_path
    from ..tracking import study_of

    path = study_path(name, site.storage)
    if path.exists():
        return path
    study = study_of(site.mlflow, name) if _is_run(name) else None
    if study is None:
        near = did_you_mean(name, known_names(site.storage))
        message = (
            f"There is no model '{name}': neither a study in '{site.storage}', nor a folder, a file "
            f"or an MLflow run.{near} `cryo-hpo status` lists the studies of CRYO_STORAGE."
        )
        raise SpecError(message)
    return site.storage / study


def _is_run(name: str) -> bool:
    return len(name) == 32 and set(name) <= set("0123456789abcdef")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        message = f"--layers '{text}' is not a list of numbers. Write it like 3,2,1."
        raise SpecError(message) from None
