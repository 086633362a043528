// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AgreementKey} from "../../src/types/AgreementKey.sol";
import {ISettlementBook} from "../../src/interfaces/ISettlementBook.sol";
import {PairStatement} from "../../src/types/PairStatement.sol";
import {Settlement} from "../base/Settlement.sol";

contract DischargeTest is Settlement {
    AgreementKey private _agreement;

    function setUp() public override {
        super.setUp();
        _registerParties(2);
        _agreement = _openCreditLine(1, 2, 1_000);
    }

    function test_APaymentThatBothConfirmLowersWhatIsOwed() public {
        _owe(800, 0);

        vm.expectEmit(address(book));
        emit ISettlementBook.ObligationDischarged(_agreement, 0, 300, 500);
        _discharge(0, 300);

        assertTrue(book.agreementState(_agreement).owedE4 == 500, "owed");
        assertEq(book.agreementState(_agreement).discharges, 1, "counted");
        assertEq(book.agreementState(_agreement).lastSequence, 1, "statements stand as they were");
    }

    function test_ItMakesRoomUnderTheLimit() public {
        _owe(1_000, 0);
        _discharge(0, 1_000);
        PairStatement[] memory statements = _batchOf(_statement(_agreement, 1_000, 0, 2));

        book.propose("second", statements, _acceptances("second", statements, 1, 2, 1));

        assertEq(_finalPairs("second", 1), 1, "final");
    }

    function test_TheCPOPaysBackWhatItOwes() public {
        _owe(0, 800);

        _discharge(0, -800);

        assertTrue(book.agreementState(_agreement).owedE4 == 0, "even");
    }

    function testFuzz_OnlyWhatIsOwedCanBeDischarged(uint64 dueE4, uint64 creditE4, int64 amountE4) public {
        dueE4 = uint64(bound(dueE4, 0, 1_000));
        creditE4 = uint64(bound(creditE4, 0, 1_000));
        _owe(dueE4, creditE4);
        int64 owedE4 = int64(dueE4) - int64(creditE4);
        bool allowed = amountE4 > 0 ? amountE4 <= owedE4 : amountE4 < 0 && amountE4 >= owedE4;
        if (!allowed) {
            vm.expectRevert(
                abi.encodeWithSelector(
                    ISettlementBook.SettlementBookDischargeExceedsOwed.selector, _agreement, amountE4, owedE4
                )
            );
        }

        _discharge(0, amountE4);

        assertTrue(book.agreementState(_agreement).owedE4 == (allowed ? owedE4 - amountE4 : owedE4), "owed");
    }

    function _owe(uint64 dueE4, uint64 creditE4) private {
        PairStatement[] memory statements = _batchOf(_statement(_agreement, dueE4, creditE4, 1));
        book.propose("batch", statements, _acceptances("batch", statements, 1, 2, 1));
    }

    function _discharge(uint24 number, int64 amountE4) private {
        bytes32 digest = _dischargeDigest(_agreement, number, amountE4);
        book.discharge(_agreement, amountE4, _sign(_key(1), digest), _sign(_key(2), digest));
    }
}
