"""Who takes part in the laboratory's month: five currencies, every mode, and three companies that make trouble."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from emobility.domain.agreement import (
    RoamingAgreement,
    SettlementMode,
    SignedMeterPolicy,
    StatementPeriod,
    TaxRegime,
)
from emobility.domain.banking.account import BankAccount
from emobility.domain.cdr import CDR, CDRLocation
from emobility.domain.charging_station import PowerType
from emobility.domain.identifiers import PartyId
from emobility.domain.money import Price
from emobility.domain.personal import Sealed
from emobility.domain.session import AuthMethod, ChargingPeriod, SessionToken
from emobility.domain.tariff.tariff import PriceComponent, Tariff, TariffDimension, TariffElement
from emobility.domain.tariff.version import tariff_hash
from emobility.domain.token import TokenType

BEGINS_AT: Final = datetime(2022, 2, 28, 8, 0, tzinfo=UTC)
"""A Monday; the month after it is March, in which clocks change."""
CPOS: Final = {
    "EUR": PartyId("NL-TUL"),
    "CHF": PartyId("CH-ALP"),
    "GBP": PartyId("GB-THA"),
    "SEK": PartyId("SE-NOR"),
    "PLN": PartyId("PL-WIS"),
}
MSPS: Final = tuple(map(PartyId, ("NL-ZON", "DE-RHE", "CH-GLT", "GB-SEA", "SE-FJL", "PL-ORZ")))
SILENT: Final = PartyId("BE-STI")
"""Keeps its own key and never signs."""
UNFUNDED: Final = PartyId("FR-LEE")
"""Prefunds, and has paid nothing in."""
HOSTILE: Final = PartyId("IT-BOS")
"""Keeps its own key, hands in signatures of others, and contests what is due."""
TROUBLE: Final = (SILENT, UNFUNDED, HOSTILE)
MODES: Final = (
    SettlementMode.PREFUNDED,
    SettlementMode.CREDIT_LINE,
    SettlementMode.GUARANTEE,
    SettlementMode.CONFIDENTIAL,
)
PARTNERS: Final = len(MODES)
"""MSPs of each CPO, one under each mode."""
LIMIT_E4: Final = 500_000_000
TIME_TO_SIGN_H: Final = 72
PAYMENT_TERMS_D: Final = 14
PRICES: Final = {
    currency: Decimal(price)
    for currency, price in (
        ("EUR", "0.4200"),
        ("CHF", "0.4510"),
        ("GBP", "0.3790"),
        ("SEK", "4.6130"),
        ("PLN", "1.9370"),
    )
}
"""Per kWh, net of tax."""
IBANS: Final = {
    "NL": "NL91ABNA0417164300",
    "DE": "DE89370400440532013000",
    "CH": "CH9300762011623852957",
    "GB": "GB29NWBK60161331926819",
    "SE": "SE4550000000058398257466",
    "PL": "PL61109010140000071219812874",
}
"""The examples of the IBAN registry."""
CENT_E4: Final = 100
_NOBODY: Final = Sealed(subject="00" * 32, box=b"")
"""No driver is told to the laboratory's month."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What a driver did, in whole Wh."""

    cdr_id: str
    ended_at: datetime
    energy_wh: int


def agreements() -> list[RoamingAgreement]:
    """Return agreements of each CPO with four MSPs, modes in turn, and those of the three with the CPO in euro."""
    regular = [
        (cpo, currency, MSPS[(place + step) % len(MSPS)])
        for place, (currency, cpo) in enumerate(CPOS.items())
        for step in range(PARTNERS)
    ]
    made = [
        agreement(cpo, msp, currency, mode=MODES[place % PARTNERS])
        for place, (cpo, currency, msp) in enumerate(regular)
    ]
    return made + [agreement(CPOS["EUR"], msp, "EUR", mode=SettlementMode.PREFUNDED) for msp in TROUBLE]


def agreement(cpo_id: PartyId, emsp_id: PartyId, currency: str, *, mode: SettlementMode) -> RoamingAgreement:
    """Return the terms of a pair."""
    is_abroad = cpo_id.country_code != emsp_id.country_code
    return RoamingAgreement(
        agreement_id=f"{cpo_id.party_id}-{emsp_id.party_id}",
        version=1,
        cpo_id=cpo_id,
        emsp_id=emsp_id,
        valid_from=BEGINS_AT - timedelta(days=30),
        valid_until=None,
        currency=currency,
        tariff_ids=(tariff_of(cpo_id, currency).tariff_id,),
        tax_regime=TaxRegime.REVERSE_CHARGE if is_abroad else TaxRegime.DOMESTIC,
        cdr_deadline_h=48,
        dispute_period_h=TIME_TO_SIGN_H,
        statement_period=StatementPeriod.WEEKLY,
        time_zone="Europe/Amsterdam",
        payment_terms_d=PAYMENT_TERMS_D,
        settlement_mode=mode,
        credit_limit_e4=LIMIT_E4 if mode in {SettlementMode.CREDIT_LINE, SettlementMode.GUARANTEE} else 0,
        signed_meter_policy=SignedMeterPolicy.NOT_REQUIRED,
        cpo_signature="lab",
        emsp_signature="lab",
    )


def account(party_id: PartyId, currency: str) -> BankAccount:
    """Return a company's account in a currency."""
    return BankAccount(name=str(party_id), iban=IBANS[party_id.country_code], bic=None, currency=currency)


def tariff_of(cpo_id: PartyId, currency: str) -> Tariff:
    """Return what a CPO charges."""
    component = PriceComponent(dimension=TariffDimension.ENERGY, price=PRICES[currency])
    return Tariff(
        party_id=cpo_id,
        tariff_id=f"LAB-{currency}",
        currency=currency,
        elements=(TariffElement(components=(component,)),),
        last_updated=BEGINS_AT,
    )


def cdr_of(terms: RoamingAgreement, charge: Charge, *, issued_at: datetime) -> CDR:
    """Return the document of a charge: an hour at the pair's price."""
    tariff = tariff_of(terms.cpo_id, terms.currency)
    cost_e4 = int((PRICES[terms.currency] * charge.energy_wh * 10).quantize(Decimal(1)))
    began_at, cost = charge.ended_at - timedelta(hours=1), Price(excl_e4=cost_e4)
    return CDR(
        party_id=terms.cpo_id,
        cdr_id=charge.cdr_id,
        session_id=charge.cdr_id,
        started_at=began_at,
        ended_at=charge.ended_at,
        token=SessionToken(emsp_id=terms.emsp_id, uid=_NOBODY, token_type=TokenType.RFID, contract_id=_NOBODY),
        auth_method=AuthMethod.WHITELIST,
        authorization_reference=None,
        location=_place(terms.cpo_id),
        currency=terms.currency,
        tariff=tariff,
        tariff_hash=tariff_hash(tariff),
        periods=(
            ChargingPeriod(started_at=began_at, energy_import_wh=charge.energy_wh, charging_s=3_600, parking_s=0),
        ),
        total_cost=cost,
        total_fixed_cost=None,
        total_energy_cost=cost,
        total_time_cost=None,
        total_parking_cost=None,
        total_energy_import_wh=charge.energy_wh,
        total_energy_export_wh=0,
        total_charging_s=3_600,
        total_parking_s=0,
        signed_data=None,
        issued_at=issued_at,
    )


def _place(cpo_id: PartyId) -> CDRLocation:
    return CDRLocation(
        location_id="LAB",
        name="Laboratory",
        address="Square 1",
        city="Utrecht",
        postal_code="3511ED",
        country="NLD",
        latitude=Decimal("52.09083"),
        longitude=Decimal("5.12222"),
        time_zone="Europe/Amsterdam",
        evse_uid="E1",
        emi3_id=f"{cpo_id.country_code}*{cpo_id.party_id}*E1",
        connector_id=1,
        connector_standard="IEC_62196_T2",
        power_type=PowerType.AC_3_PHASE,
    )
