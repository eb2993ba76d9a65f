"""One entry of the log as a line of JSON or of text.

Whatever a caller sent: values hold no control characters, have a limited length, and are redacted before they are
cut or escaped, because half a key would not be recognised. An entry is one line; only a traceback in text form goes
on below it, every line of it marked.
"""

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

import orjson

LONGEST_VALUE = 512  # characters
LONGEST_MESSAGE = 2_048
LONGEST_LIST = 64
LONGEST_TRACEBACK = 100  # lines, the last ones

Fields = Mapping[str, object]

_RESERVED = frozenset({"ts", "level", "msg", "exception"})
_INTEGERS = range(-(1 << 63), 1 << 63)  # that orjson writes as numbers


class Entries:
    """Makes the lines."""

    def __init__(self, redact: Callable[[str], str], *, as_text: bool) -> None:
        self._redact = redact
        self._render = _render_text if as_text else _render_json

    def line(self, moment: float, level: str, msg: str, fields: Fields, trace: Sequence[str] = ()) -> str:
        """Give the line, without its end. Fields cannot replace `ts`, `level`, `msg` and `exception`."""
        stamp = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        entry: dict[str, object] = {"ts": stamp, "level": level, "msg": self._clean(msg, LONGEST_MESSAGE)}
        for name, value in fields.items():
            if name not in _RESERVED:
                entry[self._clean(name)] = self._plain(value)
        return self._render(entry, [self._clean(line) for line in trace[-LONGEST_TRACEBACK:]])

    def of_record(self, record: logging.LogRecord, more: Fields) -> str:
        """Give the line of a record of the standard module. Raises what a value raises that cannot be printed."""
        fields = {**getattr(record, "fields", {}), **more}
        return self.line(record.created, record.levelname.lower(), _message(record), fields, _trace(record))

    def _plain(self, value: object) -> object:
        """Give a value that fits into JSON."""
        if value is None or isinstance(value, bool | float) or (isinstance(value, int) and value in _INTEGERS):
            return value
        if isinstance(value, list | tuple):
            return [self._plain(item) for item in value[:LONGEST_LIST]]
        return self._clean(value.decode("latin-1") if isinstance(value, bytes) else str(value))

    def _clean(self, text: str, longest: int = LONGEST_VALUE) -> str:
        """Cut a text and escape what is not printable, line ends and bidirectional controls included (T16)."""
        if len(text) <= longest and text.isprintable() and '"' not in text and "\\" not in text:
            return text
        text = self._redact(text)
        if len(text) > longest:
            text = text[:longest] + "…"
        return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        return str(record.msg)  # the arguments do not fit


def _trace(record: logging.LogRecord) -> Sequence[str]:
    if not record.exc_info or record.exc_info[0] is None:
        return ()
    return "".join(traceback.format_exception(*record.exc_info)).splitlines()


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _render_json(entry: Fields, trace: Sequence[str]) -> str:
    if trace:
        # In JSON a line end is two characters.
        entry = {**entry, "exception": "\n".join(trace)}
    return orjson.dumps(entry).decode()


def _render_text(entry: Fields, trace: Sequence[str]) -> str:
    first = f"{entry['ts']} {entry['level']!s:<7} {entry['msg']}"
    pairs = [f"{name}={_shown(value)}" for name, value in entry.items() if name not in _RESERVED]
    # Marked, so that none of them can pass for an entry.
    return "\n".join([" ".join([first, *pairs]), *("    | " + line for line in trace)])


def _shown(value: object) -> str:
    """Give a value of the text form: quoted where it could be taken for more than one."""
    if isinstance(value, str) and value and not any(char in ' "=' for char in value):
        return value
    return orjson.dumps(value).decode()
