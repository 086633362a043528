from pathlib import Path

import pytest

import settlement_contracts

SOURCES = sorted(path.stem for path in (Path(settlement_contracts.__file__).parent / "src").glob("*.sol"))


@pytest.mark.parametrize("contract", SOURCES)
def test_every_contract_has_its_abi_and_its_bytecode(contract: str) -> None:
    kinds = {entry["type"] for entry in settlement_contracts.abi(contract)}

    assert "function" in kinds
    assert len(bytes.fromhex(settlement_contracts.bytecode(contract).removeprefix("0x"))) > 1_000


def test_the_book_says_what_it_refuses() -> None:
    errors = {entry["name"] for entry in settlement_contracts.abi("SettlementBook") if entry["type"] == "error"}

    assert {"SettlementBookWrongSigner", "SettlementBookBatchExists", "SettlementBookStaleSequence"} <= errors
