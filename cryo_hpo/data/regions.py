"""Find the region of each scene in its id, by the regular expression of a card."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence

from ..config.dataset_card import DatasetCard
from ..errors import DataError

BUDGET_S = 10  # of CPU time for the ids of one split; usual expressions take milliseconds
# An expression such as '^((a+)+)$' may backtrack for years, and Python cannot interrupt it: it runs
# in a process of its own, which the system ends.
MATCH = """
import json, re, resource, sys
budget_s, expression, names = json.load(sys.stdin)
resource.setrlimit(resource.RLIMIT_CPU, (budget_s, budget_s))
matches = [re.search(expression, name) for name in names]
json.dump([None if match is None else [match[1]] for match in matches], sys.stdout)
"""


def find_regions(card: DatasetCard, names: Sequence[str]) -> dict[str, str | None]:
    """Return id -> region; None without an expression.

    Raises:
        DataError: The expression does not match an id, or takes too long.
    """
    if card.region is None or not names:
        return dict.fromkeys(names)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", MATCH],
        input=json.dumps([BUDGET_S, card.region, list(names)]),
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode == -signal.SIGINT:
        raise KeyboardInterrupt  # pressed while the expression was tried
    if done.returncode not in (0, -signal.SIGXCPU, -signal.SIGKILL):
        message = (
            f"The card's region '{card.region}' could not be tried: the process that tries it ended "
            f"with exit code {done.returncode}. {done.stderr[-300:]} Run the same command again."
        )
        raise DataError(message)
    if done.returncode:
        message = (
            f"The card's region '{card.region}' could not be matched with the {len(names)} ids of "
            f"'{card.name}' in {BUDGET_S} s (exit {done.returncode}): it tries too many ways. Write "
            "it without a repetition within a repetition."
        )
        raise DataError(message)
    regions: dict[str, str | None] = {}
    for name, match in zip(names, json.loads(done.stdout), strict=True):
        if match is None:
            message = (
                f"The card's region '{card.region}' must match every id of '{card.name}', "
                f"not '{name}'. Widen it, or leave 'region' out."
            )
            raise DataError(message)
        regions[name] = match[0]
    return regions
