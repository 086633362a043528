// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

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
            _agreementId(terms), 1, 2, terms.document, ISettlementBook.Mode.CREDIT_LINE, 500_0000
        );
        bytes32 agreement = _open(terms);

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
        bool isCreditLine,
        uint64 limitE4,
        uint64 deadline
    ) public view {
        ISettlementBook.Mode mode = isCreditLine ? ISettlementBook.Mode.CREDIT_LINE : ISettlementBook.Mode.PREFUNDED;
        ISettlementBook.Agreement memory terms =
            ISettlementBook.Agreement(document, cpo, msp, currency, mode, limitE4, deadline);

        assertEq(book.agreementId(terms), _agreementId(terms), "id");
    }

    function test_TwoPartiesMayHaveSeveralAgreements() public {
        bytes32 one = _openPrefunded(1, 2);
        bytes32 other = _openCreditLine(1, 2, 1);
        bytes32 roles = _openPrefunded(2, 1);

        assertTrue(one != other && other != roles && roles != one, "ids differ");
    }
}
