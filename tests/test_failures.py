"""Errors of Talon.One, by what they say (talon-one-facts.md §8)."""

import gzip

import orjson
import pytest

from proxy.talon.failures import Failure, classify


def invalid(*titles: object, message: str = "The submitted data was invalid") -> bytes:
    errors = [{"title": title, "details": "what a customer typed", "source": {"pointer": "/x"}} for title in titles]
    return orjson.dumps({"message": message, "errors": errors})


@pytest.mark.parametrize(
    ("status", "body", "failure"),
    [
        (400, invalid("Unknown"), Failure.UNKNOWN_ATTRIBUTE),
        (400, invalid("Invalid type"), Failure.TYPE),
        (400, invalid("enum"), Failure.ENUM),
        (400, invalid("Duplicate SKU", "enum"), Failure.ENUM),
        (400, invalid("Duplicate SKU"), Failure.VALIDATION),
        (422, invalid("Unknown"), Failure.UNKNOWN_ATTRIBUTE),
        (400, invalid(message="HMAC signature mismatch."), Failure.AUTH_LEGACY),
        (401, b"", Failure.AUTH),
        (403, b"", Failure.AUTH),
        (404, b"", Failure.NOT_FOUND),
        (
            409,
            b'{"message": "Too many requests are updating this session at the same time"}',
            Failure.CONFLICT_PARALLEL,
        ),
        (
            409,
            b'{"message": "Too many requests are updating this profile at the same time"}',
            Failure.CONFLICT_PARALLEL,
        ),
        (409, b'{"message": "the thing already exists"}', Failure.CONFLICT_EXISTS),
        (409, b'{"message": "limit reached"}', Failure.CONFLICT_OTHER),
        (418, b"", Failure.OTHER),
        (429, b"", Failure.THROTTLED),
        (500, invalid("Unknown"), Failure.UPSTREAM_5XX),
        (599, b"", Failure.UPSTREAM_5XX),
    ],
)
def test_an_error_is_named_by_its_status_and_the_fixed_texts_in_it(status: int, body: bytes, failure: Failure) -> None:
    assert classify(status, b"Content-Type: application/json\r\n", body) is failure


def test_a_compressed_error_is_read() -> None:
    block = b"Content-Type: application/json\r\ncontent-ENCODING:  gzip\r\n"

    assert classify(400, block, gzip.compress(invalid("Invalid type"))) is Failure.TYPE


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"{}",
        b'{"errors": 3}',
        b'{"errors": [null, 3]}',
        b'{"errors": null, "message": 3}',
        invalid(["Unknown"], {"enum": 1}, None),
        b"[" * 100_000,
        b"\x1f\x8b not gzip",
    ],
)
@pytest.mark.parametrize("block", [b"", b"Content-Encoding: gzip\r\n", b"Content-Encoding: br\r\n"])
def test_an_error_of_another_shape_is_some_validation(body: bytes, block: bytes) -> None:
    assert classify(400, block, body) is Failure.VALIDATION
