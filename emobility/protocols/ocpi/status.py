"""OCPI status codes (section 5) and the one error that carries them to the edge."""

from __future__ import annotations

from enum import IntEnum

from emobility.domain.errors import EmobilityError


class StatusCode(IntEnum):
    """What `status_code` says: 1xxx done, 2xxx your fault, 3xxx mine, 4xxx the hub could not."""

    SUCCESS = 1000
    CLIENT_ERROR = 2000
    INVALID_PARAMETERS = 2001
    TOO_LITTLE_INFORMATION = 2002
    UNKNOWN_LOCATION = 2003
    UNKNOWN_TOKEN = 2004
    SERVER_ERROR = 3000
    SIGNATURE_REFUSED = 2901
    """Ours (29xx are for own use): the message is not signed though it must be, or its signature does not hold."""
    CLIENT_API_UNUSABLE = 3001
    NO_COMMON_VERSION = 3002
    ENDPOINTS_MISSING = 3003
    HUB_ERROR = 4000
    UNKNOWN_RECEIVER = 4001
    HUB_TIMED_OUT = 4002
    NOT_CONNECTED = 4003


class OCPIError(EmobilityError):
    """A request is answered with a status code other than 1000.

    Attributes:
        status_code: OCPI's four digits.
        http_status: 200 for a semantic error; 4xx and 5xx only where the text asks for one.
        message: For people; never a stack trace, never another party's data.
    """

    def __init__(self, status_code: StatusCode, message: str, *, http_status: int = 200) -> None:
        self.status_code = status_code
        self.http_status = http_status
        self.message = message
        super().__init__(f"{status_code:d} {message}")


class NoSuchObject(OCPIError):
    """The object of a GET, PATCH or DELETE is not there; HTTP 404."""

    def __init__(self, what: str, *, status_code: StatusCode = StatusCode.CLIENT_ERROR) -> None:
        super().__init__(status_code, f"no such {what}", http_status=404)


class InvalidParameters(OCPIError):
    """Well-formed JSON that this interface can't accept; S 2001."""

    def __init__(self, message: str) -> None:
        super().__init__(StatusCode.INVALID_PARAMETERS, message)


class NotAuthenticated(OCPIError):
    """No or an unknown credentials token; HTTP 401."""

    def __init__(self, message: str = "no valid credentials token") -> None:
        super().__init__(StatusCode.CLIENT_ERROR, message, http_status=401)


class MethodNotAllowed(OCPIError):
    """The interface has no such method, or not in this state of the registration; HTTP 405."""

    def __init__(self, message: str = "method not allowed") -> None:
        super().__init__(StatusCode.CLIENT_ERROR, message, http_status=405)
