"""Draw docs/architecture.png, and write the floors to docs/architecture.md."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import networkx as nx
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as Curve

from tests.test_architecture import FILES, FLOOR, FLOORS, _files_imported, _room

ROOT = Path(__file__).parents[1]
OUT = ROOT / "docs" / "architecture.png"
PAGE = OUT.with_suffix(".md")
OLD_PATHS = {"spec", "specfile"}  # modules that only warn about a moved name
ROLES = {
    "__main__": "python -m cryo_hpo",
    "__init__": "the public names",
    "cli": "commands, terminal texts",
    "campaign": "many studies, one queue",
    "study": "from study file to verdict",
    "execution": "jobs on Ray or inline",
    "prediction": "a finished model, a scene",
    "report": "page, wording, figures",
    "training": "loop, losses, checkpoints",
    "evaluation": "windows, metrics",
    "monitoring": "events, progress",
    "search": "rungs, sampler, journal",
    "data": "scenes, splits, cache",
    "results": "files a study leaves",
    "config": "studies, spaces, YAML",
    "models": "encoders, decoders",
    "bands": "names of bands",
    "storage": "downloads, safe files",
    "tracking": "MLflow",
    "errors": "messages to users",
    "stats": "intervals, tests",
}
INK, SOFT, LINE, PAPER = "#1A1A1A", "#595959", "#7A8794", "#FFFFFF"
WIDTH, HEIGHT, FLOOR_HEIGHT = 2.5, 0.66, 1.45  # of a box; of a floor
GAP, LANE = 0.5, 0.42  # between boxes; for an arrow that passes a floor
SWEEPS = 24


@dataclass(frozen=True)
class Stop:
    """A box (one name), or the point where a long arrow passes a floor (two names)."""

    floor: int
    names: tuple[str, ...]

    @property
    def width(self) -> float:
        """Width of this stop on its floor."""
        return WIDTH + GAP if len(self.names) == 1 else LANE


def imports_between_packages() -> nx.DiGraph:
    """Return the packages and single modules of cryo_hpo, with an edge for every import."""
    graph = nx.DiGraph()
    for path in FILES:
        if (room := _room(path)) not in OLD_PATHS:
            graph.add_node(room)
            others = {_room(other) for other in _files_imported(path)}
            graph.add_edges_from((room, other) for other in sorted(others - OLD_PATHS - {room}))
    return graph


def route(upper: str, lower: str) -> list[Stop]:
    """Return the stops of an arrow from a package to one below it."""
    between = range(FLOOR[upper] - 1, FLOOR[lower], -1)
    passed = [Stop(floor, (upper, lower)) for floor in between]
    return [Stop(FLOOR[upper], (upper,)), *passed, Stop(FLOOR[lower], (lower,))]


def packed(stops: Iterable[Stop]) -> dict[Stop, float]:
    """Put the stops of one floor side by side around 0, in their order."""
    row = list(stops)
    x = -sum(stop.width for stop in row) / 2
    places = {}
    for stop in row:
        places[stop] = x + stop.width / 2
        x += stop.width
    return places


def placed(graph: nx.DiGraph, routes: list[list[Stop]]) -> dict[Stop, float]:
    """Order every floor by the means of its neighbors (Sugiyama et al. 1981) and return x."""
    near = nx.Graph(pair for stops in routes for pair in pairwise(stops))
    near.add_nodes_from(Stop(FLOOR[room], (room,)) for room in graph)
    floors = [
        sorted((stop for stop in near if stop.floor == floor), key=lambda stop: stop.names)
        for floor in range(len(FLOORS))
    ]
    x = {stop: place for row in floors for stop, place in packed(row).items()}
    for sweep in range(SWEEPS):
        for row in floors if sweep % 2 else floors[::-1]:
            beside = row[0].floor + (-1 if sweep % 2 else 1)
            mean = {
                stop: sum(sides) / len(sides) if sides else x[stop]
                for stop in row
                for sides in [[x[other] for other in near[stop] if other.floor == beside]]
            }
            x |= packed(sorted(row, key=lambda stop: mean[stop]))
    return x


def ports(routes: list[list[Stop]], x: dict[Stop, float]) -> dict[tuple[Stop, Stop], float]:
    """Spread the ends of the arrows over the edges of their boxes: (box, next stop) -> x."""
    ends: dict[tuple[Stop, bool], set[Stop]] = {}
    for stops in routes:
        ends.setdefault((stops[0], True), set()).add(stops[1])
        ends.setdefault((stops[-1], False), set()).add(stops[-2])
    spread = {}
    for (box, _), others in ends.items():
        step = min(0.34, 0.8 * WIDTH / len(others))
        for index, other in enumerate(sorted(others, key=lambda stop: x[stop])):
            spread[box, other] = x[box] + (index - (len(others) - 1) / 2) * step
    return spread


def points(stops: list[Stop], x: dict[Stop, float], at: dict[tuple[Stop, Stop], float]) -> Curve:
    """Return the curve through the stops of an arrow, upright where it leaves and enters a floor."""
    first, last = at[stops[0], stops[1]], at[stops[-1], stops[-2]]
    columns = [first, *(x[stop] for stop in stops[1:-1]), last]
    vertices, codes = [(first, stops[0].floor * FLOOR_HEIGHT - HEIGHT / 2)], [Curve.MOVETO]
    for (left, right), stop in zip(pairwise(columns), stops[1:], strict=True):
        top = stop.floor * FLOOR_HEIGHT + HEIGHT / 2 + 0.03
        start = vertices[-1][1]
        middle = (start + top) / 2
        vertices += [(left, middle), (right, middle), (right, top)]
        codes += [Curve.CURVE4] * 3
        if stop is not stops[-1]:
            vertices.append((right, top - HEIGHT - 0.06))
            codes.append(Curve.LINETO)
    return Curve(vertices, codes)


def draw_floors(axes: Axes, left: float) -> None:
    """Draw a band and a number for every floor."""
    for number in range(len(FLOORS)):
        y = number * FLOOR_HEIGHT
        color = "#F3F5F8" if number % 2 else PAPER
        axes.axhspan(y - FLOOR_HEIGHT / 2, y + FLOOR_HEIGHT / 2, color=color, zorder=0, lw=0)
        axes.text(left + 0.2, y, str(number), color=SOFT, va="center", fontsize=9)


def draw_box(axes: Axes, room: str, x: float) -> None:
    """Draw the box of a package with its name and role."""
    y = FLOOR[room] * FLOOR_HEIGHT
    box = FancyBboxPatch(
        (x - WIDTH / 2, y - HEIGHT / 2),
        WIDTH,
        HEIGHT,
        boxstyle="round,pad=0,rounding_size=0.12",
        facecolor=PAPER,
        edgecolor="#0072B2",
        linewidth=1.1,
        zorder=3,
    )
    axes.add_patch(box)
    axes.text(x, y + 0.13, room, ha="center", va="center", weight="bold", fontsize=9, zorder=4)
    axes.text(x, y - 0.16, ROLES[room], ha="center", va="center", c=SOFT, fontsize=6.8, zorder=4)


def write_floors() -> None:
    """Write the table of floors to the page."""
    rows = "".join(
        f"| {number} | {' '.join(f'`{room}`' for room in sorted(FLOORS[number] - OLD_PATHS))} |\n"
        for number in reversed(range(len(FLOORS)))
    )
    table = (
        f"<!-- floors -->\n| floor | packages and modules |\n| ---: | --- |\n{rows}<!-- /floors -->"
    )
    marked = re.compile("<!-- floors -->.*<!-- /floors -->", flags=re.DOTALL)
    PAGE.write_text(marked.sub(table, PAGE.read_text()))


def main() -> None:
    """Draw the picture; its metadata holds the floors, so that a test can compare them.

    Drawn are the imports that no chain of other arrows implies (the transitive reduction).
    """
    graph = imports_between_packages()
    routes = [route(upper, lower) for upper, lower in nx.transitive_reduction(graph).edges]
    x = placed(graph, routes)
    at = ports(routes, x)
    edge = max(abs(place) + stop.width / 2 for stop, place in x.items()) + 0.5
    with mpl.rc_context({"font.family": "DejaVu Sans", "text.color": INK}):
        figure = Figure(figsize=(9.2, 10.0), facecolor=PAPER)
        FigureCanvasAgg(figure)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set_axis_off()
        draw_floors(axes, -edge)
        for stop, place in x.items():
            if len(stop.names) == 1:
                draw_box(axes, stop.names[0], place)
        for curve in [points(stops, x, at) for stops in routes]:
            style = "-|>,head_length=3.2,head_width=1.7"
            axes.add_patch(FancyArrowPatch(path=curve, arrowstyle=style, color=LINE, zorder=2))
        axes.set_xlim(-edge, edge)
        axes.set_ylim(-FLOOR_HEIGHT / 2, (len(FLOORS) - 0.5) * FLOOR_HEIGHT)
        floors = json.dumps([sorted(rooms - OLD_PATHS) for rooms in FLOORS])
        figure.savefig(OUT, dpi=150, metadata={"Software": None, "Description": floors})
    write_floors()
    print(f"{OUT.relative_to(ROOT)}: {len(graph)} packages and modules, {len(graph.edges)} imports")


if __name__ == "__main__":
    main()
