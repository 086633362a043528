// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AgreementKey} from "../../src/types/AgreementKey.sol";
import {ISettlementBook} from "../../src/interfaces/ISettlementBook.sol";
import {Settlement} from "../base/Settlement.sol";

contract OpenAgreementTest is Settlement {
    function setUp() public override {
        super.setUp();
        _registerParties(2);
    }

    function test_AnAgreementSignedByBothIsOpen() public {
        ISettlementBook.Agreement memory terms = _terms(1, 2, ISettlementBook.Mode.CREDIT_LINE, 500_0000);

        vm.expectEmit(address(book));
        emit ISettlementBook.AgreementOpened(
            _keyOf(terms), _agreementId(terms), terms.document, ISettlementBook.Mode.CREDIT_LINE, 500_0000, 0
        );
        AgreementKey agreement = _open(terms);

        ISettlementBook.AgreementState memory state = book.agreementState(agreement);
        assertEq(state.cpo, 1, "cpo");
        assertEq(state.msp, 2, "msp");
        assertEq(uint8(state.mode), uint8(ISettlementBook.Mode.CREDIT_LINE), "mode");
        assertEq(state.creditLimitE4, 500_0000, "limit");
        assertEq(state.lastSequence, 0, "no statement is final");
        assertEq(state.discharges, 0, "nothing was discharged");
        assertEq(uint64(state.owedE4), 0, "nothing is owed");
    }

    function testFuzz_TheIdIsTheEIP712HashOfTheTerms(
        bytes32 document,
        uint32 cpo,
        uint32 msp,
        bytes3 currency,
        uint256 dice,
        uint64 limitE4,
        uint64 deadline
    ) public view {
        ISettlementBook.Agreement memory terms = ISettlementBook.Agreement({
            document: document,
            cpo: cpo,
            msp: msp,
            currency: currency,
            kind: ISettlementBook.Kind(dice % 3),
            number: uint16(dice >> 8),
            mode: ISettlementBook.Mode((dice >> 24) % 3),
            creditLimitE4: limitE4,
            paymentTermS: uint32(dice >> 32),
            deadline: deadline
        });

        assertEq(book.agreementId(terms), _agreementId(terms), "id");
    }

    function test_TwoPartiesMayHaveSeveralAgreements() public {
        AgreementKey one = _openPrefunded(1, 2);
        AgreementKey other = _openCreditLine(1, 2, 1);
        AgreementKey roles = _openPrefunded(2, 1);

        assertTrue(_isBefore(one, other) && _isBefore(other, roles), "keys differ, and the CPO is the first in them");
    }
}
