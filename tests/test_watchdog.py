"""The watch over the event loop (P11): what is told of a block, and what is none."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from proxy.observe.entries import Fields
from proxy.observe.watchdog import DEEPEST, SILENT, Watchdog

SECRET = "cafe0123456789abcdef"


class Watched:
    """A loop that is stuck in another thread, and a clock in the test's hands."""

    def __init__(self) -> None:
        self.now = 100.0
        self.told: list[tuple[str, str, Fields]] = []
        self.dog = Watchdog(self._write, clock=lambda: self.now)

    def _write(self, level: str, msg: str, fields: Fields) -> None:
        self.told.append((level, msg, fields))

    def pass_by(self, seconds: float) -> None:
        """Look as often as the thread does."""
        for _ in range(round(seconds * 2)):
            self.now += 0.5
            self.dog.look()


@contextmanager
def stuck(depth: int = 0) -> Iterator[Watched]:
    watched, begun, released = Watched(), threading.Event(), threading.Event()

    def stuck_here(key: str, deeper: int) -> None:
        if deeper:
            stuck_here(key, deeper - 1)
        else:
            begun.set()
            released.wait()

    def loop() -> None:
        watched.dog.start()
        watched.dog.stop()  # the test looks, not its thread
        stuck_here(SECRET, depth)

    thread = threading.Thread(target=loop)
    thread.start()
    begun.wait()
    try:
        yield watched
    finally:
        released.set()
        thread.join()


def test_a_blocked_loop_is_told_once_with_where_it_stands_and_no_value() -> None:
    with stuck() as watched:
        watched.pass_by(SILENT - 0.5)
        assert watched.told == []
        watched.pass_by(5.0)

    [(level, msg, fields)] = watched.told
    assert (level, msg, fields["seconds"]) == ("error", "the event loop is blocked", SILENT)
    stack = fields["stack"]
    assert isinstance(stack, list)
    assert stack[0].startswith("threading:")
    assert any(line.startswith("tests.test_watchdog:") and line.endswith("stuck_here") for line in stack)
    assert SECRET not in repr(watched.told)
    assert repr(watched.dog) == "<Watchdog blocked>"


def test_a_stack_is_told_as_far_as_helps() -> None:
    with stuck(depth=100) as watched:
        watched.pass_by(SILENT)

    stack = watched.told[0][2]["stack"]
    assert isinstance(stack, list)
    assert len(stack) == DEEPEST


def test_it_is_told_when_it_goes_on_and_the_next_block_again() -> None:
    with stuck() as watched:
        watched.pass_by(3.0)
        watched.dog.show()
        watched.pass_by(0.5)
        assert watched.told[1:] == [("warning", "the event loop goes on", {"seconds": 3.0})]
        watched.pass_by(5.0)

    assert [msg for _, msg, _ in watched.told] == [
        "the event loop is blocked",
        "the event loop goes on",
        "the event loop is blocked",
    ]


def test_a_loop_that_shows_itself_is_left_alone() -> None:
    with stuck() as watched:
        for _ in range(20):
            watched.pass_by(0.5)
            watched.dog.show()

    assert watched.told == []
    assert repr(watched.dog) == "<Watchdog calm>"


def test_a_process_that_was_stopped_was_not_blocked() -> None:
    """SIGSTOP, a machine that was paused: the watch itself had no time, and the loop shows itself next."""
    with stuck() as watched:
        watched.now += 3600
        watched.dog.look()
        watched.dog.show()
        watched.pass_by(0.5)

    assert watched.told == []
