"""Signs of a move: told when nothing else is heard any more, once, and when it is over."""

import pytest

from proxy.errors import CertificateError, ConnectionRefused
from proxy.messages import Reply, Source
from proxy.traffic.signs import ENOUGH, ENOUGH_ALIKE, Sign, Signs, Suspicion
from tests.clock import Time


class Ear:
    def __init__(self) -> None:
        self.told: list[Suspicion | None] = []
        self.signs = Signs(Time(), self.told.append)

    def hear(self, status: int, count: int = 1, *, page: bool = False, operations: int = 2) -> None:
        block = b"Content-Type: text/html; charset=utf-8\r\n" if page else b"Content-Type: application/json\r\n"
        for number in range(count):
            reply = Reply(status, block, b"", source=Source.UPSTREAM, length=0)
            self.signs.answered(f"operation{number % operations}", reply)

    @property
    def heard(self) -> list[Sign | None]:
        return [None if suspicion is None else suspicion.sign for suspicion in self.told]


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.mark.parametrize(("status", "page", "sign"), [(301, False, Sign.REDIRECT), (200, True, Sign.WEB_PAGE)])
def test_several_operations_with_nothing_but_a_sign_say_it(ear: Ear, status: int, page: bool, sign: Sign) -> None:
    ear.hear(status, ENOUGH - 1, page=page)
    assert ear.heard == []
    assert ear.signs.moved is None

    ear.hear(status, 20, page=page)
    assert ear.heard == [sign]
    assert ear.signs.moved is not None


def test_a_certificate_that_is_refused_for_all_says_it_too(ear: Ear) -> None:
    for number in range(ENOUGH):
        ear.signs.failed(f"operation{number}", ConnectionRefused("x"))
    assert ear.signs.suspicion is None
    for number in range(ENOUGH):
        ear.signs.failed(f"operation{number}", CertificateError("x"))

    assert ear.heard == [Sign.CERTIFICATE]


def test_of_one_operation_it_takes_more(ear: Ear) -> None:
    ear.hear(302, ENOUGH_ALIKE - 1, operations=1)
    assert ear.heard == []
    ear.hear(302, operations=1)
    assert ear.heard == [Sign.REDIRECT]


@pytest.mark.parametrize("status", [200, 204, 304, 400, 401, 404, 409])
def test_an_ordinary_answer_between_them_says_that_all_is_well(ear: Ear, status: int) -> None:
    for _ in range(10):
        ear.hear(308, ENOUGH - 1)
        ear.hear(status)

    assert ear.heard == []
    assert ear.signs.suspicion is None


def test_when_it_is_over_that_is_told(ear: Ear) -> None:
    ear.hear(308, ENOUGH)
    ear.hear(200)
    ear.hear(200)

    assert ear.heard == [Sign.REDIRECT, None]
    assert ear.signs.moved is None


def test_a_gateways_page_for_an_outage_says_nothing_either_way(ear: Ear) -> None:
    ear.hear(503, 100, page=True)
    assert ear.heard == []

    ear.hear(308, ENOUGH - 1)
    ear.hear(502, 3, page=True)
    ear.hear(308)
    assert ear.heard == [Sign.REDIRECT]
