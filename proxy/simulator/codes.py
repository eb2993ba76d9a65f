"""Codes that the simulator makes up: coupons, referrals, cards, transactions. The same token, the same code."""

from collections.abc import Callable, Sequence
from hashlib import sha1, sha256
from itertools import count
from string import ascii_uppercase, digits

LETTERS = ascii_uppercase + digits


def fill(pattern: str, token: str, taken: Callable[[str], object], letters: Sequence[str] = LETTERS) -> str:
    """The pattern with every # replaced by a letter that hangs on the token alone, in the first way not taken."""
    for attempt in count():
        code = _fill(pattern, f"{token}#{attempt}", letters)
        if attempt > len(letters) ** min(pattern.count("#"), 3):
            code += f"-{attempt}"  # all that the pattern allows may be taken
        if not taken(code):
            return code
    raise AssertionError


def transaction(token: str) -> str:
    """A UUID: one of version 5, written without the detour over an object, since every update makes some."""
    code = sha1(token.encode(errors="surrogatepass"), usedforsecurity=False).hexdigest()
    return f"{code[:8]}-{code[8:12]}-5{code[13:16]}-8{code[17:20]}-{code[20:32]}"


def _fill(pattern: str, token: str, letters: Sequence[str]) -> str:
    number = int.from_bytes(sha256(token.encode(errors="surrogatepass")).digest(), "big")
    code = ""
    for character in pattern:
        if character == "#":
            number, place = divmod(number, len(letters))
            character = letters[place]
        code += character
    return code
