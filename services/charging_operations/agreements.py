"""Roaming agreements at the CPO: proposed, signed by both, in force."""

from __future__ import annotations

from dataclasses import dataclass, replace

from emobility.domain.agreement import RoamingAgreement, signing_bytes
from emobility.domain.agreement_offer import refuse_other_agreement
from emobility.domain.identifiers import PartyId
from emobility.events.cdr import AgreementSigned
from emobility.events.event import Envelope
from emobility.ports.unit_of_work import UnitOfWork
from emobility.protocols.ocpi.agreement_exchange import ended
from services.charging_operations.office import NotAllowedNow, NotUnderstood, Office, require_hosted
from services.charging_operations.publishing import Publisher
from services.charging_operations.records import AGREEMENT, AgreementRecord, AgreementState


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementProposal:
    """A version's terms, with or without signatures, and the key the eMSP signs with (Ed25519, hex), told out of band.

    The CPO signs what its operator proposes; once the eMSP's signature is there too, the version is in force from its
    `valid_from`.
    """

    agreement: RoamingAgreement
    emsp_public_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AgreementDesk:
    """Keeps agreements."""

    office: Office
    publisher: Publisher

    async def put(
        self, unit: UnitOfWork, party_id: PartyId, proposal: AgreementProposal, *, correlation_id: str
    ) -> AgreementRecord:
        """Sign a version in the CPO's name and, when the eMSP's signature is valid too, put it into force.

        Raises:
            NotUnderstood: the agreement is another CPO's, or a signature is not valid.
            NotAllowedNow: this version was signed with other terms or under another key.
        """
        agreement = proposal.agreement
        await require_hosted(unit, party_id)
        if agreement.cpo_id != party_id or agreement.version < 1 or not agreement.tariff_ids:
            raise NotUnderstood(f"an agreement of {party_id} names it as CPO, a version from 1 on, and tariffs")
        known = await unit.table(AGREEMENT).get_for_update(party_id, agreement.agreement_id, agreement.version)
        message = signing_bytes(agreement)
        self._refuse_change(known, proposal, message)
        if not await self._is_valid(agreement, proposal.emsp_public_key, message):
            raise NotUnderstood("a signature does not fit the terms")
        emsp_signature = agreement.emsp_signature or (known.agreement.emsp_signature if known else None)
        signed = replace(
            agreement,
            cpo_signature=await self.office.ports.signer.sign(party_id, message),
            emsp_signature=emsp_signature,
        )
        record = AgreementRecord(
            party_id=party_id,
            agreement_id=agreement.agreement_id,
            version=agreement.version,
            emsp_id=agreement.emsp_id,
            state=AgreementState.SIGNED if emsp_signature else AgreementState.PROPOSED,
            emsp_public_key=proposal.emsp_public_key,
            agreement=signed,
        )
        if record.state is AgreementState.SIGNED and (known is None or known.state is not AgreementState.SIGNED):
            await self._refuse_overlap(unit, signed)
        await unit.table(AGREEMENT).put(record)
        if record.state is AgreementState.SIGNED and (known is None or known.state is not AgreementState.SIGNED):
            await self.publisher.publish_everything(unit, party_id, agreement.emsp_id, correlation_id=correlation_id)
            unit.emit(self._signed(signed, correlation_id))
        return record

    async def _refuse_overlap(self, unit: UnitOfWork, terms: RoamingAgreement) -> None:
        """Raises `OfferRefused`: another agreement of the pair is in force at the same time."""
        of_pair = {"party_id": terms.cpo_id, "emsp_id": terms.emsp_id, "state": AgreementState.SIGNED}
        rows = [row.agreement for row in await unit.table(AGREEMENT).select(of_pair)]
        refuse_other_agreement(terms, signed=await ended(unit, terms.cpo_id, terms.emsp_id, rows))

    def _signed(self, agreement: RoamingAgreement, correlation_id: str) -> Envelope:
        event = AgreementSigned(
            agreement_id=agreement.agreement_id,
            cpo_id=agreement.cpo_id,
            emsp_id=agreement.emsp_id,
            holder=agreement.cpo_id,
            agreement=agreement,
            signed_at=self.office.now(),
        )
        event_id = f"agreement/{agreement.cpo_id}/{agreement.agreement_id}/{agreement.version}"
        return self.office.fact(event, event_id=event_id, correlation_id=correlation_id)

    @staticmethod
    def _refuse_change(known: AgreementRecord | None, proposal: AgreementProposal, message: bytes) -> None:
        if known is None:
            return
        if signing_bytes(known.agreement) != message or known.emsp_public_key != proposal.emsp_public_key:
            raise NotAllowedNow("this version was proposed with other terms or another key: make a new version")

    async def _is_valid(self, agreement: RoamingAgreement, emsp_public_key: str, message: bytes) -> bool:
        signer = self.office.ports.signer
        claims = [(agreement.emsp_signature, emsp_public_key)]
        if agreement.cpo_signature is not None:
            claims.append((agreement.cpo_signature, await signer.public_key(agreement.cpo_id)))
        return all(
            signature is None or signer.is_valid(public_key=key, message=message, signature=signature)
            for signature, key in claims
        )
