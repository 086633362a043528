"""Hold a chain against a deployment's file: the contracts' code, what they name, and who holds which role.

Whoever joins a consortium runs this before money lies there: it trusts neither who made the contracts nor who handed
the file over, but the endpoint that it asks. Code is compared with our own build; what a contract was given for ever
when it was made (Solidity's immutables) must be what it should be. Roles are taken from what the contracts told and
asked once more, so that one nobody speaks of is seen, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import settlement_contracts
from emobility.domain.batch import contracts
from emobility.domain.batch.abi import Function, MalformedCall
from emobility.domain.batch.hashing import keccak256
from emobility.domain.batch.typed_data import DOMAIN_VERSION, domain_separator_of
from emobility.domain.errors import RuleBroken
from emobility.ports.chain import CallReverted, ChainReader, Log, logs_between
from emobility.protocols.eip1559 import created_address
from services.settlement.deployment import code_hash_of
from services.settlement.manifest import (
    CurrencyAt,
    Granted,
    Manifest,
    Placed,
    administered,
    bytes_of,
    granted,
    hex_of,
    is_as_planned,
    placed,
)

WORD: Final = 32
NOT_GIVEN: Final = bytes(WORD)
_PLACE: Final = b"\x7f" + NOT_GIVEN
"""Where an immutable belongs the compiler writes a `PUSH32` of zero, and nowhere else."""
P256: Final = (0x100).to_bytes(20, "big")
"""The precompile (EIP-7951)."""
ADDRESS_BYTES: Final = 20
BEGINNING: Final = bytes.fromhex("6080604052")
"""Of every contract's code, after the constructor: it sets its memory up."""
_P256_BYTES: Final = 160
_CONSTRUCTOR_DATA_BYTES: Final = {"MeterEvidence": _P256_BYTES}
"""After the code: what the constructor asks the precompile of P-256, a signature that holds."""
_DOMAINS: Final = {"SettlementDisputes": "DisputeResolver", "ConfidentialDisputes": "DisputeResolver"}
"""Names of EIP-712 domains, where they are not the contract's."""
TOKEN_DECIMALS_MIN: Final = 4
TOKEN_DECIMALS_MAX: Final = 18
"""Of the tokens that a vault takes."""
_OF_RESOLVERS: Final = (
    contracts.REGISTRY,
    contracts.VAULT,
    contracts.BOOK,
    contracts.EVIDENCE,
    contracts.ARBITER,
    contracts.DEMAND_BOND_E4,
    contracts.QUARREL_BOND_E4,
)
_ASKED: Final = {
    "CollateralVault": (contracts.TOKEN, contracts.REGISTRY, contracts.DELAY, contracts.UNITS_PER_E4),
    "SettlementBook": (contracts.REGISTRY, contracts.VAULT, contracts.CURRENCY, contracts.WINDOW_S, contracts.BOND_E4),
    "ConfidentialBook": (contracts.REGISTRY, contracts.VAULT, contracts.CURRENCY),
    "SettlementDisputes": _OF_RESOLVERS,
    "ConfidentialDisputes": _OF_RESOLVERS,
    "RootAnchor": (contracts.REGISTRY,),
}
"""What contracts say of themselves; the rest that they were given is in their code alone."""
_MOVES_MONEY: Final = ("DEFAULT_ADMIN_ROLE", "BOOK_ROLE", "RESOLVER_ROLE", "MINTER_ROLE", "ARBITER_ROLE")
"""Roles that nobody may hold but who stands in the file."""


class DeploymentWrong(RuleBroken):
    """No money should lie in these contracts."""


@dataclass(frozen=True, slots=True)
class Inspection:
    """What was found. `wrong`: no money should lie there; `also`: roles beyond the file, for people to judge."""

    wrong: list[str] = field(default_factory=list)
    also: list[str] = field(default_factory=list)


async def inspect(chain: ChainReader, manifest: Manifest) -> Inspection:
    """Return what differs. Raises `ManifestRefused`: it is not complete; `ChainUnavailable`."""
    deployment, found = manifest.deployment, Inspection()
    if (chain_id := await chain.chain_id()) != manifest.chain_id:
        found.wrong.append(f"the endpoint serves chain {chain_id}, the deployment is on chain {manifest.chain_id}")
        return found
    if (genesis := await chain.genesis_hash()) != deployment.genesis_hash:
        found.wrong.append(
            f"the chain's genesis is {hex_of(genesis)}, not {manifest.genesis_hash}: it is another chain"
        )
        return found
    found.wrong.extend(await other_code(chain, manifest))
    if found.wrong:
        return found  # what other code says of itself says nothing
    if await code_hash_of(chain, deployment) != deployment.code_hash:
        found.wrong.append("the code of all contracts together is not what the file says: a token was replaced")
    for each in placed(manifest):
        found.wrong.extend(await _names(chain, manifest, each))
    await _roles(chain, manifest, found)
    return found


# Code


async def other_code(chain: ChainReader, manifest: Manifest) -> list[str]:
    """Return where a contract is not where its deployer put it, or not our build. Raises `ChainUnavailable`."""
    if not is_as_planned(manifest):
        return ["an address in the file is not where its deployer's transactions put the contract"]
    return [line for each in placed(manifest) for line in await _code(chain, manifest, each)]


async def _code(chain: ChainReader, manifest: Manifest, at: Placed) -> list[str]:
    code = await chain.code(at.address)
    where = f"{at.title} at {hex_of(at.address)}"
    if not code:
        return [f"there is no {where}"]
    given = immutables(code, built_code(at.contract))
    if given is None:
        return [f"{where} has other code than our build"]
    expected = await _expected(chain, manifest, at)
    return [
        f"{where} was made with 0x{each.hex()}, which it should not be given"
        for each in dict.fromkeys(given)
        if each not in expected
    ]


def built_code(contract: str) -> bytes:
    """Return a contract's code as the compiler wrote it, before it was given its immutables."""
    creation = bytes.fromhex(settlement_contracts.bytecode(contract)[2:])
    return creation[creation.index(BEGINNING, 1) : len(creation) - _CONSTRUCTOR_DATA_BYTES.get(contract, 0)]


def immutables(code: bytes, built: bytes) -> list[bytes] | None:
    """Return the words that a contract was given when it was made, a zero too; None: it is another contract.

    Args:
        code: As the chain holds it.
        built: As the compiler wrote it.
    """
    given, rest, at = [], bytearray(code), built.find(_PLACE)
    while at >= 0:
        word = slice(at + 1, at + len(_PLACE))
        given.append(code[word])
        rest[word] = NOT_GIVEN
        at = built.find(_PLACE, word.stop)
    return given if rest == built else None


async def _expected(chain: ChainReader, manifest: Manifest, at: Placed) -> set[bytes]:
    """Return the words that a contract of ours may have been given."""
    if at.contract == "MeterEvidence":
        return await _whether_precompile(chain)
    found = {at.arguments[place : place + WORD] for place in range(0, len(at.arguments), WORD)}
    found.add(bytes_of(manifest.registry).rjust(WORD, b"\0"))
    into = _currency_of(manifest, at)
    if into is not None:
        found.add(bytes_of(into.vault).rjust(WORD, b"\0"))
        units = await _units_per_e4(chain, into) if at.contract == "CollateralVault" else None
        found |= set() if units is None else {units.to_bytes(WORD, "big")}
    domain = _DOMAINS.get(at.contract, at.contract)
    name, version = domain.encode(), DOMAIN_VERSION.encode()
    return found | {
        at.address.rjust(WORD, b"\0"),
        manifest.chain_id.to_bytes(WORD, "big"),
        domain_separator_of(domain, chain_id=manifest.chain_id, address=at.address),
        keccak256(name),
        keccak256(version),
        # OpenZeppelin's ShortString: the text, and its length in the last byte.
        *(text.ljust(WORD - 1, b"\0") + bytes([len(text)]) for text in (name, version)),
    }


async def _whether_precompile(chain: ChainReader) -> set[bytes]:
    """Return whether meters' signatures may be asked of the precompile: only where it knows one that holds."""
    known = bytes.fromhex(settlement_contracts.bytecode("MeterEvidence")[2:])[-_P256_BYTES:]
    try:
        answer = await chain.call(P256, known)
    except CallReverted:
        answer = b""
    holds = (1).to_bytes(WORD, "big")
    return {NOT_GIVEN, holds} if answer == holds else {NOT_GIVEN}


async def _units_per_e4(chain: ChainReader, into: CurrencyAt) -> int | None:
    """Return a ten-thousandth in units of the token; None: no vault takes this token."""
    decimals = await _say(chain, bytes_of(into.token), contracts.DECIMALS)
    if not isinstance(decimals, int) or not TOKEN_DECIMALS_MIN <= decimals <= TOKEN_DECIMALS_MAX:
        return None
    return int(10 ** (decimals - TOKEN_DECIMALS_MIN))


def _currency_of(manifest: Manifest, at: Placed) -> CurrencyAt | None:
    return next((each for each in manifest.currencies if each.currency == at.currency), None)


# What contracts name


async def _names(chain: ChainReader, manifest: Manifest, at: Placed) -> list[str]:
    into = _currency_of(manifest, at)
    words = [at.arguments[place : place + WORD] for place in range(0, len(at.arguments), WORD)]
    should: dict[Function, object] = {contracts.REGISTRY: bytes_of(manifest.registry)}
    if into is not None:
        should |= {
            contracts.TOKEN: bytes_of(into.token),
            contracts.VAULT: bytes_of(into.vault),
            contracts.CURRENCY: into.currency.encode(),
        }
        match at.contract:
            case "CollateralVault":
                units = await _units_per_e4(chain, into)
                should |= {contracts.DELAY: int.from_bytes(words[2]), contracts.UNITS_PER_E4: units}
            case "SettlementBook":
                should |= {contracts.WINDOW_S: int.from_bytes(words[1]), contracts.BOND_E4: int.from_bytes(words[2])}
            case "SettlementDisputes" | "ConfidentialDisputes":
                named = zip((contracts.BOOK, contracts.EVIDENCE, contracts.ARBITER), words, strict=False)
                should |= {asked: word[-ADDRESS_BYTES:] for asked, word in named}
                bonds = zip((contracts.DEMAND_BOND_E4, contracts.QUARREL_BOND_E4), words[3:], strict=True)
                should |= {asked: int.from_bytes(word) for asked, word in bonds}
    wrong = []
    for asked in _ASKED.get(at.contract, ()):
        said = await _say(chain, at.address, asked)
        if said != should[asked]:
            name = asked.signature.partition("(")[0]
            wrong.append(
                f"{at.title} at {hex_of(at.address)} says of its {name}: {_told(said)}, not {_told(should[asked])}"
            )
    return wrong


async def _say(chain: ChainReader, contract: bytes, asked: Function) -> object:
    try:
        (said,) = asked.answer(await chain.call(contract, asked.call()))
    except (CallReverted, MalformedCall):
        return None
    return said


def _told(value: object) -> str:
    return hex_of(value) if isinstance(value, bytes) else str(value)


# Roles


async def _roles(chain: ChainReader, manifest: Manifest, found: Inspection) -> None:
    should = granted(manifest)
    for each in should:
        if not await _holds(chain, each.where.address, each.role, each.holder):
            found.wrong.append(f"{hex_of(each.holder)} lacks {each.name} of {each.where.title}")
    for where in administered(manifest):
        known = {(each.role, each.holder): each.name for each in should if each.where.address == where.address}
        logs = await _events(chain, manifest, where, contracts.ROLE_GRANTED)
        if not logs or not await _is_making(chain, manifest, where, logs[0]):
            found.wrong.append(
                f"{where.title} was not made of our build by {manifest.deployer} after block {manifest.first_block}: "
                "roles that were granted before, or without a word, are not seen"
            )
        later = {_grant(log) for log in logs if log.transaction_hash != logs[0].transaction_hash}
        for role, account in dict.fromkeys(map(_grant, logs)):
            if (role, account) in known:
                continue
            name = _role_name(role, should)
            if await _holds(chain, where.address, role, account):
                line = f"{hex_of(account)} holds {name} of {where.title} beyond the file"
                (found.wrong if name in _MOVES_MONEY else found.also).append(line)
            elif (role, account) in later:
                found.also.append(f"{hex_of(account)} held {name} of {where.title} for a while, beyond the file")
        if where.contract == "EmbeddedCurrency" and manifest.admin != manifest.deployer:
            found.wrong.extend(await _minted(chain, manifest, where))


async def _minted(chain: ChainReader, manifest: Manifest, token: Placed) -> list[str]:
    """Tell of tokens that the deployer made before it left that to the administrator."""
    deployer = bytes_of(manifest.deployer)
    its_role = (contracts.MINTER_ROLE, deployer.rjust(WORD, b"\0"))
    left = await _events(chain, manifest, token, contracts.ROLE_REVOKED, *its_role)
    last = left[-1].block_number if left else None
    wrong = []
    for log in await _events(chain, manifest, token, contracts.TRANSFER, NOT_GIVEN, last=last):  # from nobody: made
        sent = await chain.transaction(log.transaction_hash)
        if sent is None or sent.sender == deployer:
            wrong.append(
                f"{manifest.deployer} made {int.from_bytes(log.data)} units of {token.title} for itself or others"
            )
    return wrong


async def _events(
    chain: ChainReader, manifest: Manifest, where: Placed, event: Function, *topics: bytes, last: int | None = None
) -> Sequence[Log]:
    """Return what a contract told since the deployment began, until `last` or now."""
    last = (await chain.head()).number if last is None else last
    return await logs_between(chain, where.address, [event.topic, *topics], first=manifest.first_block, last=last)


def _grant(log: Log) -> tuple[bytes, bytes]:
    return log.topics[1], log.topics[2][-ADDRESS_BYTES:]


async def _is_making(chain: ChainReader, manifest: Manifest, where: Placed, first: Log) -> bool:
    """Tell whether a contract told this when it was made of our build.

    Its constructor grants the first role, so nothing is older; another one could have stored roles without a word.
    """
    sent = await chain.transaction(first.transaction_hash)
    return (
        sent is not None
        and sent.to is None
        and created_address(sent.sender, sent.nonce) == where.address
        and sent.sender == bytes_of(manifest.deployer)
        and sent.calldata == where.creation
    )


async def _holds(chain: ChainReader, contract: bytes, role: bytes, account: bytes) -> bool:
    answer = await chain.call(contract, contracts.HAS_ROLE.call(role, account))
    return bool(contracts.HAS_ROLE.answer(answer)[0])


def _role_name(role: bytes, should: Sequence[Granted]) -> str:
    known = {each.role: each.name for each in should} | {contracts.MINTER_ROLE: "MINTER_ROLE"}
    return known.get(role, f"role 0x{role.hex()}")
