"""What came of it, and what of that is wrong (edge-cases.md F). Pure."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from tests.chaos.deployment import Key
from tests.chaos.writes import REPEATABLE, Write

MOST_ATTEMPTS = 1.10  # for each call


class Answer(Enum):
    """What a caller was told."""

    DONE = "200 with its nonce"
    FOREIGN = "200 with something else"
    NOT_SENT = "not-sent"
    UNKNOWN = "unknown"
    MUTE = "an error that does not say what became of the call"
    LEFT = "nothing: it had left"
    NONE = "nothing"


@dataclass(frozen=True, slots=True)
class Found:
    """All that was seen: by the callers, at Talon.One, in the proxy."""

    answers: Mapping[str, Answer]  # by nonce
    arrived: Sequence[tuple[Write, tuple[Key, ...]]]
    collisions: int
    admitted: Mapping[str, int]  # numbers of admission by nonce
    repeated: int  # attempts that the proxy says it made again after something was sent
    left_over: Mapping[str, int]  # what the proxy still holds, by its name
    wrongs: Mapping[str, int]  # what Talon.One did
    seconds: float

    def wrong(self) -> dict[str, int]:
        """Count whatever must not be: all are zero."""
        executed = Counter(write.nonce for write, _ in self.arrived)
        twice = {write.nonce: write for write, _ in self.arrived if executed[write.nonce] > 1}
        told = Counter(self.answers.values())
        repeats = len(self.arrived) - len(executed)
        return {
            "answers of another call": told[Answer.FOREIGN],
            "calls without an answer": told[Answer.NONE],
            "errors that do not say what became of the call": told[Answer.MUTE],
            "writes told as done and not executed": self._told(Answer.DONE, executed, executed_is=False),
            "writes told as not sent and executed": self._told(Answer.NOT_SENT, executed, executed_is=True),
            "writes executed twice that must not be": sum(write.kind not in REPEATABLE for write in twice.values()),
            "writes executed more than twice": sum(count > 2 for count in executed.values()),
            "repeats that the proxy did not count": max(repeats - self.repeated, 0),
            "writes executed beside another of their key": self.collisions,
            "writes out of order": out_of_order(self.arrived, self.admitted),
            "attempts beyond 1.1 a call": max(len(self.arrived) - int(MOST_ATTEMPTS * len(self.answers)), 0),
            **{f"{what} left over": count for what, count in self.left_over.items()},
        }

    def _told(self, answer: Answer, executed: Mapping[str, int], *, executed_is: bool) -> int:
        return sum(told is answer and (nonce in executed) is executed_is for nonce, told in self.answers.items())

    def summary(self) -> str:
        """Give all of it as text."""
        lines = [f"{len(self.answers):,} writes in {self.seconds:.0f} s", "", "Talon.One did:"]
        lines += [f"{count:7,}  {what}" for what, count in self.wrongs.items()]
        lines += ["", "Callers were told:"]
        lines += [f"{count:7,}  {answer.value}" for answer, count in Counter(self.answers.values()).most_common()]
        repeats = len(self.arrived) - len({write.nonce for write, _ in self.arrived})
        lines += [
            "",
            f"{len(self.arrived):,} attempts arrived, {repeats} of them repeats; {self.repeated} were counted",
        ]
        lines += ["", "Must all be zero:", *(f"{count:7,}  {what}" for what, count in self.wrong().items())]
        return "\n".join(lines)


def out_of_order(arrived: Sequence[tuple[Write, tuple[Key, ...]]], admitted: Mapping[str, int]) -> int:
    """Count the writes that arrived after one of the same key that was admitted later."""
    latest: defaultdict[Key, int] = defaultdict(int)
    found = 0
    for write, keys in arrived:
        number = admitted[write.nonce]
        found += any(latest[key] > number for key in keys)
        for key in keys:
            latest[key] = max(latest[key], number)
    return found
