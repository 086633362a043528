"""Money by bank, over HTTP: accounts, mandates, bank files, the work list, discharges, exposure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any, Final

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response

from emobility.domain.banking.account import BankAccount, plain_iban
from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from emobility.protocols.iso20022.pain import Mandate, MandateScheme
from emobility.protocols.xml import DOCUMENT_BYTES_MAX
from emobility.runtime.access import Access
from services.settlement.api import (
    ROWS_MAX,
    NoChain,
    NotHere,
    NotUnderstood,
    answer,
    hex_bytes,
    of_party,
    party_of,
    read_body,
)
from services.settlement.discharging import Discharging
from services.settlement.exposure import SIDES, exposures_of, rows_of
from services.settlement.money_records import (
    ACCOUNT,
    BANK_ENTRY,
    BANK_EXPORT,
    DISCHARGE,
    PAYABLE,
    PAYOUT,
    BankEntryRecord,
    BankExportRecord,
    BankFileKind,
    DischargeRecord,
    PayableRecord,
    PayoutRecord,
)
from services.settlement.payment_netting import plans, shown_share
from services.settlement.payouts import Payouts

NEXT_BANK_DAY: Final = timedelta(days=1)
TEXT_CHARACTERS_MAX: Final = 500


class AccountRequest(msgspec.Struct, frozen=True, kw_only=True):
    """PUT /{party}/bank/accounts/{currency}."""

    name: str
    iban: str
    bic: str | None = None


class MandateRequest(msgspec.Struct, frozen=True, kw_only=True):
    """PUT /{party}/bank/mandates/{cpo}, by the MSP."""

    mandate_id: str
    signed_on: date
    scheme: MandateScheme
    creditor_id: str


class ExportRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /{party}/bank/files: what the bank shall carry out, and when; the next day if not said."""

    currency: str
    kind: BankFileKind = BankFileKind.CREDIT_TRANSFERS
    on: date | None = None


class ResolutionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /{party}/bank/entries/{entry}/resolve."""

    resolution: str


class SignatureRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /{party}/discharges/{discharge}/signature, as hex."""

    signature: str


class NoSuchBankFile(NotHere):
    """The company made no such bank file."""


class MoneyAPI:
    """Routes for all companies that settle here; each sees what is its own or its pair's."""

    def __init__(self, ports: Ports, access: Access, discharging: Discharging | None) -> None:
        self._ports = ports
        self._access = access
        self._payouts = Payouts(ports)
        self._discharging = discharging

    def mount_on(self, app: FastAPI) -> None:
        """Add the routes."""
        bank = "/{party}/bank"
        for method, path, handler in (
            ("GET", "/{party}/exposure", self.show_exposure),
            ("GET", "/{party}/payables", self.list_payables),
            ("GET", "/{party}/payouts", self.list_payouts),
            ("GET", f"{bank}/accounts", self.list_accounts),
            ("PUT", f"{bank}/accounts/{{currency}}", self.put_account),
            ("PUT", f"{bank}/mandates/{{cpo_id}}", self.put_mandate),
            ("DELETE", f"{bank}/mandates/{{cpo_id}}", self.end_mandate),
            ("GET", f"{bank}/files", self.list_files),
            ("POST", f"{bank}/files", self.export),
            ("GET", f"{bank}/files/{{message_id}}.xml", self.show_file),
            ("POST", f"{bank}/statements", self.take_statement),
            ("GET", f"{bank}/entries", self.list_entries),
            ("POST", f"{bank}/entries/{{entry_id}}/resolve", self.resolve),
            ("GET", "/{party}/netting", self.show_netting),
            ("GET", "/{party}/discharges", self.list_discharges),
            ("POST", "/{party}/discharges/{discharge_id}/signature", self.sign_discharge),
        ):
            app.add_api_route(path, of_party(self._access, handler), methods=[method])

    # What is open

    async def show_exposure(self, _: Request, party_id: PartyId) -> Response:
        """Say what is open in each of the party's agreements, and how old."""
        return answer([each.shown() for each in await exposures_of(self._ports, party_id)])

    async def list_payables(self, _: Request, party_id: PartyId) -> Response:
        """List final statements as they are paid; `end_to_end_id` is what a payment must carry to be recognised."""
        return answer([_shown_payable(row) for row in await self._rows(PAYABLE, party_id, "final_at")])

    async def show_netting(self, _: Request, party_id: PartyId) -> Response:
        """Show the party's part of a netting of all that is due by bank, which it can check by its own debts."""
        async with self._ports.units.begin() as unit:
            shares = [each.share(party_id) for each in await plans(unit)]
        return answer([shown_share(each) for each in shares if each.owed])

    async def list_payouts(self, _: Request, party_id: PartyId) -> Response:
        """List payments, what each is made of, and what arrived of them."""
        rows: list[PayoutRecord] = await self._rows(PAYOUT, party_id, "made_at")
        paid: dict[tuple[PartyId, str], list[PayableRecord]] = defaultdict(list)
        for emsp_id, currency in {(row.emsp_id, row.currency) for row in rows}:
            ids = tuple(row.end_to_end_id for row in rows if (row.emsp_id, row.currency) == (emsp_id, currency))
            async with self._ports.units.begin() as unit:
                where = {"emsp_id": emsp_id, "currency": currency, "paid_by": ids}
                for each in await rows_of(unit, PAYABLE, where):
                    paid[each.cpo_id, each.paid_by or ""].append(each)
        return answer([_shown_payout(row, paid[row.cpo_id, row.end_to_end_id]) for row in rows])

    # The bank

    async def list_accounts(self, _: Request, party_id: PartyId) -> Response:
        """List the company's accounts."""
        async with self._ports.units.begin() as unit:
            rows = await unit.table(ACCOUNT).select({"party_id": party_id}, order_by=("currency",))
        return answer([{"currency": row.currency, "name": row.name, "iban": row.iban, "bic": row.bic} for row in rows])

    async def put_account(self, request: Request, party_id: PartyId) -> Response:
        """Enter the account of a currency."""
        asked = await read_body(request, AccountRequest)
        currency = request.path_params["currency"]
        account = BankAccount(name=asked.name, iban=plain_iban(asked.iban), bic=asked.bic, currency=currency)
        await self._payouts.enter_account(party_id, account)
        return Response(status_code=204)

    async def put_mandate(self, request: Request, party_id: PartyId) -> Response:
        """Let a CPO collect what the party owes."""
        asked = await read_body(request, MandateRequest)
        mandate = Mandate(
            mandate_id=asked.mandate_id[:35],
            signed_on=asked.signed_on,
            scheme=asked.scheme,
            creditor_id=asked.creditor_id[:35],
        )
        await self._payouts.enter_mandate(party_id, party_of(request.path_params["cpo_id"]), mandate)
        return Response(status_code=204)

    async def end_mandate(self, request: Request, party_id: PartyId) -> Response:
        """Pay by itself again."""
        await self._payouts.enter_mandate(party_id, party_of(request.path_params["cpo_id"]), None)
        return Response(status_code=204)

    async def list_files(self, _: Request, party_id: PartyId) -> Response:
        """List bank files that were made, newest first."""
        async with self._ports.units.begin() as unit:
            rows = await unit.table(BANK_EXPORT).select({"party_id": party_id}, order_by=("-made_at",), limit=ROWS_MAX)
        return answer([_shown_export(row) for row in rows])

    async def export(self, request: Request, party_id: PartyId) -> Response:
        """Make a bank file of all that is to be paid, or collected."""
        asked = await read_body(request, ExportRequest)
        on = asked.on or (self._ports.clock.now() + NEXT_BANK_DAY).date()
        return answer(_shown_export(await self._payouts.export(party_id, asked.kind, asked.currency, on=on)), 201)

    async def show_file(self, request: Request, party_id: PartyId) -> Response:
        """Hand a bank file out again, byte for byte."""
        async with self._ports.units.begin() as unit:
            row = await unit.table(BANK_EXPORT).get(party_id, request.path_params["message_id"])
        if row is None:
            raise NoSuchBankFile(f"{party_id} made no such bank file")
        return Response(row.document, media_type="application/xml", headers={"Cache-Control": "no-store"})

    async def take_statement(self, request: Request, party_id: PartyId) -> Response:
        """Book what a camt.053 or camt.054 says; again is as once."""
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > DOCUMENT_BYTES_MAX:
                raise NotUnderstood(f"a bank file has at most {DOCUMENT_BYTES_MAX} bytes")
        return answer(await self._payouts.take_file(party_id, body))

    async def list_entries(self, request: Request, party_id: PartyId) -> Response:
        """List entries, newest first; with `?open` only those that wait for somebody."""
        where: dict[str, Any] = {"party_id": party_id}
        if "open" in request.query_params:
            where["is_open"] = True
        async with self._ports.units.begin() as unit:
            rows = await unit.table(BANK_ENTRY).select(where, order_by=("-imported_at",), limit=ROWS_MAX)
        return answer([_shown_entry(row) for row in rows])

    async def resolve(self, request: Request, party_id: PartyId) -> Response:
        """Take an entry off the work list, saying what was made of it."""
        asked = await read_body(request, ResolutionRequest)
        if not asked.resolution.strip():
            raise NotUnderstood("say what was made of it")
        entry_id = request.path_params["entry_id"]
        resolution = asked.resolution.strip()[:TEXT_CHARACTERS_MAX]
        return answer(_shown_entry(await self._payouts.resolve(party_id, entry_id, resolution=resolution)))

    # The chain

    async def list_discharges(self, _: Request, party_id: PartyId) -> Response:
        """List what was paid as the chain is told of it."""
        return answer([_shown_discharge(row) for row in await self._rows(DISCHARGE, party_id, "made_at")])

    async def sign_discharge(self, request: Request, party_id: PartyId) -> Response:
        """Take a party's own signature under a discharge."""
        if self._discharging is None:
            raise NoChain
        asked = await read_body(request, SignatureRequest)
        await self._discharging.take(party_id, request.path_params["discharge_id"], hex_bytes(asked.signature))
        return Response(status_code=204)

    async def _rows(self, spec: Any, party_id: PartyId, dated: str) -> list[Any]:
        """Return a pair's rows that the party takes part in, newest first."""
        async with self._ports.units.begin() as unit:
            found = [
                row
                for side in SIDES
                for row in await unit.table(spec).select({side: party_id}, order_by=(f"-{dated}",), limit=ROWS_MAX)
            ]
        return sorted(found, key=lambda row: getattr(row, dated), reverse=True)[:ROWS_MAX]


def _shown_payable(row: PayableRecord) -> dict[str, Any]:
    return {
        "statement": row.statement_hash.hex(),
        "cpo": row.cpo_id.code,
        "emsp": row.emsp_id.code,
        "agreement": row.agreement_id,
        "version": row.version,
        "sequence": row.sequence,
        "currency": row.currency,
        "exact_e4": row.exact_e4,
        "carried_e4": row.carried_e4,
        "net_cents": row.net_cents,
        "residue_e4": row.residue_e4,
        "vat_cents": row.vat_cents,
        "regime": row.regime,
        "tax_waits_for": row.tax_waits,
        "is_prepaid": row.is_prepaid,
        "due_on": row.due_on,
        "end_to_end_id": row.paid_by or row.end_to_end_id,
        "is_in_a_payment": row.paid_by is not None,
        "invoice": row.invoice_number,
    }


def _shown_payout(row: PayoutRecord, made_of: Sequence[PayableRecord]) -> dict[str, Any]:
    return {
        "end_to_end_id": row.end_to_end_id,
        "cpo": row.cpo_id.code,
        "emsp": row.emsp_id.code,
        "agreement": row.agreement_id,
        "currency": row.currency,
        "cents": row.cents,
        "net_cents": row.net_cents,
        "vat_cents": row.vat_cents,
        "due_on": row.due_on,
        "sent_cents": row.sent_cents,
        "arrived_cents": row.arrived_cents,
        "discharged_e4": row.discharged_e4,
        "taken_cents": row.taken_cents,
        "file": row.exported_in,
        "statements": [
            {
                "statement": each.statement_hash.hex(),
                "version": each.version,
                "sequence": each.sequence,
                "net_cents": each.payable.net_cents,
                "vat_cents": each.vat_cents,
                "invoice": each.invoice_number,
            }
            for each in sorted(made_of, key=lambda each: (each.version, each.sequence))
        ],
    }


def _shown_export(row: BankExportRecord) -> dict[str, Any]:
    return {
        "message_id": row.message_id,
        "kind": row.kind,
        "currency": row.currency,
        "orders": row.orders,
        "cents": row.cents,
        "made_at": row.made_at,
    }


def _shown_entry(row: BankEntryRecord) -> dict[str, Any]:
    return {
        "entry": row.entry_id,
        "outcome": row.outcome,
        "is_late": row.is_late,
        "is_open": row.is_open,
        "resolution": row.resolution,
        "iban": row.entry.iban,
        "reference": row.entry.reference,
        "booked_on": row.entry.booked_on,
        "direction": row.entry.direction,
        "currency": row.currency,
        "cents": row.entry.cents,
        "booked_cents": row.booked_cents,
        "excess_cents": row.excess_cents,
        "end_to_end_id": row.end_to_end_id,
        "reason": row.entry.reason,
    }


def _shown_discharge(row: DischargeRecord) -> dict[str, Any]:
    return {
        "discharge": row.discharge_id,
        "cpo": row.cpo_id.code,
        "emsp": row.emsp_id.code,
        "agreement": row.agreement_id,
        "currency": row.currency,
        "amount_e4": row.amount_e4,
        "number": row.number,
        "state": row.state,
        "not_before": row.not_before,
        "waits_for": row.waiting,
        "signed_by_cpo": row.by_cpo is not None,
        "signed_by_emsp": row.by_msp is not None,
    }
