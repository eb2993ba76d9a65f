"""What callers ask for: calls of a shop, and the answers that the origin has for them.

Ids repeat after so many calls that no two in flight concern the same session or profile.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

SMALL_REPLY, LARGE_REPLY = 3_500, 200_000
# As wide as the number that replaces it, so that every body has the same size.
ID_MARK = "@ID@"


@dataclass(frozen=True, slots=True)
class Workload:
    """Calls of one kind: `sent` and `answered` are sizes of bodies in bytes, `ids` how many different calls there are.

    Where an id goes, `path` and `body` have the mark.
    """

    name: str
    method: str
    path: str
    sent: int
    answered: int = SMALL_REPLY
    ids: int = 4096

    @classmethod
    def session(cls, name: str, method: str, sent: int, answered: int = SMALL_REPLY, *, ids: int = 4096) -> Self:
        """Calls about sessions; their path tells the origin how large an answer is wanted."""
        return cls(name, method, f"/v2/customer_sessions/{answered}-{ID_MARK}", sent, answered, ids)

    @property
    def body(self) -> str:
        """Of a call."""
        if not self.sent:
            return ""
        return session(self.sent) if ID_MARK in self.path else event(self.sent)

    @property
    def title(self) -> str:
        """For a reader."""
        what = self.path.split("/")[2].replace("_", " ").rstrip("s")
        up = f", {size(self.sent)} up" if self.sent else ""
        return f"{self.method} {what}{up}, {size(self.answered)} down"

    def request(self, number: int, *, authorization: str = "") -> bytes:
        """A whole call."""
        identity = f"{number % self.ids:0{len(ID_MARK)}d}"
        body = self.body.replace(ID_MARK, identity).encode()
        lines = [
            f"{self.method} {self.path.replace(ID_MARK, identity)} HTTP/1.1",
            "Host: localhost",
            "Accept: application/json",
        ]
        if authorization:
            lines.append(f"Authorization: {authorization}")
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        return "\r\n".join([*lines, "", ""]).encode() + body


UPDATE = Workload.session("update", "PUT", 1_500)
READ = Workload.session("read", "GET", 0)
LARGE = Workload.session("large cart", "PUT", 60_000, LARGE_REPLY, ids=256)
# Names nobody and is never joined, so that the same one can be sent at the same time.
EVENT = Workload("event", "POST", "/v2/events", 1_500)


def size(count: int) -> str:
    """A number of bytes, in words."""
    if count >= 1_000_000:
        return f"{count / 1e6:g} MB"
    return f"{count / 1e3:g} KB" if count >= 1_000 else f"{count} B"


def session(size: int) -> str:
    """A customer session as a shop sends it, marked where the id goes."""
    content = {
        "customerSession": {
            "profileId": f"customer-{ID_MARK}",
            "state": "open",
            "couponCodes": ["WELCOME10"],
            "cartItems": _items(size),
            "attributes": {"ShippingCity": "Berlin", "PaymentMethod": "invoice"},
        },
        "responseContent": ["customerSession", "customerProfile"],
    }
    return _padded(content, size)


def event(size: int) -> str:
    """An event of a visitor nobody knows yet."""
    return _padded({"type": "cart_viewed", "attributes": {"items": _items(size)}}, size)


def answer(size: int) -> str:
    """An answer of the Integration API's shape."""
    content = {
        "customerSession": {
            "id": 6667,
            "created": "2024-03-01T09:00:00Z",
            "integrationId": "session",
            "applicationId": 1,
            "profileId": "customer",
            "state": "open",
            "total": 167.93,
            "cartItems": _items(size - 2_000),
        },
        "effects": [
            {
                "campaignId": 244,
                "rulesetId": 73,
                "ruleIndex": index,
                "ruleName": "Ten per cent off for new customers",
                "effectType": "setDiscount",
                "triggeredByCoupon": 4928,
                "props": {"name": "10% off", "value": 16.79, "desiredValue": 16.79},
            }
            for index in range(6)
        ],
        "customerProfile": {"id": 6, "integrationId": "customer", "attributes": {"Language": "de"}},
    }
    return _padded(content, size)


def _items(size: int) -> list[Mapping[str, object]]:
    # One takes some 160 bytes; what is left of the size is padding.
    return [
        {
            "name": f"Article {position}",
            "sku": f"SKU-{position:05d}",
            "quantity": position,
            "price": 19.99 + position,
            "category": "shoes",
            "attributes": {"colour": "black", "size": "42", "brand": "Example"},
        }
        for position in range(1, max(size - 300, 0) // 170 + 1)
    ]


def _padded(content: Mapping[str, object], size: int) -> str:
    without = len(json.dumps({**content, "padding": ""}, separators=(",", ":")))
    return json.dumps({**content, "padding": "x" * (size - without)}, separators=(",", ":"))
