"""A station's password changed in one operation (OCPP 2.0.1, A01; 1.6: AuthorizationKey), safe at every step.

1. A new password is made, and its keyed hash becomes durable beside the old one: both open a connection from here on.
2. The station is told to use it.
3. It takes it: the old one is good for `OLD_PASSWORD_LASTS`, or until the station comes by the new one. It refuses: the
   new one is dropped. Nobody knows, because no answer came or this process died: both are good until the station comes
   by the new one; whichever it has, it is not shut out.

The password itself is nowhere but in the CALL: no row, log or message log has it, no answer of ours shows it. So one
that was lost on its way is never sent again. Another rotation makes another, and all that may be in the station stay
good, up to `NEXT_PASSWORDS_MAX`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

import structlog

from charge_point_gateway.rpc_errors import OCPPVersion
from charge_point_gateway.security import (
    RotationRefused,
    StationAuthenticator,
    StationIdentity,
    drawn_password,
)
from emobility.ports.clock import Clock, Randomness
from emobility.protocols.station_control.messages import (
    CommandOutcome,
    CommandResult,
    CredentialRotation,
    RotationState,
    SetVariable,
    StationCommand,
)

OLD_PASSWORD_LASTS: Final = timedelta(days=1)
"""A station takes a new password when it connects anew, some only after a restart."""
_NOT_TAKEN: Final = frozenset(
    {"Rejected", "NotSupported", "UnknownComponent", "UnknownVariable", "NotSupportedAttributeType", "NotImplemented"}
)
"""What a station says that keeps its old password for certain."""
_LOG: Final = structlog.get_logger(__name__)

Send = Callable[[StationIdentity, StationCommand], Awaitable[CommandOutcome]]


class PasswordRotation:
    """Changes passwords of stations that are connected."""

    def __init__(
        self, authenticator: StationAuthenticator, clock: Clock, randomness: Randomness, *, send: Send
    ) -> None:
        """Make it; `send` has the owner of a station send it a command."""
        self._authenticator = authenticator
        self._clock = clock
        self._randomness = randomness
        self._send = send

    async def rotate(
        self, identity: StationIdentity, version: OCPPVersion, *, correlation_id: str
    ) -> CredentialRotation:
        """Give a connected station a new password; return how that went.

        Raises:
            RotationRefused: it has no credential here, or too many earlier ones are in the dark.
        """
        password = drawn_password(self._randomness)
        now = self._clock.now()
        await self._authenticator.stage_password(identity, password, at=now)
        part = SetVariable(variable="BasicAuthPassword", value=password, component="SecurityCtrlr")
        if version is OCPPVersion.V16:
            part = SetVariable(variable="AuthorizationKey", value=password)
        outcome = await self._send(identity, StationCommand(correlation_id=correlation_id, set_variable=part))
        state, until = RotationState.UNCONFIRMED, None
        if outcome.result is CommandResult.ACCEPTED:
            state, until = RotationState.CONFIRMED, self._clock.now() + OLD_PASSWORD_LASTS
            await self._authenticator.confirm_password(identity, password, old_until=until)
        elif outcome.station_status in _NOT_TAKEN:
            state = RotationState.REFUSED
            await self._authenticator.withdraw_password(identity, password)
        _LOG.info("station_password_rotated", station=identity.key, state=state.value, result=outcome.result.value)
        return CredentialRotation(
            state=state, asked_at=now, station_status=outcome.station_status, old_good_until=until
        )


__all__ = ["PasswordRotation", "RotationRefused"]
