"""The tables in docstrings of test modules: where each edge case has its tests, as the starts of their names.

K1, K2    test_faults: who_leaves_a_group; test_lanes: a_first_caller_who_leaves
"""

import re
from collections.abc import Sequence
from pathlib import Path


def numbers(doc: str, letters: str) -> Sequence[str]:
    """Give the edge cases that a table names, sorted."""
    return sorted(re.findall(rf"\b[{letters}]\d+\b", doc))


def wrong(doc: str) -> Sequence[tuple[str, str]]:
    """Give the tests that a table names and that do not exist."""
    tests = {path.stem: path.read_text() for path in Path(__file__).parent.glob("test_*.py")}
    places = re.findall(r"(test_\w+): ((?:[a-z]\w*_\w+(?:,\s+)?)+)", doc)
    assert places
    return [
        (file, name)
        for file, names in places
        for name in re.split(r",\s+", names)
        if f"def test_{name}" not in tests[file]
    ]
