"""C28–C38, generated: thousands of framings between a call before and a call behind, cut in every way; and odd bytes in
every place of a request (C8, C16, C17).

Whatever arrives, Talon.One sees only canonical requests, those that the framing makes of it and no other; each is
answered to its own sender, and so is somebody else's call right after it.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence

import pytest

from tests.canonical import Answer, smuggled
from tests.framings import BEFORE, BEHIND, TARGET, Framing, Outcome, Says, framings
from tests.harness import Line, running
from tests.through import CallerConnection, Through

COUNT = 6000
PLACE = b"/v2/customer_sessions/%b"


@pytest.fixture(scope="module")
def all_framings() -> Sequence[Framing]:
    return list(framings(COUNT, seed=20))


def expected(outcome: Outcome) -> list[tuple[bytes, bytes]]:
    """Targets and bodies that must reach Talon.One."""
    found = [(PLACE % b"before", b"")]
    if outcome.body is not None:
        found.append((TARGET, outcome.body))
    return [*found, (PLACE % b"behind", b"")] if outcome.behind else found


async def judge(through: Through, framing: Framing, pieces: Sequence[bytes]) -> None:
    before = len(through.requests)
    caller, other = through.caller(), through.caller()
    await caller.send(*pieces)
    await caller.leave()
    await other.send(BEFORE)
    await other.leave()

    outcome = framing.outcome
    heard = [(request.target, request.body) for request in through.requests[before:]]
    assert heard == [*expected(outcome), (PLACE % b"before", b"")], framing
    answers = final(caller)
    served = len(heard) - 1
    assert [answer.field(b"x-number") for answer in answers[:served]] == [b"%d" % (before + at) for at in range(served)]
    assert [answer.field(b"x-number") for answer in final(other)] == [b"%d" % (before + served)]
    assert len(answers) <= served + 1, framing
    for refusal in answers[served:]:
        assert refusal.status in (400, 408, 413, 431, 501), framing
        assert refusal.field(b"connection") == b"close"


def final(caller: CallerConnection) -> list[Answer]:
    return [answer for answer in caller.answers() if not answer.interim]


def in_pieces(data: bytes, chance: random.Random) -> list[bytes]:
    cuts = sorted(chance.sample(range(1, len(data)), chance.choice((1, 2, 3, 8))))
    return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


async def test_c28_to_c38_whatever_the_framing_only_what_it_says_arrives(all_framings: Sequence[Framing]) -> None:
    chance = random.Random(21)
    through = Through()
    for number, framing in enumerate(all_framings):
        data = BEFORE + framing.request + BEHIND
        if not number % 500:
            through = Through()  # that what is remembered of heads begins anew now and then
        await judge(through, framing, in_pieces(data, chance) if number % 2 else [data])


async def test_c28_to_c38_the_same_byte_by_byte(all_framings: Sequence[Framing]) -> None:
    for framing in all_framings[:: COUNT // 100]:
        data = BEFORE + framing.request + BEHIND
        await judge(Through(), framing, [data[at : at + 1] for at in range(len(data))])


def test_the_generator_makes_all_kinds(all_framings: Sequence[Framing]) -> None:
    outcomes = [framing.outcome for framing in all_framings]

    assert len({framing.request for framing in all_framings}) > 5000
    assert 1000 < sum(outcome.body is None for outcome in outcomes) < 5000
    assert sum(bool(outcome.body) for outcome in outcomes) > 300
    assert sum(outcome.behind for outcome in outcomes) > 300
    assert {line.says for framing in all_framings for line in framing.lines} == set(Says)


async def next_final(line: Line) -> bytes:
    """Read an answer's body; interim ones are not it."""
    head, body = await line.message()
    return await next_final(line) if head.startswith(b"HTTP/1.1 1") else body


def sample(all_framings: Sequence[Framing]) -> Iterator[Framing]:
    yield from all_framings[:: COUNT // 150]


async def test_c28_to_c38_a_sample_on_sockets(all_framings: Sequence[Framing]) -> None:
    """The nonce of each is in its target's query, which Talon.One says again."""
    async with running() as (upstream, proxy):
        upstream.answer = lambda request: (
            b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b"
            % (
                len(request.split(b" ")[1]),
                request.split(b" ")[1],
            )
        )

        async def play(number: int, framing: Framing) -> None:
            data = (BEFORE + framing.request + BEHIND).replace(b" HTTP/1.", b"?%d HTTP/1." % number)
            line = await proxy.client()
            await line.send(data)
            said = [await next_final(line) for _ in expected(framing.outcome)]
            line.half_close()
            rest = await line.to_end()
            await line.close()
            heard = [request for request in upstream.requests if b"?%d HTTP/1.1\r\n" % number in request]
            assert [smuggled(request) for request in heard] == [""] * len(heard)
            # On connections of their own they may arrive in any order.
            assert sorted(said) == sorted(request.split(b" ")[1] for request in heard)
            assert [place.partition(b"?")[0] for place in said] == [place for place, _ in expected(framing.outcome)]
            assert b"HTTP/1.1 2" not in rest

        await asyncio.gather(*(play(number, framing) for number, framing in enumerate(sample(all_framings))))


ODD = [
    *(bytes((byte,)) for byte in (*range(0x21), 0x7F, 0x80, 0xA0, 0xFF)),
    b"\r\n",
    b"\n ",
    b"\r\n\r\n",
    b"\n\n",
    b":",
    b"#",
]
# With colons in every part: what a line end makes of the rest may then be taken for a field.
WHOLE = b"PUT /v2/customer_sessions/a:b?c:d=e HTTP/1.1\r\nHost: localhost\r\nX-A: b:c\r\nContent-Length: 2\r\n\r\n{}"


@pytest.mark.parametrize("instead", [False, True])
async def test_c8_c16_c17_an_odd_byte_anywhere_puts_no_line_of_its_own_into_a_request(*, instead: bool) -> None:
    through = Through()
    for odd in ODD:
        for place in range(len(WHOLE)):
            before = len(through.requests)
            caller = through.caller()
            await caller.send(WHOLE[:place] + odd + WHOLE[place + instead :] + BEHIND)
            await caller.leave()

            # That each is canonical, `Through` sees; its lines must be those that were sent, and ours.
            requests = through.requests[before:]
            assert len(requests) <= 2, (odd, place)
            for request in requests:
                lines = request.head.split(b"\r\n")
                names = [line.partition(b":")[0] for line in lines[1:-2]]
                assert len(set(names) - {b"Host", b"Authorization", b"Via", b"X-Request-Id", b"Content-Length"}) <= 2
                assert names.count(b"Content-Length") == (request.method == b"PUT")
            answers = final(caller)
            numbers = [answer.field(b"x-number") for answer in answers if answer.field(b"x-number")]
            assert numbers == [b"%d" % (before + at) for at in range(len(requests))]
