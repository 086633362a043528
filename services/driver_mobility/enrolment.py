"""What an MSP's operator sets up: the MSP, its plans, drivers with cards and tokens, agreements, meter keys."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from emobility.domain.agreement import RoamingAgreement, signing_bytes
from emobility.domain.errors import MalformedInput, RuleBroken
from emobility.domain.identifiers import PartyId, Role
from emobility.domain.meter_key import PinnedKey, with_entry
from emobility.domain.tariff.retail import RetailPlan
from emobility.domain.token import TokenType, Whitelist
from emobility.events.cdr import AgreementSigned
from emobility.events.event import Envelope
from emobility.ports.ports import Ports
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocmf import OCMFRefused, meter_key
from emobility.protocols.ocpi.host import OCPIHost
from services.driver_mobility.facts import fact
from services.driver_mobility.invoice_records import UNPAID_BLOCK
from services.driver_mobility.metering import entries_of
from services.driver_mobility.passwords import hash_password
from services.driver_mobility.paying import try_failed_again
from services.driver_mobility.quoting import driver_for_update
from services.driver_mobility.records import (
    AGREEMENT,
    DRIVER,
    METER_KEY,
    MSP,
    PLAN,
    TOKEN,
    AgreementRecord,
    AgreementState,
    Driver,
    DriverToken,
    HostedMSP,
    MeterKey,
    PlanRecord,
)
from services.driver_mobility.tokens import Tokens

UID_CHARACTERS_MAX: Final = 36
"""OCPI's CiString(36) bounds a token's uid and a contract id."""
APP_TOKEN_BYTES: Final = 10
"""An app token's uid: 20 hex digits, which fits OCPP 1.6's idTag."""


class NotHostedHere(RuleBroken):
    """This back office does not act for the party."""


class MeterKeyMalformed(MalformedInput):
    """It is no public key of a meter."""


class NotAToken(MalformedInput):
    """A uid or contract id is empty, too long or not printable ASCII."""


class ForeignToken(RuleBroken):
    """The token belongs to another driver."""


class NotOurAgreement(MalformedInput):
    """The agreement names another eMSP, or lacks a version or tariffs."""


class AgreementSignatureInvalid(RuleBroken):
    """A signature is not its party's word on these terms."""


class AgreementChanged(RuleBroken):
    """A version that is known has other terms: a change is a new version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDriver:
    """A contract to enter. `driver_id` None: we choose a number."""

    name: str
    contract_id: str
    plan_id: str
    currency: str
    credit_limit_e4: int
    driver_id: str | None = None
    card: str | None = None
    password: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A card to issue. With whitelist NEVER the CPO asks every time."""

    uid: str
    token_type: TokenType = TokenType.RFID
    whitelist: Whitelist = Whitelist.ALLOWED
    is_valid: bool = True


class Enrolment:
    """Set-up of the MSPs hosted here."""

    def __init__(self, ports: Ports, host: OCPIHost, tokens: Tokens) -> None:
        self._ports = ports
        self._host = host
        self._tokens = tokens

    async def host_msp(self, emsp_id: PartyId, *, name: str, nsp_id: PartyId | None) -> None:
        """Act for an MSP from now on."""
        async with self._ports.units.begin() as unit:
            await unit.table(MSP).put(HostedMSP(party_id=emsp_id, name=name, nsp_id=nsp_id))
            await self._host.add_party(unit, emsp_id, role=Role.EMSP, business_name=name)
            await unit.commit()

    async def put_plan(self, emsp_id: PartyId, plan: RetailPlan, *, holds_card: bool) -> None:
        """Sell a plan, or change one: quotes given before keep their frozen tariff. Raises `NotHostedHere`."""
        async with self._ports.units.begin() as unit:
            await require_hosted(unit, emsp_id)
            await unit.table(PLAN).put(
                PlanRecord(party_id=emsp_id, plan_id=plan.plan_id, plan=plan, holds_card=holds_card)
            )
            await unit.commit()

    async def add_driver(self, emsp_id: PartyId, new: NewDriver) -> tuple[Driver, DriverToken]:
        """Enter a contract and issue its app token.

        Raises:
            NotHostedHere: of another MSP.
            NotAToken: the contract id is none.
            UnfitPassword: too short or too long.
            RecordExists: the driver is there already.
        """
        contract_id = await self._ports.vault.seal(_printable(new.contract_id))
        under = new.contract_id
        driver = Driver(
            party_id=emsp_id,
            driver_id=new.driver_id or self._ports.randomness.token_bytes(8).hex(),
            name=await self._ports.vault.seal(new.name, identifier=under),
            contract_id=contract_id,
            plan_id=new.plan_id,
            currency=new.currency,
            credit_limit_e4=new.credit_limit_e4,
            is_blocked=False,
            card=None if new.card is None else await self._ports.vault.seal(new.card, identifier=under),
            card_last4=None if new.card is None else new.card[-4:],
            password_hash=None if new.password is None else hash_password(new.password, self._ports.randomness),
            failed_logins=0,
            locked_until=None,
        )
        async with self._ports.units.begin() as unit:
            name = await require_hosted(unit, emsp_id)
            await unit.table(DRIVER).insert(driver)
            app = NewToken(
                uid=self._ports.randomness.token_bytes(APP_TOKEN_BYTES).hex().upper(),
                token_type=TokenType.APP_USER,
                whitelist=Whitelist.NEVER,
            )
            token = await self._enter_token(unit, driver, app, issuer=name)
            await unit.commit()
        return driver, token

    async def change_driver(
        self,
        emsp_id: PartyId,
        driver_id: str,
        *,
        plan_id: str | None,
        credit_limit_e4: int | None,
        is_blocked: bool | None,
    ) -> Driver:
        """Change what is given. Raises `UnknownDriver`."""
        async with self._ports.units.begin() as unit:
            driver = await driver_for_update(unit, emsp_id, driver_id)
            changed = replace(
                driver,
                plan_id=driver.plan_id if plan_id is None else plan_id,
                credit_limit_e4=driver.credit_limit_e4 if credit_limit_e4 is None else credit_limit_e4,
                is_blocked=driver.is_blocked if is_blocked is None else is_blocked,
            )
            await unit.table(DRIVER).put(changed)
            await unit.commit()
        return changed

    async def put_card(self, emsp_id: PartyId, driver_id: str, card: str) -> int:
        """Take a new card and ask it for what the old one refused; return how many payments. Raises `UnknownDriver`."""
        async with self._ports.units.begin() as unit:
            driver = await driver_for_update(unit, emsp_id, driver_id)
            sealed = await self._ports.vault.seal_under(card, subject=driver.contract_id.subject)
            await unit.table(DRIVER).put(replace(driver, card=sealed, card_last4=card[-4:]))
            again = await try_failed_again(unit, emsp_id, driver_id)
            await unit.commit()
        return again

    async def put_token(self, emsp_id: PartyId, driver_id: str, new: NewToken) -> DriverToken:
        """Issue a token or change it, and tell every CPO with an agreement.

        Raises:
            NotHostedHere, UnknownDriver: there is none.
            NotAToken: the uid is none.
            ForeignToken: another driver has it.
        """
        async with self._ports.units.begin() as unit:
            name = await require_hosted(unit, emsp_id)
            driver = await driver_for_update(unit, emsp_id, driver_id)
            token = await self._enter_token(unit, driver, new, issuer=name)
            await unit.commit()
        return token

    async def _enter_token(self, unit: UnitOfWork, driver: Driver, new: NewToken, *, issuer: str) -> DriverToken:
        uid = await self._ports.vault.seal(_printable(new.uid))
        known = await unit.table(TOKEN).get_for_update(driver.party_id, uid.subject)
        if known is not None and known.driver_id != driver.driver_id:
            raise ForeignToken("the token belongs to another driver")
        token = DriverToken(
            party_id=driver.party_id,
            token_subject=uid.subject,
            driver_id=driver.driver_id,
            uid=uid,
            contract_id=driver.contract_id,
            token_type=new.token_type,
            issuer=issuer,
            is_valid=new.is_valid,
            whitelist=new.whitelist,
            last_updated=self._ports.clock.now(),
        )
        block = await unit.table(UNPAID_BLOCK).get(driver.party_id, driver.driver_id)
        if block is not None and known is None and token.is_valid:
            # As if it had been there when the payment failed: it waits with the others, and is unblocked with them.
            token = replace(token, is_valid=False, last_updated=block.blocked_at)
            subjects = (*block.token_subjects, token.token_subject)
            await unit.table(UNPAID_BLOCK).put(replace(block, token_subjects=subjects))
        await unit.table(TOKEN).put(token)
        correlation_id = self._ports.randomness.uuid()
        await self._tokens.push_to_all(unit, self._host.deliveries, token, correlation_id=correlation_id)
        return token

    async def put_agreement(
        self, emsp_id: PartyId, agreement: RoamingAgreement, *, cpo_public_key: str
    ) -> AgreementRecord:
        """Sign a version in the MSP's name; with the CPO's signature it is in force, and the CPO gets the tokens.

        Raises:
            NotHostedHere: the MSP is not hosted here.
            NotOurAgreement: it names another eMSP, or lacks a version or tariffs.
            AgreementSignatureInvalid: the CPO's signature does not fit.
            AgreementChanged: this version was signed with other terms or another key.
        """
        async with self._ports.units.begin() as unit:
            record = await self.enter_agreement(unit, emsp_id, agreement, cpo_public_key=cpo_public_key)
            await unit.commit()
        return record

    async def enter_agreement(
        self,
        unit: UnitOfWork,
        emsp_id: PartyId,
        agreement: RoamingAgreement,
        *,
        cpo_public_key: str,
        correlation_id: str | None = None,
    ) -> AgreementRecord:
        """Do what `put_agreement` does, in this unit."""
        if agreement.emsp_id != emsp_id or agreement.version < 1 or not agreement.tariff_ids:
            raise NotOurAgreement(f"an agreement of {emsp_id} names it as eMSP, a version from 1 on, and tariffs")
        message = signing_bytes(agreement)
        await require_hosted(unit, emsp_id)
        table = unit.table(AGREEMENT)
        known = await table.get_for_update(emsp_id, agreement.agreement_id, agreement.version)
        if known is not None and (known.cpo_public_key, signing_bytes(known.agreement)) != (
            cpo_public_key,
            message,
        ):
            raise AgreementChanged("this version has other terms or another key: make a new version")
        cpo_signature = agreement.cpo_signature or (known.agreement.cpo_signature if known else None)
        self._refuse_signature(cpo_signature, cpo_public_key, message)
        signed = replace(
            agreement,
            cpo_signature=cpo_signature,
            emsp_signature=await self._ports.signer.sign(emsp_id, message),
        )
        record = AgreementRecord(
            party_id=emsp_id,
            agreement_id=agreement.agreement_id,
            version=agreement.version,
            cpo_id=agreement.cpo_id,
            state=AgreementState.SIGNED if cpo_signature else AgreementState.PROPOSED,
            cpo_public_key=cpo_public_key,
            agreement=signed,
        )
        await table.put(record)
        is_new = known is None or known.state is not AgreementState.SIGNED
        if record.state is AgreementState.SIGNED and is_new:
            correlation_id = correlation_id or self._ports.randomness.uuid()
            await self._tokens.push_all_to(
                unit, self._host.deliveries, emsp_id, agreement.cpo_id, correlation_id=correlation_id
            )
            unit.emit(self._signed(signed, correlation_id))
        return record

    def _signed(self, agreement: RoamingAgreement, correlation_id: str) -> Envelope:
        now, emsp_id = self._ports.clock.now(), agreement.emsp_id
        event = AgreementSigned(
            agreement_id=agreement.agreement_id,
            cpo_id=agreement.cpo_id,
            emsp_id=emsp_id,
            holder=emsp_id,
            agreement=agreement,
            signed_at=now,
        )
        parts = (emsp_id.code, agreement.agreement_id, str(agreement.version))
        return fact(event, *parts, correlation_id=correlation_id, at=now)

    def _refuse_signature(self, signature: str | None, public_key: str, message: bytes) -> None:
        if signature is None:
            return
        if not self._ports.signer.is_valid(public_key=public_key, message=message, signature=signature):
            raise AgreementSignatureInvalid("the CPO's signature does not fit the terms")

    async def pin_meter_key(
        self,
        emsp_id: PartyId,
        cpo_id: PartyId,
        evse_uid: str,
        public_key: str,
        *,
        valid_from: datetime | None,
        why: str,
    ) -> None:
        """Trust a meter's public key that came from its maker or an authority, not along with a CDR.

        Args:
            emsp_id: Who trusts it.
            cpo_id: Whose meter it is.
            evse_uid: At which EVSE.
            public_key: DER, PEM or a bare point, in hex or base64.
            valid_from: From when on; None: always, whatever was entered before.
            why: For people.

        Raises:
            NotHostedHere: the MSP is not.
            MeterKeyMalformed: it is no key of a meter.
            MeterKeysFull: too many were entered for the EVSE.
            MeterKeyWithoutOffset: `valid_from` names no offset.
        """
        try:
            key = meter_key(public_key)
        except OCMFRefused as refusal:
            raise MeterKeyMalformed(refusal.seen) from refusal
        async with self._ports.units.begin() as unit:
            await require_hosted(unit, emsp_id)
            known = await unit.table(METER_KEY).get_for_update(emsp_id, cpo_id, evse_uid)
            now = self._ports.clock.now()
            entry = PinnedKey(
                public_key=key, valid_from=valid_from, entered_at=now, entered_by="operator", why=why[:500]
            )
            await unit.table(METER_KEY).put(
                MeterKey(
                    party_id=emsp_id,
                    cpo_id=cpo_id,
                    evse_uid=evse_uid,
                    public_key=key,
                    is_by_operator=True,
                    entries=with_entry(() if known is None else entries_of(known, now=now), entry),
                )
            )
            await unit.commit()


async def require_hosted(unit: UnitOfWork, emsp_id: PartyId) -> str:
    """Return the MSP's name. Raises `NotHostedHere`."""
    msp = await unit.table(MSP).get(emsp_id)
    if msp is None:
        raise NotHostedHere(f"{emsp_id} is not hosted here")
    return msp.name


async def hosted_msps(unit: UnitOfWork) -> tuple[PartyId, ...]:
    """Return the MSPs hosted here, in order."""
    return tuple(msp.party_id for msp in await unit.table(MSP).select(order_by=("party_id",)))


def _printable(text: str) -> str:
    if not (0 < len(text) <= UID_CHARACTERS_MAX and text.isascii() and text.isprintable()):
        raise NotAToken(f"{text[:40]!r} is no printable ASCII of at most {UID_CHARACTERS_MAX} characters")
    return text
