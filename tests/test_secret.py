import copy
import json
import pickle
from collections.abc import Callable

import orjson
import pytest

from proxy.secret import Secret

CANARY = "canary-0123456789-9999"


@pytest.mark.parametrize("shown", [repr, str, "{}".format, "{:>40}".format, lambda secret: f"{secret!r:s}"])
def test_a_secret_prints_as_stars(shown: Callable[[object], str]) -> None:
    assert shown(Secret(CANARY)).strip() == "***"


def test_a_container_of_secrets_does_not_show_them() -> None:
    assert CANARY not in repr({"keys": [Secret(CANARY)], Secret(CANARY): 1})


def test_a_secret_is_read_by_asking_for_it() -> None:
    assert Secret(CANARY).reveal() == CANARY


@pytest.mark.parametrize(
    ("text", "hint"),
    [(CANARY, "…9999"), ("12-character", "…cter"), ("11-characte", "…"), ("abc", "…"), ("", "…")],
)
def test_a_hint_shows_the_end_of_a_long_secret_only(text: str, hint: str) -> None:
    assert Secret(text).hint == hint


def test_secrets_are_equal_by_their_text() -> None:
    assert Secret(CANARY) == Secret(CANARY)
    assert Secret(CANARY) != Secret(CANARY + "x")
    assert Secret("é") == Secret("é")
    assert Secret(CANARY) != CANARY
    assert len({Secret(CANARY), Secret(CANARY)}) == 1


@pytest.mark.parametrize("serialise", [pickle.dumps, json.dumps, orjson.dumps])
def test_a_secret_is_not_serialised(serialise: Callable[[object], object]) -> None:
    with pytest.raises(TypeError) as caught:
        serialise(Secret(CANARY))

    assert CANARY not in str(caught.value)


def test_a_copy_is_the_same_secret() -> None:
    secret = Secret(CANARY)

    assert copy.copy(secret) is secret
    assert copy.deepcopy([secret])[0] is secret


def test_a_secret_has_no_attributes_to_dump() -> None:
    with pytest.raises(TypeError):
        vars(Secret(CANARY))
    with pytest.raises(AttributeError):
        Secret(CANARY).label = "x"  # type: ignore[attr-defined]
