"""Mutations of a target's seeds, the same each time: what `make test` plays where there is no fuzzer."""

import random
from collections.abc import Iterator

from tests.fuzz.target import Target


def mutations(target: Target, count: int, seed: int) -> Iterator[bytes]:
    """Give so many inputs that stem from the seeds."""
    chance = random.Random(seed)
    for _ in range(count):
        data = bytearray(chance.choice(target.seeds))
        for _ in range(chance.choice((1, 1, 1, 2, 2, 4, 8))):
            _change(data, target, chance)
        yield bytes(data[: target.longest])


def _change(data: bytearray, target: Target, chance: random.Random) -> None:
    at = chance.randrange(len(data) + 1)
    end = min(len(data), at + chance.choice((1, 1, 2, 4, 16, 64)))
    match chance.randrange(7):
        case 0:
            data[at:end] = b""
        case 1:
            data[at:at] = data[at:end]
        case 2:
            data[at:end] = bytes(chance.randrange(256) for _ in range(end - at))
        case 3:
            data[at:at] = chance.choice(target.tokens)
        case 4:
            data[at:end] = chance.choice(target.tokens)
        case 5:
            data[at:end] = bytes(byte ^ 1 << chance.randrange(8) for byte in data[at:end])
        case 6:
            other = chance.choice(target.seeds)
            data[at:] = other[chance.randrange(len(other) + 1) :]
