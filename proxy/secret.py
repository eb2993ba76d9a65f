"""A secret is a text that does not show itself: not printed, not logged, not serialised.

Whoever needs the text asks for it by name (`reveal`), so that a search for that word finds every such place.
It does not protect against someone who reads this process's memory.
"""

import hmac
from collections.abc import Iterable
from typing import NoReturn, Self

MASK = "***"
SHOWN = 4
LONG_ENOUGH = 12  # below this, four characters would give away too much of the text


class Secret:
    """One key or token."""

    __slots__ = ("__text",)

    def __init__(self, text: str) -> None:
        self.__text = text

    def reveal(self) -> str:
        """Give the text itself."""
        return self.__text

    @property
    def hint(self) -> str:
        """What may be shown so that an operator recognises a key: `…9999`, of a short one only `…`."""
        return "…" + self.__text[-SHOWN:] if len(self.__text) >= LONG_ENOUGH else "…"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        # Constant-time: the time of a comparison must not tell how much of a guess was right.
        return hmac.compare_digest(self.__text.encode(), other.reveal().encode())

    def __hash__(self) -> int:
        return hash((Secret, self.__text))

    def __repr__(self) -> str:
        return MASK

    def __str__(self) -> str:
        return MASK

    def __format__(self, _: str) -> str:
        return MASK

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        return self

    def __reduce_ex__(self, _: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled")


class Redactor:
    """Takes secrets out of texts: the last net of the log, where nothing of them should get that far.

    It forgets none: a key that was replaced is still somebody's key. The log's thread reads while others add.
    """

    MOST = 10_000  # secrets; a reload adds those that are new

    def __init__(self, secrets: Iterable[Secret] = ()) -> None:
        self._texts: tuple[str, ...] = ()
        self.know(secrets)

    def __repr__(self) -> str:
        return f"<Redactor knows={len(self._texts)}>"

    def know(self, secrets: Iterable[Secret]) -> None:
        """Take these out too."""
        # A new tuple, replaced in one step. The longest first: one secret may be the beginning of another.
        texts = dict.fromkeys((*filter(None, (secret.reveal() for secret in secrets)), *self._texts))
        self._texts = tuple(sorted(list(texts)[: self.MOST], key=len, reverse=True))

    def redact(self, text: str) -> str:
        """Give the text without any of them."""
        for secret in self._texts:
            if secret in text:
                text = text.replace(secret, MASK)
        return text
