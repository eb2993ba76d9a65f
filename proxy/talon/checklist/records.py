"""Records: what a proxy has counted, as its file says it. Pure.

Files come from other proxies, other versions and other hands: `check` gives one that can be added up, judged and
shown as it is, in XML too.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from proxy.talon.checklist.rule import Verdict

FORMAT: Final = 1
LAST_MOMENT: Final = 253_402_300_799  # of the year 9999, as Unix time
Json = Mapping[str, Any]

# What can be printed has no place for control characters, nor has XML in any form.
Text = Annotated[str, Meta(max_length=1_000, pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]*$")]
Number = Annotated[float, Meta(ge=0, lt=1e15)]
Whole = Annotated[int, Meta(gt=-(10**15), lt=10**15)]
Moment = Annotated[float, Meta(ge=0, le=LAST_MOMENT)]
Row = tuple[Number, Number, Moment, Moment]


class NotARecord(Exception):
    """What was given is not what a proxy tells; the text says why."""


class _Proxy(msgspec.Struct):
    name: Text
    since: Moment
    seconds: Number
    looked_at: Number
    waiting: Number
    thinned: Number
    dropped: Number
    sessions: Number
    sent: Number
    turned_away: Number
    conflicts_avoided: Number
    hindrances: list[Text]


class _Tally(msgspec.Struct):
    checked: Number
    broken: Number
    first: Moment | None
    last: Moment | None
    groups: list[tuple[Text, Text, Text, Number]]
    examples: list[Text]
    names: dict[Text, Row]


class _Record(msgspec.Struct):
    taken: Moment
    hashes: Text | None
    proxies: Annotated[list[_Proxy], Meta(min_length=1)]
    tallies: dict[Text, _Tally]
    inventory: dict[Text, dict[Text, Row]]
    counts: dict[Text, tuple[Whole, Whole, Whole, Whole]]
    acknowledged: dict[Text, Text]
    effects_handled: list[Text]


class _Rule(msgspec.Struct):
    id: Text
    verdict: Verdict


class _Judged(_Record):
    rules: list[_Rule]


def check(record: object) -> Json:
    """Give a record that can be judged. Raises NotARecord."""
    return _checked(record, _Record)


def check_judged(record: object) -> Json:
    """Give a record with its verdicts. Raises NotARecord."""
    return _checked(record, _Judged)


def _checked(record: object, shape: type[_Record]) -> Json:
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise NotARecord(f"it is not the checklist of a proxy that writes format {FORMAT}")
    try:
        msgspec.convert(record, shape)
    except (msgspec.ValidationError, UnicodeError) as error:
        raise NotARecord(f"it is not as `talon-proxy checklist --format json` writes it: {error}") from None
    return record
