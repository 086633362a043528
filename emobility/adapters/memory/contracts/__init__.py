"""The settlement contracts in Python, for a chain in memory (`Execute`): what settlement calls, rule for rule.

They are made by the same creation code, take the same calls and signatures, and refuse with the same errors; a test
sends the same random traffic to these and to the bytecode, another compares what resolvers refuse. Left out are
withdrawals, passports, and disputes over meters' records, before an arbiter or in confidential books.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import settlement_contracts
from emobility.adapters.memory.contracts.anchor import AnchorModel
from emobility.adapters.memory.contracts.book import BookModel
from emobility.adapters.memory.contracts.confidential import ConfidentialBookModel
from emobility.adapters.memory.contracts.contract import Contract, Frame
from emobility.adapters.memory.contracts.disputes import ArbiterModel, DisputesModel, OnlyMade
from emobility.adapters.memory.contracts.money import CurrencyModel, VaultModel
from emobility.adapters.memory.contracts.registry import RegistryModel
from emobility.adapters.memory.machine import Call, Execute, Outcome, State
from emobility.domain.batch.abi import SELECTOR_BYTES, MalformedCall, decode, encode
from emobility.domain.batch.hashing import keccak256
from emobility.ports.chain import CallReverted


def settlement_contracts_in_python() -> Execute:
    """Return what carries out calls of the settlement contracts."""
    creations = {bytes.fromhex(settlement_contracts.bytecode(name)[2:]): kind for name, kind in _KINDS.items()}
    return partial(_execute, creations)


def _execute(creations: dict[bytes, type[Contract]], call: Call, state: State) -> Outcome:
    at = Frame(call=call, state=state)
    if call.is_creation:
        for code, kind in creations.items():
            if call.calldata.startswith(code):
                contract = kind(at, address=call.to, sender=call.sender)
                contract.make(*_decoded(partial(decode, kind.takes), call.calldata[len(code) :]))
                state["kind", call.to] = kind
                return Outcome(returned=keccak256(call.calldata), logs=tuple(at.logs))
        raise CallReverted(b"")
    contract = state["kind", call.to](at, address=call.to, sender=call.sender)
    for function, method in contract.functions.items():
        if call.calldata[:SELECTOR_BYTES] == function.selector:
            result = getattr(contract, method)(*_decoded(function.arguments, call.calldata))
            returned = b"" if function.returns == "()" else encode(function.returns, (result,))
            return Outcome(returned=returned, logs=tuple(at.logs))
    raise CallReverted(b"")


def _decoded(read: Callable[[bytes], tuple[Any, ...]], encoded: bytes) -> tuple[Any, ...]:
    try:
        return read(encoded)
    except MalformedCall:
        raise CallReverted(b"") from None


class PassportModel(Contract):
    """Only made."""


_KINDS: Final[dict[str, type[Contract]]] = {
    "PartyRegistry": RegistryModel,
    "EmbeddedCurrency": CurrencyModel,
    "CollateralVault": VaultModel,
    "SettlementBook": BookModel,
    "ConfidentialBook": ConfidentialBookModel,
    "RootAnchor": AnchorModel,
    "BatteryPassport": PassportModel,
    "SettlementDisputes": DisputesModel,
    "MeterEvidence": OnlyMade,
    "RoleArbiter": ArbiterModel,
}
