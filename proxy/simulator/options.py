"""What the command line of `talon-proxy simulate` may say.

Every switch of `unknowns` is an option of its own, which overrides the rules file.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, NoReturn, TypeVar, get_args, get_origin

from proxy.simulator import applications, faults, tls
from proxy.simulator.clock import moment
from proxy.simulator.deployments import MAX_WORLDS
from proxy.simulator.keys import DEFAULT_KEY
from proxy.simulator.unknowns import Unknowns

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0}
T = TypeVar("T")


class Address(NamedTuple):
    """Where to listen; IPv6 hosts without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class UsageError(Exception):
    """The command line is wrong; the text says how, in one line."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the arguments after the command's name, or raise UsageError."""
    return _parser().parse_args(argv)


def unknowns(given: argparse.Namespace) -> dict[str, Any]:
    """The switches that the command line sets, by their names in `Unknowns`."""
    return {name: value for name in Unknowns.model_fields if (value := getattr(given, name)) is not None}


def duration(text: str) -> float:
    """Seconds of a duration such as 25ms, 1.5s, 2m or 0."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s|m)", text, re.ASCII)
    if match:
        return float(match[1]) * _SECONDS[match[2]]
    if text == "0":
        return 0.0
    raise argparse.ArgumentTypeError(f"{text!r} is not a duration such as 25ms or 1.5s")


def address(text: str) -> Address:
    """Host and port of 127.0.0.1:9900 or [::1]:9900; port 0 lets the system choose."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^\s:\[\]]+)):(\d{1,5})", text, re.ASCII)
    if match is None or int(match[3]) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address such as 127.0.0.1:9900")
    return Address(match[1] or match[2], int(match[3]))


def _said(read: Callable[[str], T]) -> Callable[[str], T]:
    """A reader whose ValueError argparse shows as it is, instead of `invalid value`."""

    def reader(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return reader


def _header_word(text: str) -> str:
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("must be printable and without spaces")
    return text


def _worlds(text: str) -> int:
    if not re.fullmatch(r"[1-9]\d{0,4}", text, re.ASCII):
        raise ValueError(f"{text!r} is no number of worlds")
    return int(text)


def _host(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.:-]+", text, re.ASCII):
        raise ValueError(f"{text!r} is no host")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="talon-proxy simulate",
        description="A Talon.One to run against. proxy/simulator/README.md tells more.",
        allow_abbrev=False,
    )
    _serving(parser.add_argument_group("serving"))
    _opening(parser.add_argument_group("keys and worlds"))
    _behaving(parser.add_argument_group("behaviour"))
    _undocumented(
        parser.add_argument_group(
            "what nobody outside Talon.One knows",
            "Either way; else as [unknowns] of the rules says. proxy/simulator/FIDELITY.md explains each.",
        )
    )
    return parser


def _serving(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--listen",
        type=address,
        default=Address("127.0.0.1", 9900),
        metavar="HOST:PORT",
        help="default: %(default)s",
    )
    group.add_argument("--tls", action="store_true", help="serve https, with a certificate of an authority of its own")
    group.add_argument(
        "--tls-dir",
        type=Path,
        default=Path("simulator-tls"),
        metavar="DIR",
        help=f"where {tls.AUTHORITY}, the authority to trust, is kept; default: %(default)s",
    )
    group.add_argument(
        "--tls-host",
        type=_said(_host),
        action="append",
        default=[],
        metavar="HOST",
        help=f"a further host of the certificate, beside {', '.join(tls.HOSTS)}; repeatable",
    )
    group.add_argument(
        "--control-token",
        type=_said(_header_word),
        metavar="TOKEN",
        help="hear callers of /-/ on other machines too, with `Authorization: Bearer TOKEN`",
    )


def _opening(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--application",
        type=_said(applications.entry),
        action="append",
        default=[],
        metavar="NAME=KEY[@ENVIRONMENT][:testing]",
        help=f"an Application and a key that opens it, repeatable; default: default={DEFAULT_KEY}",
    )
    group.add_argument("--applications", type=Path, metavar="FILE", help="the same as tables in TOML")
    group.add_argument(
        "--management-key",
        type=_said(_header_word),
        default=DEFAULT_KEY,
        metavar="KEY",
        help="opens the sample of the Management API; default: %(default)s",
    )
    group.add_argument(
        "--worlds",
        type=_said(_worlds),
        default=MAX_WORLDS,
        metavar="N",
        help="how many worlds of KEY-NAME keys are kept at once; default: %(default)s",
    )


def _behaving(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--rules", type=Path, metavar="FILE", help="campaigns, coupons, loyalty …; default: built in")
    group.add_argument("--show-rules", action="store_true", help="print the built-in rules, to copy and change")
    group.add_argument("--latency", type=duration, default=0.0, help="time a call takes, such as 25ms; default: 0")
    group.add_argument("--jitter", type=duration, default=0.0, help="how much it varies either way; default: 0")
    group.add_argument(
        "--fault",
        type=_said(faults.parse),
        action="append",
        default=[],
        metavar="KIND[,OPTION=…]",
        help="what goes wrong, such as 503,rate=0.01; repeatable",
    )
    group.add_argument("--seed", type=int, help="makes what chance decides repeatable")
    group.add_argument(
        "--clock", type=_said(moment), metavar="MOMENT", help="time stands still, such as at 2026-01-01T00:00:00Z"
    )


def _undocumented(group: argparse._ArgumentGroup) -> None:
    for name, field in Unknowns.model_fields.items():
        option, said = f"--{name.replace('_', '-')}", (field.description or "").rstrip(".")
        if field.annotation is bool:
            group.add_argument(option, action=argparse.BooleanOptionalAction, help=said)
        elif get_origin(field.annotation) is Literal:
            values = get_args(field.annotation)
            group.add_argument(option, type=type(values[0]), choices=values, help=said)
        else:
            group.add_argument(option, metavar="TEXT", help=said)
