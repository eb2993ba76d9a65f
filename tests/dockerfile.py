"""A Dockerfile as instructions: enough of its grammar for ours, and an error for what is beyond it."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

FLAG = re.compile(r"--([a-z-]+)=(\S+)\s*")
KEYWORDS = "ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL RUN USER WORKDIR"
KNOWN = frozenset(KEYWORDS.split())


@dataclass(frozen=True)
class Instruction:
    """One instruction: `COPY --from=build a b` ⇒ COPY, {from: build}, "a b"."""

    keyword: str
    flags: Mapping[str, str]
    value: str

    @property
    def words(self) -> Sequence[str]:
        """Its arguments, of the form with spaces."""
        return shlex.split(self.value)

    @property
    def command(self) -> Sequence[str]:
        """Its arguments, of the form that starts a program without a shell. Raises ValueError where it has one."""
        arguments: Sequence[str] = json.loads(self.value)
        return arguments

    @property
    def pairs(self) -> Mapping[str, str]:
        """Its `name=value`s."""
        return dict(word.split("=", 1) for word in self.words)


def parse(text: str) -> Sequence[Instruction]:
    """Read all instructions. Raises ValueError for a keyword that is not known here, and for a here-document."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [_instruction(line.strip()) for line in joined.splitlines() if line.strip()]


def _instruction(line: str) -> Instruction:
    keyword, _, rest = line.partition(" ")
    if keyword not in KNOWN or "<<" in rest:
        raise ValueError(line)
    flags = {}
    while found := FLAG.match(rest):
        flags[found[1]] = found[2]
        rest = rest[found.end() :]
    return Instruction(keyword, flags, rest.strip())


def stages(instructions: Sequence[Instruction]) -> Iterator[Sequence[Instruction]]:
    """Give each stage, its FROM first."""
    starts = [number for number, one in enumerate(instructions) if one.keyword == "FROM"]
    assert starts[0] == 0
    for start, end in zip(starts, [*starts[1:], len(instructions)], strict=True):
        yield instructions[start:end]
