// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ISettlementBook} from "../../src/interfaces/ISettlementBook.sol";
import {AgreementKey} from "../../src/types/AgreementKey.sol";
import {PairStatement} from "../../src/types/PairStatement.sol";
import {Settlement} from "../base/Settlement.sol";

/// @notice `callGuarantee`, `giveNotice`, `endAfterNotice` and `endAgreement`.
contract GuaranteeTest is Settlement {
    uint64 private constant TERM = 30 days;
    AgreementKey private _agreement;

    function setUp() public override {
        super.setUp();
        _registerParties(2);
        _deposit(2, 1_500);
        _agreement = _openGuarantee(1, 2, 1_000);
        book.grantRole(book.RESOLVER_ROLE(), address(this));
    }

    function test_TheLimitIsReservedAtTheOpening() public view {
        assertEq(vault.reservedBy(address(book), 2), 1_000, "reserved");
        assertEq(vault.freeOf(2), 500, "free");
    }

    function test_StatementsAreOwedAndNotPaid() public {
        _settle(1, 600, 0);

        assertTrue(_state().owedE4 == 600, "owed");
        assertEq(vault.balanceOf(1), 0, "not paid");
    }

    function test_WhatIsOverdueIsTakenFromTheGuarantee() public {
        _settle(1, 600, 0);
        vm.warp(NOW + TERM);

        vm.expectEmit(address(book));
        emit ISettlementBook.GuaranteeCalled(_agreement, 600, 0);
        _call(1, 600);

        assertEq(vault.freeOf(1), 600, "paid to the CPO");
        assertEq(_state().creditLimitE4, 400, "the guarantee is smaller");
        assertTrue(_state().owedE4 == 0, "nothing is owed");
        assertEq(vault.reservedBy(address(book), 2), 400, "so much stays reserved");
        _settle(2, 400, 0);
        assertTrue(_state().owedE4 == 400, "within what is left");
    }

    function test_PaymentsCountForTheOldestStatement() public {
        _settle(1, 300, 0);
        vm.warp(NOW + 10 days);
        _settle(2, 400, 0);
        _discharge(0, 250);
        vm.warp(NOW + TERM);

        _mayCall(1, 50);
        vm.warp(NOW + TERM + 10 days);
        _mayCall(2, 450);
        _call(2, 450);

        assertEq(vault.freeOf(1), 450, "all that was overdue");
    }

    function test_WhatTheCPOOwesIsTakenOffFirst() public {
        _settle(1, 0, 200);
        _settle(2, 500, 0);
        vm.warp(NOW + TERM);

        _mayCall(2, 300);
    }

    function test_ACreditCountsForTheOldestStatement() public {
        _settle(1, 100, 0);
        _settle(2, 0, 50);
        vm.warp(NOW + TERM);

        _mayCall(1, 50);
        _call(1, 50);

        assertTrue(_state().owedE4 == 0, "no more than was owed");
    }

    function test_BothEndItAtOnceAndWhatIsOwedStaysReserved() public {
        _settle(1, 600, 0);

        _end();

        assertTrue(_state().hasEnded, "ended");
        assertEq(vault.reservedBy(address(book), 2), 600, "what is owed");
        assertEq(vault.freeOf(2), 900, "the rest is free");
        assertTrue(_state().owedE4 == 600, "it is owed as before");
        _discharge(0, 200);
        assertEq(vault.reservedBy(address(book), 2), 400, "each payment frees its part");
        vm.warp(NOW + TERM);
        _call(1, 400);
        assertEq(vault.freeOf(1), 400, "and the rest can be taken");
        assertTrue(_state().owedE4 == 0, "nothing is owed");
        assertEq(vault.reservedBy(address(book), 2), 0, "nor reserved");
    }

    function test_OfWhatTheCPOOwesNothingStaysReserved() public {
        _settle(1, 0, 200);

        _end();

        assertEq(vault.freeOf(2), 1_500, "free");
        assertTrue(_state().owedE4 == -200, "it is owed as before");
        _discharge(0, -200);
        assertTrue(_state().owedE4 == 0, "and paid");
    }

    function test_AVerdictAfterTheEndFreesWhatItTakesOff() public {
        _settle(1, 100, 0);
        _end();

        book.correct(_agreement, -40);
        book.fundCorrection(_agreement);

        assertEq(vault.reservedBy(address(book), 2), 60, "what is still owed");
        _discharge(0, 60);
        assertEq(vault.reservedBy(address(book), 2), 0, "nothing is owed nor reserved");
    }

    function test_WhatAVerdictBeforeTheEndAddsStaysReserved() public {
        _settle(1, 100, 0);
        book.correct(_agreement, 40);
        _end();

        assertEq(vault.reservedBy(address(book), 2), 140, "what will be owed");
        _discharge(0, 100);
        assertEq(vault.reservedBy(address(book), 2), 40, "the payment freed its part");
        book.fundCorrection(_agreement);
        vm.warp(NOW + TERM);
        _call(1, 40);
        assertEq(vault.freeOf(1), 40, "it can be taken");
        assertEq(vault.reservedBy(address(book), 2), 0, "and nothing stays reserved");
    }

    function test_NoMoreIsKeptThanTheLimit() public {
        _settle(1, 900, 0);
        book.correct(_agreement, 200);
        _end();

        assertEq(vault.reservedBy(address(book), 2), 1_000, "all of it");
    }

    function test_WhatWasKeptForAVerdictIsFreeOnceItIsTakenBack() public {
        book.correct(_agreement, 40);
        _end();
        assertEq(vault.reservedBy(address(book), 2), 40, "kept");

        book.correct(_agreement, -40);

        assertEq(vault.reservedBy(address(book), 2), 0, "free");
        assertEq(_state().creditLimitE4, 0, "and no limit");
    }

    function test_AfterTheEndNothingBecomesFinal() public {
        PairStatement[] memory statements = _batchOf(_statement(_agreement, 100, 0, 1));
        book.propose("batch", statements, _nobody());
        _end();

        book.accept("batch", statements, _acceptances("batch", statements, 1, 2, 1));

        assertEq(_finalPairs("batch", 1), 0, "not final");
    }

    function test_OneSideEndsItByNotice() public {
        _settle(1, 600, 0);
        uint40 endsAt = uint40(NOW + 30 days + TERM);
        vm.expectEmit(address(book));
        emit ISettlementBook.NoticeGiven(_agreement, 2, endsAt);
        vm.prank(_signer(2));
        book.giveNotice(_agreement);
        vm.warp(NOW + 1 days);
        vm.prank(_signer(1));
        book.giveNotice(_agreement);
        assertEq(_state().endsAt, endsAt, "a second notice changes nothing");
        vm.warp(endsAt);

        book.endAfterNotice(_agreement);

        assertTrue(_state().hasEnded, "ended");
        assertEq(vault.reservedBy(address(book), 2), 600, "what is owed stays reserved");
    }

    function test_PrefundedAgreementsAndCreditLinesEndToo() public {
        AgreementKey prefunded = _openPrefunded(1, 2);
        AgreementKey creditLine = _openCreditLine(1, 2, 500);
        _endOf(prefunded);
        _endOf(creditLine);

        assertTrue(book.agreementState(prefunded).hasEnded && book.agreementState(creditLine).hasEnded, "ended");
        assertEq(book.agreementState(creditLine).creditLimitE4, 500, "a limit reserves nothing");
    }

    /// @dev Whatever is settled, discharged and taken, what is reserved is what can still be owed.
    function testFuzz_TheGuaranteeIsTheLimit(uint256 dice) public {
        uint24 sequence = 0;
        for (uint256 i = 0; i < 12; ++i) {
            uint256 roll = uint256(keccak256(abi.encode(dice, i)));
            int64 owedE4 = _state().owedE4;
            if (roll % 3 == 0) {
                _settle(sequence + 1, uint64((roll >> 8) % 400), uint64((roll >> 72) % 200));
                sequence = _state().lastSequence;
            } else if (roll % 3 == 1 && owedE4 > 0) {
                _discharge(_state().discharges, int64(uint64(1 + (roll >> 8) % uint64(owedE4))));
            } else if (sequence != 0 && owedE4 > 0) {
                vm.warp(block.timestamp + TERM);
                _call(sequence, uint64(1 + (roll >> 8) % uint64(owedE4)));
            }
            assertEq(vault.reservedBy(address(book), 2), _state().creditLimitE4, "reserved is the limit");
            assertTrue(_state().owedE4 <= int64(_state().creditLimitE4), "owed within it");
            assertEq(vault.balanceOf(1) + vault.balanceOf(2), 1_500, "money is conserved");
        }
    }

    function _state() private view returns (ISettlementBook.AgreementState memory) {
        return book.agreementState(_agreement);
    }

    function _settle(uint24 sequence, uint64 dueE4, uint64 creditE4) private {
        PairStatement[] memory statements = _batchOf(_statement(_agreement, dueE4, creditE4, sequence));
        bytes32 batchId = keccak256(abi.encode(sequence, dueE4, creditE4, block.timestamp));
        if (book.batch(batchId).pairsHash != 0) return;
        book.propose(batchId, statements, _acceptances(batchId, statements, 1, 2, 1));
    }

    function _call(uint24 sequence, uint64 amountE4) private {
        vm.prank(_signer(1));
        book.callGuarantee(_agreement, sequence, amountE4);
    }

    /// @dev So much can be taken, and not a ten-thousandth more.
    function _mayCall(uint24 sequence, uint64 amountE4) private {
        vm.expectRevert(
            abi.encodeWithSelector(
                ISettlementBook.SettlementBookCallExceedsOverdue.selector,
                _agreement,
                amountE4 + 1,
                int256(uint256(amountE4))
            )
        );
        vm.prank(_signer(1));
        book.callGuarantee(_agreement, sequence, amountE4 + 1);
    }

    function _discharge(uint24 number, int64 amountE4) private {
        bytes32 digest = _dischargeDigest(_agreement, number, amountE4);
        book.discharge(_agreement, amountE4, _sign(_key(1), digest), _sign(_key(2), digest));
    }

    function _end() private {
        _endOf(_agreement);
    }

    function _endOf(AgreementKey agreement) private {
        bytes32 digest = _endingDigest(agreement);
        vm.expectEmit(address(book));
        emit ISettlementBook.AgreementEnded(agreement);
        book.endAgreement(agreement, _sign(_key(1), digest), _sign(_key(2), digest));
    }
}
