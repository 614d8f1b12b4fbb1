"""Write the results of the parity tests into docs/encoders.md.

make parity-table
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "encoders.md"
START, END = "<!-- parity: start -->", "<!-- parity: end -->"
# Tested elsewhere: their references are not rows of the same test.
OTHERS = [
    "| unet | own | 0 | exact (`tests/models/test_unet.py`) |",
    "| galileo-nano | timm blocks, own tokens | below 1e-5 | 1e-5, real weights (`tests/models/test_galileo.py`) |",
    "| presto | timm blocks, own tokens | below 1e-5 | 1e-5, real weights (`tests/models/test_presto.py`) |",
]


def short(value: float) -> str:
    """Format a small number for readers."""
    return "0" if value == 0 else f"{value:.1e}".replace("e-0", "e-")


def main(found: Path) -> None:
    """Rewrite the table between the markers."""
    rows = [json.loads(line) for line in found.read_text().splitlines()]
    lines = ["| encoder | built on | largest difference | held to |", "|---|---|---:|---:|"]
    for encoder, provider, worst, most in rows:
        lines.append(
            f"| {encoder} | {provider} | {short(worst)} | {most:.0e} |".replace("e-0", "e-")
        )
    page = PAGE.read_text()
    before, rest = page.split(START)
    after = rest.split(END)[1]
    table = "\n".join([*lines, *OTHERS])
    PAGE.write_text(f"{before}{START}\n{table}\n{END}{after}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
