"""`talon-proxy status`: what a running proxy does, from `/status` of its admin listener.

Once, or with `--watch` again and again: drawn over in place on a terminal, a line per look on a pipe, until Ctrl-C.
0: told; 1: nobody answers, or not us; 2: wrong usage, or no address to ask.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TextIO

from proxy.commands.listener import NoAnswer, NotFound, Place, Sources, ask
from proxy.commands.statuspage import Json, Pace, Row, fitting, laid_out, line, page

EVERY = 1.0  # seconds
ANSWER_WITHIN = 3.0  # seconds
_HINT: Row = ("", "Ctrl-C ends this")
_PIPE_WIDTH = 100  # columns where there is no terminal


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """Show the status."""
    options = _parser().parse_args(arguments)
    flags = {"admin.listen": options.listen, "admin.token_file": options.token_file, "config": options.config}
    try:
        sources = Sources({name: value for name, value in flags.items() if value is not None}, environ)
        place, token = sources.admin, sources.token
    except NotFound as error:
        print(f"talon-proxy status: {error}", file=sys.stderr)
        return 2

    def look() -> Json:
        return fetch(place, token)

    try:
        if options.watch:
            return watch(look, _screen(sys.stdout, environ, as_json=options.json), sleep=time.sleep)
        return _once(look, as_json=options.json)
    except BrokenPipeError:
        # Whoever read has seen enough (`| head`). Python would complain once more when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def fetch(place: Place, token: str | None) -> Json:
    """Ask for the status. Raises NoAnswer, also where the answer is none."""
    code, body = ask(place, "/status", timeout=ANSWER_WITHIN, token=token)
    if code == 403:
        raise NoAnswer(f"{place} tells its status to this machine only, or with the token (admin.token)")
    try:
        status = json.loads(body)
    except ValueError:
        status = None
    if code != 200 or not isinstance(status, dict):
        raise NoAnswer(f"what listens on {place} is no talon-proxy, or does not tell its status: it answers {code}")
    return status


def _once(look: Callable[[], Json], *, as_json: bool) -> int:
    try:
        status = look()
    except NoAnswer as error:
        print(f"talon-proxy status: {error}", file=sys.stderr)
        return 1
    if as_json:
        print(json.dumps(status, indent=2))
    else:
        width = shutil.get_terminal_size((_PIPE_WIDTH, 0)).columns
        print("\n".join(laid_out(page(status, Pace.between(None, status)), width)))
    return 0


# --- watching -------------------------------------------------------------------------------------------------


class Screen(Protocol):
    """Where looks are shown."""

    def show(self, status: Json, pace: Pace) -> None:
        """Show a look."""
        ...

    def miss(self, why: str) -> None:
        """Show that there was none."""
        ...

    def close(self) -> None:
        """Leave it as it was found."""
        ...


def watch(look: Callable[[], Json], screen: Screen, *, sleep: Callable[[float], None]) -> int:
    """Look and show until interrupted. A proxy that is gone may come back."""
    earlier: Json | None = None
    try:
        while True:
            try:
                status = look()
            except NoAnswer as error:
                screen.miss(str(error))
            else:
                screen.show(status, Pace.between(earlier, status))
                earlier = status
            sleep(EVERY)
    except KeyboardInterrupt:
        return 0
    finally:
        screen.close()


class Terminal:
    """Draws each look over the one before. Needs no colour, and no more of a terminal than moving up and clearing."""

    def __init__(self, out: TextIO, size: Callable[[], tuple[int, int]]) -> None:
        """`size` gives columns and lines, which change while somebody looks."""
        self._out = out
        self._size = size
        self._drawn = 0  # lines
        self._out.write("\x1b[?25l")  # the cursor would jump about

    def show(self, status: Json, pace: Pace) -> None:
        """See `Screen`."""
        self._draw(page(status, pace))

    def miss(self, why: str) -> None:
        """See `Screen`."""
        self._draw([("talon-proxy", why)])

    def close(self) -> None:
        """See `Screen`."""
        self._out.write("\x1b[?25h")
        self._out.flush()

    def _draw(self, rows: Iterable[Row]) -> None:
        width, height = self._size()
        # Not in the last column: some terminals go to the next line then, which would not be counted.
        lines = fitting([text[: width - 1] for text in laid_out([*rows, _HINT], width - 1)], height)
        up = f"\x1b[{self._drawn}A" if self._drawn else ""
        self._out.write(f"{up}\r\x1b[J" + "".join(f"{text}\n" for text in lines))
        self._out.flush()
        self._drawn = len(lines)


class Lines:
    """Writes a line for each look, with its time; with `as_json` the JSON instead."""

    def __init__(self, out: TextIO, *, as_json: bool, now: Callable[[], str]) -> None:
        self._out = out
        self._as_json = as_json
        self._now = now

    def show(self, status: Json, pace: Pace) -> None:
        """See `Screen`."""
        self._write(json.dumps(status) if self._as_json else f"{self._now()} {line(status, pace)}")

    def miss(self, why: str) -> None:
        """See `Screen`."""
        self._write(json.dumps({"error": why}) if self._as_json else f"{self._now()} {why}")

    def close(self) -> None:
        """See `Screen`."""

    def _write(self, text: str) -> None:
        self._out.write(f"{text}\n")
        self._out.flush()


def _screen(out: TextIO, environ: Mapping[str, str], *, as_json: bool) -> Screen:
    if as_json or not out.isatty() or environ.get("TERM", "dumb") == "dumb":
        return Lines(out, as_json=as_json, now=lambda: time.strftime("%H:%M:%S"))
    return Terminal(out, lambda: shutil.get_terminal_size())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="talon-proxy status", description="Show what a running proxy does.", allow_abbrev=False
    )
    parser.add_argument("--watch", action="store_true", help="look again every second until Ctrl-C")
    parser.add_argument("--json", action="store_true", help="for programs; with --watch one object a line")
    parser.add_argument("--admin.listen", dest="listen", metavar="ADDRESS", help="of the proxy, if not from settings")
    parser.add_argument("--admin.token_file", dest="token_file", metavar="FILE", help="that holds admin.token")
    parser.add_argument("--config", metavar="FILE", help="where its settings are")
    return parser
