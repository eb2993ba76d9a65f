"""Problems are the errors that Talon.One tells its callers: a status and its error envelope."""

from typing import Any

INVALID = "The submitted data was invalid"


class Problem(Exception):
    """Ends a call with `status`. `errors` are the entries of its envelope; None where none are named."""

    def __init__(self, status: int, message: str, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors

    def content(self, *, with_status: bool = True) -> dict[str, Any]:
        """The envelope. Some operations leave out `StatusCode` when they answer 400."""
        envelope: dict[str, Any] = {"message": self.message, "errors": self.errors}
        if with_status:
            envelope["StatusCode"] = self.status
        return envelope


def invalid(title: str, details: str, *, pointer: str) -> Problem:
    """The submitted body is wrong at `pointer`, which is relative to the session, profile or event."""
    return Problem(400, INVALID, [{"title": title, "details": details, "source": {"pointer": pointer}}])


def invalid_parameter(title: str, details: str, *, parameter: str) -> Problem:
    """A query parameter is wrong."""
    return Problem(400, INVALID, [{"title": title, "details": details, "source": {"parameter": parameter}}])


def not_found(message: str) -> Problem:
    """What the call names does not exist."""
    return Problem(404, message)
