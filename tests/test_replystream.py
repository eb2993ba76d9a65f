"""A stream of a large reply: what is held of it counts, and is no more than there is room for."""

from proxy.wire.buffers import Buffers
from proxy.wire.replystream import STREAM_AHEAD, ReplyStream


class Feed:
    def __init__(self) -> None:
        self.told: list[str] = []

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")

    def abandon(self) -> None:
        self.told.append("abandon")


async def test_what_is_held_counts_until_it_is_read() -> None:
    buffers, feed = Buffers(1 << 30), Feed()
    stream = ReplyStream(feed, buffers.share())

    stream.put(b"x" * 100)
    stream.put(b"x" * 50)
    held = [buffers.held]
    for _ in range(2):
        await anext(stream)
        held.append(buffers.held)

    assert held == [150, 50, 0]
    assert feed.told == []


async def test_with_room_for_less_than_is_usual_it_reads_no_further() -> None:
    buffers, feed = Buffers(150), Feed()
    stream = ReplyStream(feed, buffers.share())

    stream.put(b"x" * 100)
    assert feed.told == []
    stream.put(b"x" * 100)
    assert feed.told == ["pause"]
    await anext(stream)

    assert feed.told == ["pause", "resume"]


async def test_where_others_hold_all_a_piece_at_a_time_passes() -> None:
    buffers, feed = Buffers(150), Feed()
    others = buffers.share()
    others.hold(150)
    stream = ReplyStream(feed, buffers.share())

    for _ in range(3):
        feed.told.clear()
        stream.put(b"x")
        assert feed.told == ["pause"]
        await anext(stream)
        assert feed.told == ["pause", "resume"]

    others.hold(0)
    stream.put(b"x")
    assert feed.told == ["pause", "resume"], "there is room again"


async def test_a_stream_that_is_given_up_holds_nothing() -> None:
    buffers, feed = Buffers(10), Feed()
    stream = ReplyStream(feed, buffers.share())
    stream.put(b"x" * STREAM_AHEAD)

    stream.abandon()
    stream.put(b"x")

    assert buffers.held == 0
    assert feed.told == ["pause", "abandon"]
