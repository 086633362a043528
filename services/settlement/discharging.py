"""Tell the book what a bank moved: both parties sign that an obligation was paid, and it counts once.

A book counts an agreement's discharges, and the number is signed along; so there is one at a time, of no more than the
book says is owed. For a party hosted
here we sign what its own books say was paid; another looks at it and hands its signature in.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from emobility.domain.banking.payout import CENT_E4
from emobility.domain.batch import contracts
from emobility.domain.batch.calls import (
    REGISTRY_QUERY,
    AgreementState,
    agreement_query,
    discharge_call,
    read_agreement,
    read_registry,
)
from emobility.domain.batch.typed_data import discharge_digest
from emobility.domain.errors import RuleBroken
from emobility.domain.exposure import BOUNDED_MODES
from emobility.domain.identifiers import PartyId
from emobility.ports.ports import Ports
from services.settlement.acceptances import AlreadyAccepted, SignatureNotOfParty
from services.settlement.access import ChainAccess, DeployedBook
from services.settlement.exposure import rows_of
from services.settlement.guarantee_records import GUARANTEE
from services.settlement.money_records import DISCHARGE, PAYOUT, DischargeRecord, DischargeState
from services.settlement.records import (
    OPENING,
    PARTY,
    TRANSACTION,
    Opening,
    SettledParty,
    SigningPolicy,
    TransactionKind,
    TransactionRecord,
    TransactionState,
)
from services.settlement.sending import error_name

PASSED_OVER: Final = "another discharge took its number"
REST: Final = "-rest"
"""Ends the id of what a discharge left over, so that it comes after it."""


class UnknownDischarge(RuleBroken):
    """The party takes part in no such discharge, or nothing is to be signed yet."""


class Discharging:
    """Has discharges signed and queues their transactions; `sending` does the rest."""

    def __init__(self, ports: Ports, access: ChainAccess) -> None:
        self._ports = ports
        self._access = access

    async def advance(self) -> int:
        """Bring each agreement's oldest discharge on; return how many moved. Raises `ChainUnavailable`."""
        now = self._ports.clock.now()
        async with self._ports.units.begin() as unit:
            rows = await unit.table(DISCHARGE).select(
                {"state": (DischargeState.OPEN, DischargeState.SENDING)}, order_by=("made_at", "discharge_id")
            )
        moved, busy = 0, set[tuple[PartyId, str, int]]()
        # What has a number goes first: the book takes them in order.
        for row in sorted(rows, key=lambda each: each.number is None):
            agreement = row.cpo_id, row.agreement_id, row.version
            if agreement in busy or row.not_before > now:
                continue
            busy.add(agreement)
            moved += await self._bring_on(row)
        return moved

    async def _bring_on(self, row: DischargeRecord) -> int:
        async with self._ports.units.begin() as unit:
            opening = await unit.table(OPENING).get(row.cpo_id, row.agreement_id, row.version)
        assert opening is not None, f"discharge {row.discharge_id} has no opening"
        found = await self._access.books.book_of(row.currency)
        if found is None or opening.book_agreement is None:
            return await self._put(row, replace(row, waiting=f"no book settles {row.currency}"))
        if row.state is DischargeState.SENDING:
            return await self._look(row, found, opening.book_agreement)
        state = read_agreement(
            await self._access.chain.call(found.book.address, agreement_query(opening.book_agreement))
        )
        if row.number is not None and row.number != state.discharges:
            # Nobody signed another for this number through us; by hand it may have been. Then ours is signed anew.
            anew = replace(row, number=None, by_cpo=None, by_msp=None, waiting=PASSED_OVER)
            return await self._put(row, anew)
        if 0 < state.owed_e4 < row.amount_e4:
            return await self._split(row, state.owed_e4)
        if row.amount_e4 > state.owed_e4:
            if (newer := await self._newer_that_owes(row, found)) is not None:
                anew = replace(row, version=newer, number=None, by_cpo=None, by_msp=None, waiting=None)
                return await self._put(row, anew)
            reason = f"the book says that {state.owed_e4} e4 are owed, and {row.amount_e4} e4 were paid"
            return await self._put(row, replace(row, waiting=reason))
        return await self._sign(row, opening, found, state)

    async def _newer_that_owes(self, row: DischargeRecord, found: DeployedBook) -> int | None:
        """Return under which newer terms a payment lowers what is owed, where a guarantee paid the same; or None."""
        where = {"cpo_id": row.cpo_id, "agreement_id": row.agreement_id, "currency": row.currency}
        async with self._ports.units.begin() as unit:
            guarantee = await unit.table(GUARANTEE).get(row.cpo_id, row.agreement_id, row.version)
            payouts = await rows_of(unit, PAYOUT, where | {"version": row.version})
            openings = await rows_of(unit, OPENING, where | {"mode": tuple(BOUNDED_MODES)})
        taken_e4 = 0 if guarantee is None else guarantee.taken_e4
        if row.amount_e4 > taken_e4 - CENT_E4 * sum(each.taken_cents for each in payouts):
            return None
        for each in openings:
            if each.version > row.version and each.book_agreement is not None:
                asked = agreement_query(each.book_agreement)
                if read_agreement(await self._access.chain.call(found.book.address, asked)).owed_e4 > 0:
                    return each.version
        return None

    async def _split(self, row: DischargeRecord, owed_e4: int) -> int:
        """Leave in a discharge what the book says is owed; the rest waits as one of its own, until more is.

        Whole it might wait for a statement that itself waits for cover, which the discharge would bring.
        """
        part = replace(row, amount_e4=owed_e4, number=None, by_cpo=None, by_msp=None, waiting=None)
        async with self._ports.units.begin() as unit:
            # Locked before its discharges, as where it is booked: a return withdraws both parts or sees them whole.
            await unit.table(PAYOUT).get_for_update(row.cpo_id, row.end_to_end_id)
            if await unit.table(DISCHARGE).get_for_update(row.cpo_id, row.discharge_id) != row:
                return 0
            rest_id = f"{row.discharge_id}{REST}"
            while await unit.table(DISCHARGE).get(row.cpo_id, rest_id) is not None:
                rest_id += REST
            await unit.table(DISCHARGE).put(part)
            await unit.table(DISCHARGE).insert(
                replace(part, discharge_id=rest_id, amount_e4=row.amount_e4 - part.amount_e4)
            )
            await unit.commit()
        return 1

    async def _sign(self, row: DischargeRecord, opening: Opening, found: DeployedBook, state: AgreementState) -> int:
        assert opening.book_agreement is not None
        numbered = replace(row, number=state.discharges)
        digest = discharge_digest(
            found.book, agreement=opening.book_agreement, number=state.discharges, amount_e4=row.amount_e4
        )
        by_cpo = numbered.by_cpo or await self._signature(row.cpo_id, digest)
        by_msp = numbered.by_msp or await self._signature(row.emsp_id, digest)
        sides = ((row.cpo_id, by_cpo), (row.emsp_id, by_msp))
        missing = [party.code for party, signature in sides if signature is None]
        signed = replace(
            numbered,
            by_cpo=by_cpo,
            by_msp=by_msp,
            waiting=f"the signature of {' and '.join(missing)}" if missing else None,
        )
        if by_cpo is None or by_msp is None:
            return await self._put(row, signed)
        queued = TransactionRecord(
            transaction_id=_transaction_id(numbered),
            kind=TransactionKind.DISCHARGE,
            batch_id=opening.book_agreement,
            chain_id=found.book.chain_id,
            account=self._access.proposer.address,
            receiver=found.book.address,
            calldata=discharge_call(opening.book_agreement, row.amount_e4, by_cpo=by_cpo, by_msp=by_msp),
            queued_at=self._ports.clock.now(),
        )
        return await self._put(row, replace(signed, state=DischargeState.SENDING), queued)

    async def _signature(self, party_id: PartyId, digest: bytes) -> bytes | None:
        async with self._ports.units.begin() as unit:
            party = await unit.table(PARTY).get(party_id)
        if party is None or not _signs_here(party):
            return None
        return await self._access.signer_of(party_id).sign_digest(digest)

    async def _all_sign_here(self, row: DischargeRecord) -> bool:
        async with self._ports.units.begin() as unit:
            parties = await unit.table(PARTY).select({"party_id": (row.cpo_id, row.emsp_id)})
        return len(parties) == 2 and all(map(_signs_here, parties))

    async def _look(self, row: DischargeRecord, found: DeployedBook, agreement: bytes) -> int:
        """See what became of the transaction. One that the book refuses has lost its number: perhaps to itself."""
        async with self._ports.units.begin() as unit:
            transaction = await unit.table(TRANSACTION).get(_transaction_id(row))
        assert transaction is not None, f"discharge {row.discharge_id} is sent by nobody"
        final = replace(row, state=DischargeState.FINAL, waiting=None)
        if transaction.state is TransactionState.FINAL:
            return await self._put(row, final)
        if transaction.state is not TransactionState.QUEUED or transaction.waiting is None:
            return 0
        assert row.number is not None
        asked = agreement_query(agreement)
        log = None
        if read_agreement(await self._access.chain.call(found.book.address, asked)).discharges > row.number:
            number = row.number.to_bytes(32, "big")
            topics = [contracts.OBLIGATION_DISCHARGED.topic, agreement.rjust(32, b"\0"), number]
            log = await self._access.newest_log(found.book.address, topics)
        if log is not None and int.from_bytes(log.data[:32], "big", signed=True) == row.amount_e4:
            return await self._put(row, final)
        if log is not None:
            anew = replace(row, state=DischargeState.OPEN, number=None, by_cpo=None, by_msp=None, waiting=PASSED_OVER)
            return await self._put(row, anew)
        # A key that was replaced since it signed: who keeps its own is asked once more.
        is_outdated = error_name(contracts.BOOK_WRONG_SIGNER.selector) in transaction.waiting
        if error_name(contracts.DISCHARGE_EXCEEDS_OWED.selector) in transaction.waiting or (
            is_outdated and not await self._all_sign_here(row)
        ):
            return await self._reopen(row, transaction)
        return await self._put(row, replace(row, waiting=transaction.waiting))

    async def _reopen(self, row: DischargeRecord, transaction: TransactionRecord) -> int:
        """Take back a call that the book refuses: both sign anew, and what is more than is owed is split, or waits."""
        anew = replace(
            row, state=DischargeState.OPEN, number=None, by_cpo=None, by_msp=None, waiting=transaction.waiting
        )
        async with self._ports.units.begin() as unit:
            if await unit.table(DISCHARGE).get_for_update(row.cpo_id, row.discharge_id) != row:
                return 0
            queued = {"state": TransactionState.QUEUED}
            if not await unit.table(TRANSACTION).delete(transaction.transaction_id, where=queued):
                return 0
            await unit.table(DISCHARGE).put(anew)
            await unit.commit()
        return 1

    async def take(self, party_id: PartyId, discharge_id: str, signature: bytes) -> None:
        """Take a party's own signature.

        Raises:
            UnknownDischarge: it takes part in none of this name that is to be signed.
            SignatureNotOfParty: its registered key signed something else.
            AlreadyAccepted: it gave another signature before.
        """
        async with self._ports.units.begin() as unit:
            rows = await unit.table(DISCHARGE).select({"discharge_id": discharge_id, "state": DischargeState.OPEN})
            row = next((each for each in rows if party_id in {each.cpo_id, each.emsp_id}), None)
            opening = None if row is None else await unit.table(OPENING).get(row.cpo_id, row.agreement_id, row.version)
            party = await unit.table(PARTY).get(party_id)
        if row is None or row.number is None or opening is None or opening.book_agreement is None:
            raise UnknownDischarge(f"{party_id} has nothing to sign as {discharge_id}")
        known = row.by_cpo if party_id == row.cpo_id else row.by_msp
        if known == signature:
            return
        if known is not None:
            raise AlreadyAccepted(f"{party_id} signed discharge {discharge_id}")
        found = await self._access.books.book_of(row.currency)
        assert found is not None, "a discharge has a number only where there is a book"
        digest = discharge_digest(
            found.book, agreement=opening.book_agreement, number=row.number, amount_e4=row.amount_e4
        )
        registry = read_registry(await self._access.chain.call(found.book.address, REGISTRY_QUERY))
        number = 0 if party is None or party.number is None else party.number
        (signer,) = contracts.SIGNER_OF.answer(
            await self._access.chain.call(registry, contracts.SIGNER_OF.call(number))
        )
        if self._access.recovered_address(digest, signature) != signer:
            raise SignatureNotOfParty(f"the key registered for {party_id} signed something else, or did not sign")
        given = {"by_cpo" if party_id == row.cpo_id else "by_msp": signature}
        await self._put(row, replace(row, **given))  # type: ignore[arg-type]  # by name

    async def _put(self, before: DischargeRecord, after: DischargeRecord, *queued: TransactionRecord) -> int:
        """Store a step, with what is to be sent for it, unless somebody else made one; return how many."""
        if after == before:
            return 0
        async with self._ports.units.begin() as unit:
            current = await unit.table(DISCHARGE).get_for_update(before.cpo_id, before.discharge_id)
            if current != before:
                return 0
            await unit.table(DISCHARGE).put(after)
            for each in queued:
                await unit.table(TRANSACTION).put(each)
            await unit.commit()
        return 1


def _transaction_id(row: DischargeRecord) -> str:
    return f"discharge/{row.cpo_id}/{row.discharge_id}/{row.number}"


def _signs_here(party: SettledParty) -> bool:
    return party.is_hosted and party.signs is SigningPolicy.AUTOMATIC
