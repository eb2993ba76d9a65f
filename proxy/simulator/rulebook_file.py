"""Rule book files: TOML in, a Rulebook out, or all problems at once with the place of each.

The built-in book is `rules.toml` beside this module; `talon-proxy simulate --show-rules` prints it.
"""

import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from proxy.simulator.rulebook import Rulebook

DEFAULT = "rules.toml"


class RulebookError(Exception):
    """The file cannot be used. `problems` has one line for each reason, with its place."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def default_text() -> str:
    """The built-in rule book as it is written."""
    return resources.files("proxy.simulator").joinpath(DEFAULT).read_text(encoding="utf-8")


@cache
def default() -> Rulebook:
    """The built-in rule book."""
    return parse(default_text())


def load(path: Path) -> Rulebook:
    """Read a file, or raise RulebookError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RulebookError([f"{path}: {error.strerror or error}"]) from error
    except UnicodeDecodeError as error:
        raise RulebookError([f"{path}: not UTF-8 text"]) from error
    try:
        return parse(text)
    except RulebookError as error:
        raise RulebookError([f"{path}: {problem}" for problem in error.problems]) from error


def parse(text: str) -> Rulebook:
    """Read a rule book from TOML, or raise RulebookError."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RulebookError([f"not TOML: {error}"]) from error
    try:
        book = Rulebook.model_validate(document)
    except ValidationError as error:
        raise RulebookError([f"{_place(item['loc'])}: {_reason(item)}" for item in error.errors()]) from error
    if problems := list(_contradictions(book)):
        raise RulebookError(problems)
    return book


def _place(location: tuple[int | str, ...]) -> str:
    """`campaigns[2].rules[1].then[1].percent`, counted from 1; the names of union members are left out."""
    place = ""
    for step in location:
        if isinstance(step, int):
            place += f"[{step + 1}]"
        elif not place.endswith("]") or not _names_a_type(step, place):
            place += f".{step}" if place else step
    return place or "the file"


def _names_a_type(step: str, place: str) -> bool:
    """Whether a step is the tag of a union, which pydantic puts behind the position in `then`."""
    return ".then[" in place and step[0].islower() and any(letter.isupper() for letter in step)


def _reason(error: ErrorDetails) -> str:
    match error:
        case {"type": "extra_forbidden"}:
            return "there is no such key"
        case {"type": "union_tag_invalid", "ctx": {"tag": tag, "expected_tags": expected}}:
            return f"there is no type {tag!r}, but {expected}"
    return error["msg"].removeprefix("Value error, ")


def _contradictions(book: Rulebook) -> Iterator[str]:
    """What each part alone cannot see: names that nothing has, names and ids that two have."""
    yield from _repeated(book)
    campaigns = {campaign.name for campaign in book.campaigns}
    for position, achievement in enumerate(book.achievements, start=1):
        if achievement.campaign not in campaigns:
            yield f"achievements[{position}].campaign: there is no campaign {achievement.campaign!r}"
    known = {
        "program": set(book.program_by_name),
        "achievement": set(book.achievement_by_name),
        "pool": set(book.pool_by_name),
        "audience": {audience.name for audience in book.audiences},
        "code": {coupon.code for campaign in book.campaigns for coupon in campaign.coupons},
    }
    for number, campaign in enumerate(book.campaigns, start=1):
        for row, rule in enumerate(campaign.rules, start=1):
            place = f"campaigns[{number}].rules[{row}]"
            if rule.when.audience is not None and rule.when.audience not in known["audience"]:
                yield f"{place}.when.audience: there is no audience {rule.when.audience!r}"
            for column, effect in enumerate(rule.then, start=1):
                for key, names in known.items():
                    name = getattr(effect, key, None)
                    if name is not None and name not in names:
                        yield f"{place}.then[{column}].{key}: there is no {_NOUNS.get(key, key)} {name!r}"


_NOUNS = {"code": "coupon", "program": "loyalty program", "pool": "giveaway pool"}


def _repeated(book: Rulebook) -> Iterator[str]:
    for key in ("campaigns", "loyalty_programs", "achievements", "giveaway_pools", "audiences", "catalogs"):
        parts = getattr(book, key)
        for attribute in ("id", "name"):
            for value, count in Counter(getattr(part, attribute) for part in parts).items():
                if count > 1:
                    yield f"{key}: {count} have the {attribute} {value!r}"
    for noun, codes in (
        ("coupons", [coupon.code for campaign in book.campaigns for coupon in campaign.coupons]),
        ("referrals", [referral.code for campaign in book.campaigns for referral in campaign.referrals]),
    ):
        for code, count in Counter(codes).items():
            if count > 1:
                yield f"campaigns: {count} {noun} have the code {code!r}"
