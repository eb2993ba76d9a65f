"""Ids as operators may see them: hashed, so that a log tells which lines belong together and not whose they are.

The hash is keyed. Ids are often mail addresses or numbers that can be counted through; without the key nobody can hash
all of them and look up which it was. Proxies with the same key (`log.hash_key`) give an id the same hash.
"""

import secrets
from hashlib import blake2b

DIGITS = 12  # of hexadecimal: among a million ids two share a hash with a chance of 1 in 500
_PERSON = b"talon-proxy id"  # the same key in another use must not give the same hashes


class Hashes:
    """Hashes ids with one key; without a key of its own, with a random one that ends with the process."""

    def __init__(self, key: str | None) -> None:
        # A key may be of any length, blake2b takes 64 bytes.
        self._key = secrets.token_bytes() if key is None else blake2b(key.encode()).digest()

    def __repr__(self) -> str:
        return "<Hashes>"

    def hash(self, id_: str) -> str:
        """Give what stands for an id (decoded; bytes that were not UTF-8 as lone surrogates)."""
        return self.digest(id_.encode("utf-8", "surrogateescape"))

    def digest(self, data: bytes) -> str:
        """Give what stands for bytes."""
        return blake2b(data, key=self._key, digest_size=DIGITS // 2, person=_PERSON).hexdigest()
