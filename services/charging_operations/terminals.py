"""Payment terminals of others (OCPI 2.3.0, payments branch): registered, assigned to EVSEs, sold at, and their takings.

The terminals belong to their provider (PTP), which creates them here by POST; this CPO assigns them, asks for them to
be activated and gives them up, at the provider. A driver who pays at one is let in by the provider's START_SESSION:
that is an ad hoc sale of ours (`ad_hoc_sales`), no roaming. What was captured is told by a financial advice
confirmation, under the authorization reference of the start.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import structlog
from msgspec import structs

from emobility.domain.errors import RuleBroken
from emobility.domain.identifiers import PartyId
from emobility.domain.money import e4_from_decimal
from emobility.ports.stores import TableSpec
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi import v221
from emobility.protocols.ocpi.server import Interface, OCPICall, Reply
from emobility.protocols.ocpi.status import InvalidParameters, NoSuchObject
from emobility.protocols.ocpi.v221 import CommandResponseType, InterfaceRole, ModuleID
from emobility.protocols.ocpi.v230 import FinancialAdviceConfirmation, InvoiceCreator, Terminal
from services.charging_operations.ad_hoc_ledger import EntryKind, enter_for_sale
from services.charging_operations.ad_hoc_records import (
    AD_HOC_SALE,
    AdHocSaleRecord,
    SaleChannel,
    SaleState,
)
from services.charging_operations.ad_hoc_sales import SALE_ID_BYTES, START_WAIT, TOKEN_BYTES, AdHocDesk, remote_start_id
from services.charging_operations.cdrs import place_of
from services.charging_operations.office import NotFound, Office
from services.charging_operations.records import EVSES, CommandRecord, CommandState, EVSERecord
from services.charging_operations.terminal_advices import (
    ADVICE,
    ADVICES_OF_SALE_MAX,
    AdviceRecord,
    advice_of,
    is_captured,
    settle_by_last_word,
)

TERMINALS_MAX: Final = 10_000
"""Terminals that one provider may have with one CPO."""
TERMINAL_HOLD_E4_MAX: Final = 10_000_000
"""Most that a charge paid at a terminal may come to; its provider ends it at what it really held."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalRecord:
    """A terminal as its provider describes it, at the places that this CPO assigned.

    `is_active`: drivers may pay at it; it was assigned, and not given up since.
    """

    party_id: PartyId
    ptp_id: PartyId
    terminal_id: str
    is_active: bool
    terminal: Terminal
    last_updated: datetime

    def serves(self, evse: EVSERecord) -> bool:
        """Whether it is assigned to an EVSE, or to its location (both lists count)."""
        return evse.location_id in self.terminal.location_ids or evse.evse_uid in self.terminal.evse_uids


TERMINAL: Final = TableSpec(name="cpo_terminal", record=TerminalRecord, key=("party_id", "ptp_id", "terminal_id"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """PATCH terminals: which places a terminal serves from now on, and whose invoice the driver gets."""

    location_ids: tuple[str, ...] = ()
    evse_uids: tuple[str, ...] = ()
    invoice_creator: InvoiceCreator | None = None
    invoice_base_url: str | None = None
    customer_reference: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation:
    """POST terminals/activate: what the provider needs to find a terminal that is built into a station."""

    reference: str
    assignment: Assignment


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalDesk:
    """Keeps terminals, sells at them and books what they took."""

    office: Office
    ad_hoc: AdHocDesk

    # What the provider says

    def interface(self) -> Interface:
        """Return the receiver side of the module; both its lists have one module id."""
        module = Interface(ModuleID.PAYMENTS.value, InterfaceRole.RECEIVER)
        units = self.office.ports.units

        @module.route("POST", "/terminals")
        async def terminal(call: OCPICall) -> Reply:
            async with units.begin() as unit:
                is_new = await self._keep(unit, call, call.read(Terminal))
                await unit.commit()
            return Reply(http_status=201 if is_new else 200)

        @module.route("GET", "/terminals/{terminal_id}")
        async def kept(call: OCPICall) -> Reply:
            async with units.begin() as unit:
                row = await unit.table(TERMINAL).get(call.own_party, call.caller, call.path["terminal_id"])
            if row is None:
                raise NoSuchObject("terminal")
            return Reply(data=row.terminal)

        @module.route("POST", "/financial-advice-confirmations")
        async def advice(call: OCPICall) -> Reply:
            async with units.begin() as unit:
                is_new = await self._book(unit, call, call.read(FinancialAdviceConfirmation))
                await unit.commit()
            return Reply(http_status=201 if is_new else 200)

        @module.route("GET", "/financial-advice-confirmations/{advice_id}")
        async def booked(call: OCPICall) -> Reply:
            async with units.begin() as unit:
                row = await unit.table(ADVICE).get(call.own_party, call.caller, call.path["advice_id"])
            if row is None:
                raise NoSuchObject("financial advice confirmation")
            return Reply(data=await advice_of(self.office, row))

        return module

    async def _keep(self, unit: UnitOfWork, call: OCPICall, said: Terminal) -> bool:
        """Keep what a terminal is; where it sells, and whether it does, we alone say: anyone may call with a token."""
        known = await unit.table(TERMINAL).get_for_update(call.own_party, call.caller, said.terminal_id)
        if known is not None and known.last_updated > said.last_updated:
            return False
        of_provider = {"party_id": call.own_party, "ptp_id": call.caller}
        if known is None and await unit.table(TERMINAL).count(of_provider) >= TERMINALS_MAX:
            raise InvalidParameters(f"a provider has at most {TERMINALS_MAX} terminals here")
        places = ([], []) if known is None else (known.terminal.location_ids, known.terminal.evse_uids)
        await unit.table(TERMINAL).put(
            TerminalRecord(
                party_id=call.own_party,
                ptp_id=call.caller,
                terminal_id=said.terminal_id,
                is_active=known is not None and known.is_active,
                terminal=structs.replace(said, location_ids=places[0], evse_uids=places[1]),
                last_updated=said.last_updated,
            )
        )
        return known is None

    async def _book(self, unit: UnitOfWork, call: OCPICall, said: FinancialAdviceConfirmation) -> bool:
        """Book what was captured; said twice it is booked once, and a later word replaces an earlier one.

        Raises:
            InvalidParameters: nothing was sold under its reference, or in another currency, or the id is another's, or
                too much was said of one charge.
        """
        sale = await self.sale_of(unit, call.own_party, call.caller, said.authorization_reference)
        if sale is None:
            raise InvalidParameters("nothing was sold under this authorization_reference")
        if said.currency != sale.currency:
            raise InvalidParameters(f"it was sold in {sale.currency}")
        written = v221.write(said)
        content_hash = hashlib.sha256(written).hexdigest()
        known = await unit.table(ADVICE).get_for_update(call.own_party, call.caller, said.id)
        if known is not None and known.sale_id != sale.sale_id:
            raise InvalidParameters("this id is of another charge")
        if known is not None and known.last_updated > said.last_updated:
            return False
        if known is not None and known.content_hash == content_hash:
            return False
        of_sale = {"party_id": sale.party_id, "sale_id": sale.sale_id}
        if known is None and await unit.table(ADVICE).count(of_sale) >= ADVICES_OF_SALE_MAX:
            raise InvalidParameters(f"a charge has at most {ADVICES_OF_SALE_MAX} confirmations")
        taxes = sum((tax.amount for tax in said.total_costs.taxes), start=said.total_costs.before_taxes)
        amount_e4 = e4_from_decimal(taxes) if is_captured(said) else 0
        if amount_e4 < 0:
            raise InvalidParameters("less than nothing was captured")
        vault = self.office.ports.vault
        await unit.table(ADVICE).put(
            AdviceRecord(
                party_id=call.own_party,
                ptp_id=call.caller,
                advice_id=said.id,
                sale_id=sale.sale_id,
                status=said.capture_status_code,
                amount_e4=amount_e4,
                currency=said.currency,
                document=await vault.seal_under(written.decode(), subject=sale.uid.subject),
                content_hash=content_hash,
                last_updated=said.last_updated,
            )
        )
        await enter_for_sale(
            unit,
            sale,
            f"advice/{call.caller}/{said.id}",
            kind=EntryKind.TAKEN,
            amount_e4=amount_e4,
            at=self.office.now(),
        )
        if sale.state in (SaleState.CONFIRMING, SaleState.CAPTURED, SaleState.UNCOLLECTED):
            await settle_by_last_word(self.office, unit, sale)
        # Else the charge is not over, and is settled by it when it is, or nothing was due, which an audit tells.
        return known is None

    async def sale_of(
        self, unit: UnitOfWork, party_id: PartyId, ptp_id: PartyId, reference: str
    ) -> AdHocSaleRecord | None:
        """Return the sale that a provider calls so, held for update."""
        where = {"party_id": party_id, "ptp_id": ptp_id, "authorization_reference": reference}
        found = await unit.table(AD_HOC_SALE).select(where, limit=1)
        return await unit.table(AD_HOC_SALE).get_for_update(party_id, found[0].sale_id) if found else None

    # Selling

    async def take_start(
        self, unit: UnitOfWork, record: CommandRecord, command: v221.StartSession, target: EVSERecord | None
    ) -> CommandRecord | None:
        """Sell a charge to who stands at a terminal; None: the caller has none that sells here, so this is roaming.

        Raises:
            InvalidParameters: the start has no authorization reference, under which its money would be told.
        """
        where = {"party_id": record.party_id, "ptp_id": record.emsp_id, "is_active": True}
        terminals = await unit.table(TERMINAL).select(where)
        if not terminals:
            return None
        if not command.authorization_reference:
            raise InvalidParameters("a start at a terminal has an authorization_reference")
        terminal = next((each for each in terminals if target is not None and each.serves(target)), None)
        if target is None or terminal is None:
            return record
        if await self.sale_of(unit, record.party_id, record.emsp_id, command.authorization_reference) is not None:
            return record
        try:
            sale = await self._sell(unit, record, command, target, terminal)
        except RuleBroken as error:
            _log.info("terminal_sale_refused", correlation_id=record.correlation_id, reason=str(error))
            return record
        return replace(
            record,
            state=CommandState.ACCEPTED,
            response=CommandResponseType.ACCEPTED.value,
            charging_station_id=sale.charging_station_id,
            ocpp_evse_id=sale.ocpp_evse_id,
            connector_id=sale.connector_id,
            remote_start_id=remote_start_id(sale),
            id_token=sale.uid,
        )

    async def _sell(
        self,
        unit: UnitOfWork,
        record: CommandRecord,
        command: v221.StartSession,
        target: EVSERecord,
        terminal: TerminalRecord,
    ) -> AdHocSaleRecord:
        """Raises `NotSoldHere`, `OccupiedNow`."""
        evse = await unit.table(EVSES).get_for_update(record.party_id, target.evse_uid)
        assert evse is not None, "it was just looked up"
        offer = await self.ad_hoc.offer_at(unit, evse)
        await self.ad_hoc.refuse_occupied(unit, evse)
        ports, now = self.office.ports, self.office.now()
        uid = await ports.vault.seal(ports.randomness.token_bytes(TOKEN_BYTES).hex().upper())
        connector = offer.known.evse.connectors[0]
        # The reference is printed on the terminal's slip, and whoever knows the sale's id may stop the charge.
        named = f"terminal-sale/{record.party_id}/{record.emsp_id}/{command.authorization_reference}"
        sale = AdHocSaleRecord(
            party_id=record.party_id,
            sale_id=ports.vault.subject_of(named)[: SALE_ID_BYTES * 2],
            channel=SaleChannel.TERMINAL,
            state=SaleState.STARTING,
            code="",
            evse_uid=evse.evse_uid,
            charging_station_id=evse.charging_station_id,
            ocpp_evse_id=evse.ocpp_evse_id,
            connector_id=connector.connector_id,
            location=place_of(offer.known, connector),
            tariff=offer.version.tariff,
            tariff_hash=offer.version.tariff_hash,
            currency=offer.version.tariff.currency,
            held_e4=TERMINAL_HOLD_E4_MAX,
            uid=uid,
            token_subject=uid.subject,
            card=None,
            payment_id=None,
            correlation_id=record.correlation_id,
            made_at=now,
            start_until=now + START_WAIT,
            ptp_id=record.emsp_id,
            terminal_id=terminal.terminal_id,
            authorization_reference=command.authorization_reference,
            told_uid=await ports.vault.seal_under(command.token.uid, subject=uid.subject),
            is_invoiced_here=terminal.terminal.invoice_creator is InvoiceCreator.CPO,
            told_contract_id=await ports.vault.seal_under(command.token.contract_id, subject=uid.subject),
        )
        await unit.table(AD_HOC_SALE).insert(sale)
        await self.ad_hoc.authorize(unit, sale)
        return sale

    async def running(self, unit: UnitOfWork, record: CommandRecord, session_id: str) -> AdHocSaleRecord | None:
        """Return the charge at a terminal that its provider may stop."""
        where = {"party_id": record.party_id, "ptp_id": record.emsp_id, "session_id": session_id}
        found = await unit.table(AD_HOC_SALE).select(where, limit=1)
        return found[0] if found and found[0].state is SaleState.RUNNING else None

    # What our operators say

    async def terminals(self, party_id: PartyId) -> list[TerminalRecord]:
        """Return all terminals, by provider."""
        async with self.office.ports.units.begin() as unit:
            return await unit.table(TERMINAL).select({"party_id": party_id}, order_by=("ptp_id", "terminal_id"))

    async def assign(
        self, party_id: PartyId, ptp_id: PartyId, terminal_id: str, assignment: Assignment
    ) -> TerminalRecord:
        """Sell at a terminal, at these places; its provider is told. Raises `NotFound`: no such terminal or place."""
        async with self.office.ports.units.begin() as unit:
            known = await self._known(unit, party_id, ptp_id, terminal_id)
            await self._require_ours(unit, party_id, assignment)
            changes = _changes(assignment) | {"last_updated": self.office.now()}
            changed = replace(
                known,
                is_active=True,
                terminal=structs.replace(known.terminal, **changes),
                last_updated=self.office.now(),
            )
            await unit.table(TERMINAL).put(changed)
            await self._send(unit, changed, method="PATCH", path=f"/terminals/{terminal_id}", body=changes)
            await unit.commit()
        return changed

    async def activate(self, party_id: PartyId, ptp_id: PartyId, activation: Activation) -> None:
        """Ask a provider to set a built-in terminal up; it then creates it here, for us to assign.

        Raises:
            NotFound: there is no such place.
        """
        async with self.office.ports.units.begin() as unit:
            await self._require_ours(unit, party_id, activation.assignment)
            body = _changes(activation.assignment) | {
                "reference": activation.reference,
                "country_code": party_id.country_code,
                "party_id": party_id.party_id,
                "last_updated": self.office.now(),
            }
            named = f"activate/{activation.reference}"
            await self._enqueue(unit, party_id, ptp_id, "POST", "/terminals/activate", body, named)
            await unit.commit()

    async def deactivate(self, party_id: PartyId, ptp_id: PartyId, terminal_id: str) -> TerminalRecord:
        """Sell no more at a terminal, and tell its provider. Raises `NotFound`."""
        async with self.office.ports.units.begin() as unit:
            known = await self._known(unit, party_id, ptp_id, terminal_id)
            changed = replace(known, is_active=False)
            await unit.table(TERMINAL).put(changed)
            await self._send(unit, changed, method="POST", path=f"/terminals/{terminal_id}/deactivate", body=None)
            await unit.commit()
        return changed

    async def _known(self, unit: UnitOfWork, party_id: PartyId, ptp_id: PartyId, terminal_id: str) -> TerminalRecord:
        known = await unit.table(TERMINAL).get_for_update(party_id, ptp_id, terminal_id)
        if known is None:
            raise NotFound(f"{ptp_id} has no terminal {terminal_id} here")
        return known

    async def _require_ours(self, unit: UnitOfWork, party_id: PartyId, assignment: Assignment) -> None:
        evses = await unit.table(EVSES).select({"party_id": party_id})
        strange = {*assignment.location_ids} - {each.location_id for each in evses}
        strange |= {*assignment.evse_uids} - {each.evse_uid for each in evses}
        if strange:
            raise NotFound(f"{party_id} has no {min(strange)}")

    async def _send(self, unit: UnitOfWork, row: TerminalRecord, *, method: str, path: str, body: Any) -> None:
        await self._enqueue(unit, row.party_id, row.ptp_id, method, path, body, row.terminal_id)

    async def _enqueue(  # noqa: PLR0917 - who, to whom, what, about which terminal
        self, unit: UnitOfWork, own: PartyId, ptp_id: PartyId, method: str, path: str, body: Any, named: str
    ) -> None:
        await self.office.host.deliveries.enqueue(
            unit,
            own_party=own,
            to_party=ptp_id,
            method=method,
            module=ModuleID.PAYMENTS,
            interface_role=InterfaceRole.SENDER,
            path=path,
            object_key=f"terminal/{named}",
            body=body,
            correlation_id=self.office.ports.randomness.uuid(),
            is_replaceable=False,
        )


def _changes(assignment: Assignment) -> dict[str, Any]:
    said = {
        "location_ids": list(assignment.location_ids),
        "evse_uids": list(assignment.evse_uids),
        "invoice_creator": assignment.invoice_creator,
        "invoice_base_url": assignment.invoice_base_url,
        "customer_reference": assignment.customer_reference,
    }
    return {name: value for name, value in said.items() if value is not None}
