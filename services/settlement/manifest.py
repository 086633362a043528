"""A consortium's contracts: which there are, where, how they were made, and who holds which role (`deployment.json`).

The addresses follow from the account that makes the contracts and its nonces, so all of this is known before the first
is made. What stands in the file is public; no key is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import msgspec

import settlement_contracts
from emobility.domain.batch import contracts
from emobility.domain.batch.abi import encode
from emobility.domain.batch.hashing import keccak256
from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import MalformedPartyId, PartyId
from emobility.protocols.eip1559 import created_address
from services.settlement.deployment import (
    ACCEPTANCE_WINDOW_S,
    CHALLENGE_BOND_E4,
    WITHDRAWAL_DELAY_S,
    CurrencyContracts,
    Deployment,
)
from services.settlement.resolving import DEMAND_BOND_E4, QUARREL_BOND_E4

VERSION: Final = 1
FILE_BYTES_MAX: Final = 100_000
CURRENCIES_MAX: Final = 32
Address = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-f]{40}$")]
Hash = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-f]{64}$")]
Code = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}$")]
Country = Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{2}$")]
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")


class ManifestRefused(MalformedInput):
    """The file is no deployment, or one that is not complete."""


class CurrencyAt(msgspec.Struct, frozen=True, kw_only=True):
    """What settles one currency. `is_token_made`: its token was made with the rest, and the administrator mints it."""

    currency: Code
    is_token_made: bool
    token: Address
    vault: Address
    book: Address
    confidential_book: Address
    disputes: Address
    confidential_disputes: Address


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """All of a deployment.

    Attributes:
        deployer: Account that makes the contracts, the first with its transaction `first_nonce`.
        first_block: Youngest block before that: what our contracts tell stands in later ones.
        block: Final block in which all is there; None: it was cut short.
        code_hash: Over the code of the contracts of `Deployment`; None: it was cut short.
        admin: Holds the administrator's role of every contract, and decides quarrels.
        proposer: Account of the process that settles.
        issuers: Who vouches for party ids, by country.
    """

    version: int = VERSION
    chain_id: int
    genesis_hash: Hash
    deployer: Address
    first_nonce: int
    first_block: int
    block: int | None = None
    code_hash: Hash | None = None
    admin: Address
    proposer: Address
    issuers: Mapping[Country, tuple[Address, ...]]
    registry: Address
    passport: Address
    evidence: Address
    arbiter: Address
    anchor: Address
    currencies: Annotated[tuple[CurrencyAt, ...], msgspec.Meta(min_length=1, max_length=CURRENCIES_MAX)]

    @property
    def deployment(self) -> Deployment:
        """Return where the contracts are, as the settlement keeps it. Raises `ManifestRefused`: not all are there."""
        if self.code_hash is None or self.block is None:
            raise ManifestRefused("the deployment was cut short: run the same `wattroam chain deploy` again")
        return Deployment(
            chain_id=self.chain_id,
            genesis_hash=bytes_of(self.genesis_hash),
            registry=bytes_of(self.registry),
            anchor=bytes_of(self.anchor),
            passport=bytes_of(self.passport),
            currencies=tuple(
                CurrencyContracts(
                    currency=each.currency,
                    token=bytes_of(each.token),
                    vault=bytes_of(each.vault),
                    book=bytes_of(each.book),
                )
                for each in self.currencies
            ),
            code_hash=bytes_of(self.code_hash),
            since_block=self.first_block,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Charter:
    """What a consortium wants: who administers, sends and vouches, and its currencies' tokens; None: one is made."""

    admin: bytes
    proposer: bytes
    issuers: Mapping[str, Sequence[bytes]]
    tokens: Mapping[str, bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A contract that is made. `wave`: all of the waves before must be there first."""

    wave: int
    contract: str
    currency: str | None
    address: bytes
    arguments: bytes

    @property
    def title(self) -> str:
        """Name it to people."""
        return self.contract if self.currency is None else f"{self.contract} {self.currency}"

    @property
    def creation(self) -> bytes:
        """Return what the transaction that makes it carries: our build, and what it is given."""
        return bytes.fromhex(settlement_contracts.bytecode(self.contract)[2:]) + self.arguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """A role that somebody holds of a contract."""

    where: Placed
    name: str
    role: bytes
    holder: bytes


def planned(
    charter: Charter, *, chain_id: int, genesis_hash: bytes, deployer: bytes, first_nonce: int, first_block: int
) -> Manifest:
    """Return where everything will be."""
    currencies = sorted(charter.tokens)
    made = [each for each in currencies if charter.tokens[each] is None]
    names = _names(currencies, made)
    at = {name: created_address(deployer, first_nonce + place) for place, name in enumerate(names)}
    return Manifest(
        chain_id=chain_id,
        genesis_hash=hex_of(genesis_hash),
        deployer=hex_of(deployer),
        first_nonce=first_nonce,
        first_block=first_block,
        admin=hex_of(charter.admin),
        proposer=hex_of(charter.proposer),
        issuers={
            country: tuple(hex_of(each) for each in accounts) for country, accounts in sorted(charter.issuers.items())
        },
        registry=hex_of(at["PartyRegistry", None]),
        passport=hex_of(at["BatteryPassport", None]),
        evidence=hex_of(at["MeterEvidence", None]),
        arbiter=hex_of(at["RoleArbiter", None]),
        anchor=hex_of(at["RootAnchor", None]),
        currencies=tuple(
            CurrencyAt(
                currency=each,
                is_token_made=each in made,
                token=hex_of(charter.tokens[each] or at["EmbeddedCurrency", each]),
                vault=hex_of(at["CollateralVault", each]),
                book=hex_of(at["SettlementBook", each]),
                confidential_book=hex_of(at["ConfidentialBook", each]),
                disputes=hex_of(at["SettlementDisputes", each]),
                confidential_disputes=hex_of(at["ConfidentialDisputes", each]),
            )
            for each in currencies
        ),
    )


def is_as_planned(manifest: Manifest) -> bool:
    """Tell whether every address is where the deployer's transactions put it."""
    charter = Charter(
        admin=bytes_of(manifest.admin),
        proposer=bytes_of(manifest.proposer),
        issuers={country: [bytes_of(each) for each in accounts] for country, accounts in manifest.issuers.items()},
        tokens={each.currency: None if each.is_token_made else bytes_of(each.token) for each in manifest.currencies},
    )
    plan = planned(
        charter,
        chain_id=manifest.chain_id,
        genesis_hash=bytes_of(manifest.genesis_hash),
        deployer=bytes_of(manifest.deployer),
        first_nonce=manifest.first_nonce,
        first_block=manifest.first_block,
    )
    return msgspec.structs.replace(manifest, block=None, code_hash=None) == plan


def placed(manifest: Manifest) -> list[Placed]:
    """Return the contracts that are made, in the order of their nonces; who makes them administers them at first."""
    at = {each.currency: each for each in manifest.currencies}
    made = [each.currency for each in manifest.currencies if each.is_token_made]
    registry, evidence, arbiter = (bytes_of(each) for each in (manifest.registry, manifest.evidence, manifest.arbiter))
    admin = bytes_of(manifest.deployer)
    names = _names(list(at), made)
    found = []
    for place, (contract, currency) in enumerate(names):
        into = at.get(currency or "")
        address = created_address(admin, manifest.first_nonce + place)
        wave = _WAVES[contract]
        if into is None:
            arguments = {
                "MeterEvidence": b"",
                "RootAnchor": encode("(address,address)", (registry, admin)),
            }.get(contract, encode("(address)", (admin,)))
        else:
            arguments = _arguments(contract, into, registry=registry, evidence=evidence, arbiter=arbiter, admin=admin)
        found.append(Placed(wave=wave, contract=contract, currency=currency, address=address, arguments=arguments))
    return found


def granted(manifest: Manifest) -> list[Granted]:
    """Return who holds which role when all is done."""
    at = {(each.contract, each.currency): each for each in placed(manifest)}
    admin, proposer = bytes_of(manifest.admin), bytes_of(manifest.proposer)
    arbiter, anchor, registry = (at[name, None] for name in ("RoleArbiter", "RootAnchor", "PartyRegistry"))
    found = [
        *((each, "DEFAULT_ADMIN_ROLE", contracts.ADMIN_ROLE, admin) for each in administered(manifest)),
        (arbiter, "ARBITER_ROLE", contracts.ARBITER_ROLE, admin),
        (anchor, "ANCHOR_ROLE", contracts.ANCHOR_ROLE, proposer),
        *(
            (registry, f"ISSUER_ROLE {country}", contracts.issuer_role(country), bytes_of(account))
            for country, accounts in manifest.issuers.items()
            for account in accounts
        ),
    ]
    for each in manifest.currencies:
        vault = at["CollateralVault", each.currency]
        if each.is_token_made:
            token = at["EmbeddedCurrency", each.currency]
            found.append((token, "MINTER_ROLE", contracts.MINTER_ROLE, admin))
        for kind, disputes in (("SettlementBook", "SettlementDisputes"), ("ConfidentialBook", "ConfidentialDisputes")):
            book, resolver = at[kind, each.currency], at[disputes, each.currency]
            found += [
                (vault, "BOOK_ROLE", contracts.BOOK_ROLE, book.address),
                (vault, "BOOK_ROLE", contracts.BOOK_ROLE, resolver.address),
                (book, "RESOLVER_ROLE", contracts.RESOLVER_ROLE, resolver.address),
                (book, "PROPOSER_ROLE", contracts.PROPOSER_ROLE, proposer),
                (book, "PAUSER_ROLE", contracts.PAUSER_ROLE, admin),
            ]
    return [Granted(where=where, name=name, role=role, holder=holder) for where, name, role, holder in found]


def administered(manifest: Manifest) -> Iterator[Placed]:
    """Return the contracts that have an administrator."""
    return (each for each in placed(manifest) if each.contract not in _UNADMINISTERED)


def read_manifest(path: Path) -> Manifest:
    """Read a file. Raises `ManifestRefused`, `OSError`."""
    with path.open("rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    try:
        found = msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestRefused(f"{path} is no deployment: {error}") from None
    if len(content) > FILE_BYTES_MAX or found.version != VERSION:
        raise ManifestRefused(f"{path}: version {VERSION} of a deployment is read here, of {FILE_BYTES_MAX} bytes")
    return found


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write a file whole or not at all. Raises `OSError`."""
    beside = path.with_name(f"{path.name}.new")
    beside.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n")
    beside.replace(path)


def account_of(text: str) -> bytes:
    """Read an address; where it has letters of both cases they are its checksum (EIP-55). Raises `ManifestRefused`."""
    if not _ADDRESS.fullmatch(text):
        raise ManifestRefused(f"{text[:60]!r} is no address: 0x and 40 hex digits")
    digits = text[2:]
    if digits not in {digits.lower(), digits.upper()} and digits != checksummed(digits.lower()):
        raise ManifestRefused(f"{text} has a digit wrong: its capitals are a checksum (EIP-55), and do not fit")
    found = bytes.fromhex(digits)
    if not any(found):
        raise ManifestRefused("the zero address belongs to nobody")
    return found


def checksummed(digits: str) -> str:
    """Return 40 lower-case hex digits with the capitals of EIP-55."""
    told = keccak256(digits.encode()).hex()
    return "".join(each.upper() if int(nibble, 16) > 7 else each for each, nibble in zip(digits, told, strict=False))


def currency_of(text: str) -> str:
    """Read a currency's code (ISO 4217). Raises `ManifestRefused`."""
    if not _CURRENCY.fullmatch(text):
        raise ManifestRefused(f"{text[:20]!r} is no currency: three capital letters")
    return text


def country_of(text: str) -> str:
    """Read a country's code (ISO 3166-1 alpha-2). Raises `ManifestRefused`."""
    try:
        return PartyId(f"{text}-AAA").country_code
    except MalformedPartyId:
        raise ManifestRefused(f"{text[:20]!r} is no country: two capital letters") from None


def bytes_of(text: str) -> bytes:
    """Return an address or a hash of a manifest as bytes."""
    return bytes.fromhex(text[2:])


def hex_of(value: bytes) -> str:
    """Return bytes as a manifest has them."""
    return f"0x{value.hex()}"


_WAVES: Final = {
    "PartyRegistry": 0,
    "BatteryPassport": 0,
    "MeterEvidence": 0,
    "RoleArbiter": 0,
    "EmbeddedCurrency": 0,
    "RootAnchor": 1,
    "CollateralVault": 1,
    "SettlementBook": 2,
    "ConfidentialBook": 2,
    "SettlementDisputes": 3,
    "ConfidentialDisputes": 3,
}
"""In the order in which they are made: each names contracts of earlier waves."""
_SHARED: Final = ("PartyRegistry", "BatteryPassport", "MeterEvidence", "RoleArbiter", "RootAnchor")
_UNADMINISTERED: Final = frozenset({"MeterEvidence", "SettlementDisputes", "ConfidentialDisputes"})


def _names(currencies: Sequence[str], made: Sequence[str]) -> list[tuple[str, str | None]]:
    """Return contracts with their currencies, in the order in which they are made."""
    names: list[tuple[str, str | None]] = []
    for contract in _WAVES:
        if contract in _SHARED:
            names.append((contract, None))
        else:
            names += [(contract, each) for each in (made if contract == "EmbeddedCurrency" else currencies)]
    return names


def _arguments(
    contract: str, into: CurrencyAt, *, registry: bytes, evidence: bytes, arbiter: bytes, admin: bytes
) -> bytes:
    code = into.currency.encode()
    vault = bytes_of(into.vault)
    match contract:
        case "EmbeddedCurrency":
            return encode("(string,string,address)", (code, code, admin))
        case "CollateralVault":
            token = bytes_of(into.token)
            return encode("(address,address,uint64,address)", (token, registry, WITHDRAWAL_DELAY_S, admin))
        case "SettlementBook":
            words = (code, ACCEPTANCE_WINDOW_S, CHALLENGE_BOND_E4, registry, vault, admin)
            return encode("(bytes3,uint40,uint64,address,address,address)", words)
        case "ConfidentialBook":
            return encode("(bytes3,address,address,address)", (code, registry, vault, admin))
        case _:
            book = into.book if contract == "SettlementDisputes" else into.confidential_book
            given = (bytes_of(book), evidence, arbiter, DEMAND_BOND_E4, QUARREL_BOND_E4)
            return encode("(address,address,address,uint64,uint64)", given)
