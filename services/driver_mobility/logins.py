"""Drivers at the page: logged in by number and password, known by a cookie that is stored as a hash only."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from dataclasses import replace
from datetime import timedelta
from typing import Final

from emobility.domain.errors import RuleBroken, Unavailable
from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from emobility.runtime.tries_by_address import REST, TriesByAddress
from services.driver_mobility.passwords import is_password
from services.driver_mobility.records import DRIVER, LOGIN, Driver, Login

COOKIE_BYTES: Final = 32
LIFETIME: Final = timedelta(hours=12)
FAILURES_MAX: Final = 50
"""Wrong passwords in a row, from all addresses, before an account rests: far above what one address may try."""
HASHED_AT_ONCE: Final = 2
"""Passwords compared at once; each takes a core and 19 MiB."""
WAITING_MAX: Final = 50
"""Logins that are compared or wait for it: about a second's work."""
DRIVER_ID_CHARACTERS_MAX: Final = 64


class WrongLogin(RuleBroken):
    """Driver number and password do not belong together, or the account or the caller rests after too many tries."""

    def __init__(self) -> None:
        super().__init__("driver number and password do not belong together")


class LoginsBusy(Unavailable):
    """`WAITING_MAX` logins are being looked at."""

    def __init__(self) -> None:
        super().__init__("too many logins at once")


class Logins:
    """Opens and ends logins."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._tries = TriesByAddress()
        self._hashing = asyncio.Semaphore(HASHED_AT_ONCE)
        self._waiting = 0

    async def open(self, emsp_id: PartyId, driver_id: str, password: str, *, address: str) -> str:
        """Log a driver in who calls from `address`, and return the cookie's value. No unit may be open.

        Raises:
            WrongLogin: whatever was wrong; which of it is not told.
            LoginsBusy: too many are being looked at.
        """
        driver_id = driver_id[:DRIVER_ID_CHARACTERS_MAX]
        if not self._tries.may_try(emsp_id, driver_id, address, now=self._ports.clock.now()):
            raise WrongLogin
        async with self._ports.units.begin() as unit:
            driver = await unit.table(DRIVER).get(emsp_id, driver_id)
        if driver is not None and self._rests(driver):
            raise WrongLogin
        is_right = await self._is_password(password, None if driver is None else driver.password_hash)
        if driver is None:
            raise WrongLogin
        cookie = await self._enter(driver, is_right=is_right)
        self._tries.forget(emsp_id, driver_id, address)
        return cookie

    async def _is_password(self, password: str, password_hash: str | None) -> bool:
        """Compare in a thread: it takes tens of milliseconds, for which all else of this process would wait."""
        if self._waiting >= WAITING_MAX:
            raise LoginsBusy
        self._waiting += 1
        try:
            async with self._hashing:
                return await asyncio.to_thread(is_password, password, password_hash)
        finally:
            self._waiting -= 1

    async def _enter(self, compared: Driver, *, is_right: bool) -> str:
        """Enter a login, or a wrong password, unless the account changed while they were compared."""
        async with self._ports.units.begin() as unit:
            driver = await unit.table(DRIVER).get_for_update(compared.party_id, compared.driver_id)
            if driver is None or driver.password_hash != compared.password_hash or self._rests(driver):
                raise WrongLogin
            if not is_right:
                await unit.table(DRIVER).put(self._after_failure(driver))
                await unit.commit()
                raise WrongLogin
            await unit.table(DRIVER).put(replace(driver, failed_logins=0, locked_until=None))
            cookie = self._ports.randomness.token_bytes(COOKIE_BYTES).hex()
            login = Login(
                party_id=driver.party_id,
                cookie_hash=_hash(cookie),
                driver_id=driver.driver_id,
                csrf_token=self._ports.randomness.token_bytes(COOKIE_BYTES).hex(),
                expires_at=self._ports.clock.now() + LIFETIME,
            )
            await unit.table(LOGIN).insert(login)
            await unit.commit()
        return cookie

    def _rests(self, driver: Driver) -> bool:
        return driver.locked_until is not None and self._ports.clock.now() < driver.locked_until

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
