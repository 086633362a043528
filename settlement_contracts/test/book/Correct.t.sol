// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDisputable} from "../../src/interfaces/IDisputable.sol";
import {ISettlementBook} from "../../src/interfaces/ISettlementBook.sol";
import {AgreementKey} from "../../src/types/AgreementKey.sol";
import {PairStatement} from "../../src/types/PairStatement.sol";
import {Settlement} from "../base/Settlement.sol";

/// @notice `correct` and `fundCorrection`.
contract CorrectTest is Settlement {
    AgreementKey private _prefunded;
    AgreementKey private _creditLine;
    AgreementKey private _guarantee;

    function setUp() public override {
        super.setUp();
        _registerParties(2);
        book.grantRole(book.RESOLVER_ROLE(), address(this));
        _deposit(1, 1_000);
        _deposit(2, 1_000);
        _prefunded = _openPrefunded(1, 2);
        _creditLine = _openCreditLine(1, 2, 500);
        _guarantee = _openGuarantee(1, 2, 400);
    }

    function test_ACorrectionIsMetWithTheNextStatement() public {
        vm.expectEmit(address(book));
        emit IDisputable.AgreementCorrected(_prefunded, -30);
        book.correct(_prefunded, -30);
        assertTrue(book.agreementState(_prefunded).correctedE4 == -30, "it waits");
        assertEq(vault.balanceOf(1), 1_000, "nothing moved");

        _settle(_prefunded, 100);

        assertEq(vault.balanceOf(1), 1_070, "a hundred less thirty");
        assertTrue(book.agreementState(_prefunded).correctedE4 == 0, "it is met");
        _settleNext(_prefunded, 100);
        assertEq(vault.balanceOf(1), 1_170, "once");
    }

    function test_OrAlone() public {
        book.correct(_prefunded, 30);
        book.correct(_prefunded, 12);

        vm.expectEmit(address(book));
        emit ISettlementBook.CorrectionMet(_prefunded, 42);
        book.fundCorrection(_prefunded);

        assertEq(vault.balanceOf(1), 1_042, "the MSP paid");
        _settle(_prefunded, 100);
        assertEq(vault.balanceOf(1), 1_142, "the next statement is as it says");
    }

    function test_CorrectionsCanTakeEachOtherBack() public {
        book.correct(_prefunded, 30);
        book.correct(_prefunded, -30);

        vm.expectRevert(abi.encodeWithSelector(ISettlementBook.SettlementBookNotCorrected.selector, _prefunded));
        book.fundCorrection(_prefunded);
    }

    function test_OnACreditLineTheyAreOwed() public {
        book.correct(_creditLine, 200);
        book.fundCorrection(_creditLine);
        book.correct(_creditLine, 50);
        _settle(_creditLine, 100);

        assertTrue(book.agreementState(_creditLine).owedE4 == 350, "all of it");
    }

    function test_UnderAGuaranteeTheyAreDueWithTheStatementBefore() public {
        _settle(_guarantee, 100);
        vm.warp(NOW + 20 days);
        book.correct(_guarantee, 40);
        book.fundCorrection(_guarantee);
        vm.warp(NOW + 30 days);

        vm.prank(_signer(1));
        book.callGuarantee(_guarantee, 1, 140);

        assertEq(vault.freeOf(1), 1_140, "both");
    }

    function test_WithoutCoverACorrectionWaits() public {
        bytes4 notCovered = ISettlementBook.SettlementBookNotCovered.selector;
        book.correct(_prefunded, 601);
        book.correct(_creditLine, 501);

        vm.expectRevert(abi.encodeWithSelector(notCovered, _prefunded));
        book.fundCorrection(_prefunded);
        vm.expectRevert(abi.encodeWithSelector(notCovered, _creditLine));
        book.fundCorrection(_creditLine);
    }

    function test_WithoutCoverTheStatementWaitsWithIt() public {
        book.correct(_creditLine, 450);

        _settle(_creditLine, 100);

        assertEq(book.agreementState(_creditLine).lastSequence, 0, "together they are beyond the limit");
        assertTrue(book.agreementState(_creditLine).correctedE4 == 450, "it still waits");
    }

    function test_AnAgreementThatEndedIsCorrectedToo() public {
        bytes32 digest = _endingDigest(_prefunded);
        book.endAgreement(_prefunded, _sign(_key(1), digest), _sign(_key(2), digest));

        book.correct(_prefunded, -30);
        book.fundCorrection(_prefunded);

        assertEq(vault.balanceOf(1), 970, "the CPO paid it back");
    }

    function _settle(AgreementKey agreement, uint64 dueE4) private {
        _propose(agreement, dueE4, 1);
    }

    function _settleNext(AgreementKey agreement, uint64 dueE4) private {
        _propose(agreement, dueE4, 2);
    }

    function _propose(AgreementKey agreement, uint64 dueE4, uint24 sequence) private {
        bytes32 batchId = keccak256(abi.encode(agreement, sequence));
        PairStatement[] memory statements = _batchOf(_statement(agreement, dueE4, 0, sequence));
        book.propose(batchId, statements, _acceptances(batchId, statements, 1, 2, 1));
    }
}
