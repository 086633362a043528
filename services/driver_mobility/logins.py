"""Drivers at the page: logged in by number and password, known by a cookie that is stored as a hash only."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from datetime import timedelta
from typing import Final

from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from services.driver_mobility.passwords import is_password
from services.driver_mobility.records import DRIVER, LOGIN, Driver, Login

COOKIE_BYTES: Final = 32
LIFETIME: Final = timedelta(hours=12)
FAILURES_MAX: Final = 5
"""Wrong passwords in a row before an account rests."""
REST: Final = timedelta(minutes=5)
DRIVER_ID_CHARACTERS_MAX: Final = 64


class WrongLogin(RuleBroken):
    """Driver number and password do not belong together, or the account rests after too many tries."""

    def __init__(self) -> None:
        super().__init__("driver number and password do not belong together")


class Logins:
    """Opens and ends logins."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    async def open(self, emsp_id: PartyId, driver_id: str, password: str) -> str:
        """Log a driver in and return the cookie's value.

        Raises:
            WrongLogin: whatever was wrong; which of it is not told.
        """
        now = self._ports.clock.now()
        async with self._ports.units.begin() as unit:
            driver = await unit.table(DRIVER).get_for_update(emsp_id, driver_id[:DRIVER_ID_CHARACTERS_MAX])
            is_right = is_password(password, None if driver is None else driver.password_hash)
            if driver is None:
                raise WrongLogin
            is_resting = driver.locked_until is not None and now < driver.locked_until
            if is_resting or not is_right:
                if not is_resting:
                    await unit.table(DRIVER).put(self._after_failure(driver))
                    await unit.commit()
                raise WrongLogin
            await unit.table(DRIVER).put(replace(driver, failed_logins=0, locked_until=None))
            cookie = self._ports.randomness.token_bytes(COOKIE_BYTES).hex()
            login = Login(
                party_id=emsp_id,
                cookie_hash=_hash(cookie),
                driver_id=driver.driver_id,
                csrf_token=self._ports.randomness.token_bytes(COOKIE_BYTES).hex(),
                expires_at=now + LIFETIME,
            )
            await unit.table(LOGIN).insert(login)
            await unit.commit()
        return cookie

    def _after_failure(self, driver: Driver) -> Driver:
        failures = driver.failed_logins + 1
        if failures < FAILURES_MAX:
            return replace(driver, failed_logins=failures)
        return replace(driver, failed_logins=0, locked_until=self._ports.clock.now() + REST)

    async def find(self, emsp_id: PartyId, cookie: str | None) -> Login | None:
        """Return who is logged in at this MSP with the cookie."""
        if not cookie:
            return None
        async with self._ports.units.begin() as unit:
            login = await unit.table(LOGIN).get(emsp_id, _hash(cookie))
        return login if login is not None and self._ports.clock.now() < login.expires_at else None

    async def end(self, login: Login) -> None:
        """Log out."""
        async with self._ports.units.begin() as unit:
            await unit.table(LOGIN).delete(login.party_id, login.cookie_hash)
            await unit.commit()


def is_csrf_token(login: Login, presented: str) -> bool:
    """Tell whether a form carries the login's own token."""
    return hmac.compare_digest(login.csrf_token.encode(), presented.encode())


def _hash(cookie: str) -> str:
    return hashlib.sha256(b"wattroam driver cookie\0" + cookie.encode()).hexdigest()
