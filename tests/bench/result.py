"""The result of a run, as a file: everything measured, and what it belongs to."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.bench.samples import Samples

RESULTS = Path(__file__).parent / "results"
RESULT, TABLE, CONFLICTS = RESULTS / "result.json", RESULTS / "table.md", RESULTS / "conflicts.json"


@dataclass(frozen=True, slots=True)
class Result:
    """One run."""

    date: str
    command: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    samples: Samples

    @classmethod
    def read(cls, file: Path) -> Self:
        """Out of a file."""
        content = json.loads(file.read_text())
        return cls(**{**content, "samples": Samples.from_json(content["samples"])})

    def write(self, file: Path) -> None:
        """Into a file, a line for each sample."""
        about = {"date": self.date, "command": self.command, "machine": self.machine, "versions": self.versions}
        head = json.dumps(about, indent=2, ensure_ascii=False).removesuffix("\n}")
        lines = ",\n".join(f"    {json.dumps(sample)}" for sample in self.samples.as_json())
        file.write_text(f'{head},\n  "samples": [\n{lines}\n  ]\n}}\n')


def read_conflicts(file: Path = CONFLICTS) -> Mapping[str, Any] | None:
    """What `make conflicts` found when it was run last; None if it never was."""
    if not file.exists():
        return None
    found: Mapping[str, Any] = json.loads(file.read_text())
    return found
