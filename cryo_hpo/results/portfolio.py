"""Define the portfolio: the best trainings of recorded problems, as `cryo-hpo learn` writes them."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from ..config.frozen import Frozen
from ..config.space import Value
from ..errors import SpecError


class Lesson(Frozen):
    """Hold what one recorded problem taught: its best point, and how that point did on the way."""

    problem: str = Field(description="Name of the dataset")
    encoder: str
    regime: Literal["full", "frozen", "lora"]
    optimizer: str = Field(
        default="adamw", description="Name of the optimizer, whose rates these are"
    )
    schedule: str
    loss: str
    epochs: int = Field(description="Full length of its trainings")
    steps: int | None = Field(default=None, description="Optimizer steps of a training")
    best: dict[str, Value] = Field(description="Recipe path -> value of the best training")
    response: tuple[tuple[float, float, float], ...] = Field(
        default=(),
        description="Learning rate; its score after a ninth of a training; and after a whole one "
        "(fractions, means over seeds). Rates rise; empty: too few whole trainings",
    )
    lead: float | None = Field(
        default=None,
        description="Score of the best after a ninth of a training, minus the baseline's there; a fraction",
    )
    trainings: int = Field(description="Trainings from which the best was chosen")
    source: str = Field(description="File, and the first digits of its sha256")

    @property
    def family(self) -> str:
        """Family of the encoder: the first word of its name."""
        return family_of(self.encoder)


class Portfolio(Frozen):
    """Hold the lessons of recorded problems, as `cryo-hpo learn` writes them."""

    version: Literal[2] = 2
    lessons: tuple[Lesson, ...]

    def without(self, *, problem: str | None = None, epochs: int | None = None) -> Portfolio:
        """Return the portfolio without a problem, or without trainings of a length."""
        kept = (x for x in self.lessons if x.problem != problem and x.epochs != epochs)
        return Portfolio(lessons=tuple(kept))


def family_of(encoder: str) -> str:
    """Return the family of an encoder: the first word of its name, without timm's prefix."""
    return encoder.removeprefix("timm/").replace("_", "-").partition("-")[0]


def load_portfolio(path: Path) -> Portfolio:
    """Read a portfolio, or all portfolios of a folder as one.

    Raises:
        SpecError: There is none, or a file is no portfolio.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files or not all(file.is_file() for file in files):
        message = f"There is no portfolio at '{path}'. Write one: cryo-hpo learn STUDY --out {path / 'name.json' if path.is_dir() else path}."
        raise SpecError(message)
    return Portfolio(lessons=tuple(chain.from_iterable(_read(f).lessons for f in files)))


def _read(file: Path) -> Portfolio:
    try:
        return Portfolio.model_validate_json(file.read_bytes())
    except (ValidationError, OSError) as error:
        problems = error.error_count() if isinstance(error, ValidationError) else error
        message = f"'{file}' is no portfolio ({problems} problems). Write one: cryo-hpo learn STUDY --out FILE."
        raise SpecError(message) from error
