// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IDisputable} from "../../src/interfaces/IDisputable.sol";
import {ISettlementBook} from "../../src/interfaces/ISettlementBook.sol";
import {AgreementKey} from "../../src/types/AgreementKey.sol";
import {PairSet} from "../../src/types/PairSet.sol";
import {PairStatement} from "../../src/types/PairStatement.sol";
import {Place} from "../../src/types/Place.sol";
import {ReferenceTrees} from "../base/ReferenceTrees.sol";
import {Settlement} from "../base/Settlement.sol";

/// @notice What one side signed and the other lets pass, contests or signs late: `challenge` and `decideChallenge`.
contract WindowTest is Settlement {
    PairStatement[] private _statements;

    function setUp() public override {
        super.setUp();
        _registerParties(3);
        book.grantRole(book.RESOLVER_ROLE(), address(this));
        _deposit(2, 1_000);
        _deposit(3, 1_000);
        PairStatement[] memory statements =
            _batchOf(_statement(_openPrefunded(1, 2), 100, 0, 1), _statement(_openPrefunded(1, 3), 100, 0, 1));
        _statements.push(statements[0]);
        _statements.push(statements[1]);
        book.propose("batch", statements, _only(_acceptance("batch", statements, 1, 3)));
    }

    function test_SilenceCountsAsAcceptedWhenTheWindowEnds() public {
        _requireStage(0, IDisputable.Stage.PROPOSED, NOW + WINDOW);
        vm.warp(NOW + WINDOW - 1);
        book.fund("batch", _statements);
        assertEq(_finalPairs("batch", 2), 0, "a second too early");

        vm.warp(NOW + WINDOW);
        book.fund("batch", _statements);

        assertEq(_finalPairs("batch", 2), 3, "both pairs are final");
        assertEq(vault.balanceOf(1), 200, "and paid");
        _requireStage(0, IDisputable.Stage.FINAL, 0);
    }

    function test_WhoSignsInTheWindowNeedNotWait() public {
        book.accept("batch", _statements, _only(_acceptance("batch", _statements, 2, 1)));

        assertEq(_finalPairs("batch", 2), 1, "its pair is final");
        assertEq(PairSet.unwrap(book.batch("batch").ripening), 2, "the other still waits");
    }

    function test_SilenceOfBothSidesIsNoAcceptance() public {
        PairStatement[] memory statements = _batchOf(_statement(_openCreditLine(1, 2, 500), 100, 0, 1));
        book.propose("silent", statements, _nobody());
        book.accept("silent", statements, _only(_acceptance("silent", statements, 1, 1)));
        vm.warp(NOW + 10 * WINDOW);

        book.fund("silent", statements);

        assertEq(_finalPairs("silent", 1), 0, "only what was signed as it was proposed ripens");
    }

    function test_ARipePairWithoutCoverWaitsAloneAndIsFinalOnceThereIsSome() public {
        vm.prank(_signer(2));
        vault.requestWithdrawal(2, 1_000);
        vm.warp(NOW + DELAY);
        vm.prank(_signer(2));
        vault.withdraw(2);

        book.fund("batch", _statements);
        assertEq(_finalPairs("batch", 2), 2, "the other pair is final");
        _deposit(2, 100);
        book.fund("batch", _statements);

        assertEq(_finalPairs("batch", 2), 3, "and then this one");
    }

    function test_AChallengeTakesItsPairOutAlone() public {
        vm.expectEmit(address(book));
        emit ISettlementBook.PairChallenged("batch", 2, 0);
        _challenge(0, 2);
        assertEq(vault.reservedBy(address(book), 2), BOND, "the bond is reserved");
        _requireStage(0, IDisputable.Stage.PROPOSED, 0);
        vm.warp(NOW + WINDOW);
        book.fund("batch", _statements);

        assertEq(_finalPairs("batch", 2), 2, "the other pair became final on time");
    }

    function test_AnUpheldChallengeVoidsThePairAndFreesTheBond() public {
        _challenge(0, 2);

        vm.expectEmit(address(book));
        emit ISettlementBook.ChallengeEnded("batch", 0, true);
        book.decideChallenge(_statements[0], _place(0), true);

        assertEq(vault.freeOf(2), 1_000, "free again");
        _requireStage(0, IDisputable.Stage.NONE, 0);
        book.accept("batch", _statements, _acceptances("batch", _statements, 1, 2, 3));
        assertEq(_finalPairs("batch", 2), 0, "void for good");
        PairStatement[] memory anew = _batchOf(_statement(_statements[0].figures.agreement(), 90, 0, 1));
        book.propose("anew", anew, _acceptances("anew", anew, 1, 2, 1));
        assertEq(_finalPairs("anew", 1), 1, "its sequence is stated anew");
    }

    function test_ARejectedChallengeCountsAsAcceptanceAndCostsTheBond() public {
        _challenge(0, 2);

        book.decideChallenge(_statements[0], _place(0), false);
        book.fund("batch", _statements);

        assertEq(_finalPairs("batch", 2), 1, "final at once");
        assertEq(vault.balanceOf(1), 100 + BOND, "paid, and the bond with it");
        assertEq(vault.reservedBy(address(book), 2), 0, "nothing stays reserved");
    }

    function test_TheCPOMayBeTheSilentSide() public {
        PairStatement[] memory statements = _batchOf(_statement(_openCreditLine(1, 2, 500), 0, 100, 1));
        _deposit(1, BOND);
        book.propose("credit", statements, _only(_acceptance("credit", statements, 2, 1)));
        Place memory place = Place("credit", 0, 1, new bytes32[](0));
        vm.prank(_signer(1));
        book.challenge(statements[0], place);

        book.decideChallenge(statements[0], place, false);
        book.fund("credit", statements);

        assertEq(_finalPairs("credit", 1), 1, "it counts as accepted");
        assertEq(vault.balanceOf(2), 1_000 + BOND, "the bond goes to the MSP");
    }

    function test_WhoAcceptsAfterAllTakesItsChallengeBack() public {
        _challenge(0, 2);

        vm.expectEmit(address(book));
        emit ISettlementBook.ChallengeEnded("batch", 0, false);
        book.accept("batch", _statements, _only(_acceptance("batch", _statements, 2, 1)));

        assertEq(_finalPairs("batch", 2), 1, "final");
        assertEq(vault.reservedBy(address(book), 2), 0, "the bond is free");
        assertEq(vault.balanceOf(2), 900, "and not lost");
    }

    function test_AChallengeThatAnotherStatementOvertookIsOver() public {
        _challenge(0, 2);
        PairStatement[] memory other = _batchOf(_statement(_statements[0].figures.agreement(), 90, 0, 1));
        book.propose("other", other, _acceptances("other", other, 1, 2, 1));

        book.fund("batch", _statements);

        _requireStage(0, IDisputable.Stage.NONE, 0);
        assertEq(vault.reservedBy(address(book), 2), 0, "the bond is free");
    }

    function test_WhoAcceptedCannotChallenge() public {
        PairStatement[] memory statements = _batchOf(_statement(_openCreditLine(1, 2, 50), 100, 0, 1));
        book.propose("beyond", statements, _only(_acceptance("beyond", statements, 1, 1)));
        book.accept("beyond", statements, _only(_acceptance("beyond", statements, 2, 1)));

        vm.expectRevert(
            abi.encodeWithSelector(ISettlementBook.SettlementBookNotRipening.selector, bytes32("beyond"), 0)
        );
        vm.prank(_signer(2));
        book.challenge(statements[0], Place("beyond", 0, 1, new bytes32[](0)));
    }

    function _challenge(uint256 index, uint32 party) private {
        Place memory place = _place(index);
        vm.prank(_signer(party));
        book.challenge(_statements[index], place);
    }

    function _place(uint256 index) private view returns (Place memory) {
        return Place("batch", index, 2, ReferenceTrees.proof(_statementHashes(_statements), index));
    }

    function _requireStage(uint256 index, IDisputable.Stage expected, uint64 expectedDeadline) private view {
        (IDisputable.Stage stage, uint64 deadline) = book.statementStage(_statements[index], _place(index));
        assertEq(uint8(stage), uint8(expected), "stage");
        assertEq(deadline, expectedDeadline, "deadline");
    }
}

/// @notice One silent, one unfunded and one hostile MSP among twenty: the other pairs become final on time.
contract TwentyPartnersTest is Settlement {
    uint32 private constant MSPS = 20;
    uint32 private constant SILENT = 5;
    uint32 private constant UNFUNDED = 9;
    uint32 private constant HOSTILE = 14;

    function test_NobodyWaitsForThem() public {
        _registerParties(MSPS + 1);
        PairStatement[] memory statements = new PairStatement[](MSPS);
        for (uint32 msp = 2; msp <= MSPS + 1; ++msp) {
            if (msp != UNFUNDED) _deposit(msp, 1_000);
            statements[msp - 2] = _statement(_openPrefunded(1, msp), 100, 0, 1);
        }
        ISettlementBook.Acceptance[] memory words = new ISettlementBook.Acceptance[](MSPS - 1);
        uint256 count = 0;
        for (uint32 party = 1; party <= MSPS + 1; ++party) {
            if (party == SILENT || party == HOSTILE) continue;
            words[count++] = _acceptance("batch", statements, party, (1 << MSPS) - 1);
        }
        uint256 odd = (1 << (SILENT - 2)) | (1 << (UNFUNDED - 2)) | (1 << (HOSTILE - 2));

        book.propose("batch", statements, words);

        assertEq(_finalPairs("batch", MSPS), ((1 << MSPS) - 1) ^ odd, "all others are final at once");
        assertEq(vault.balanceOf(1), 100 * (MSPS - 3), "and paid");
        Place memory place =
            Place("batch", HOSTILE - 2, MSPS, ReferenceTrees.proof(_statementHashes(statements), HOSTILE - 2));
        vm.prank(_signer(HOSTILE));
        book.challenge(statements[HOSTILE - 2], place);
        vm.warp(NOW + WINDOW);
        book.fund("batch", statements);

        uint256 waiting = (1 << (UNFUNDED - 2)) | (1 << (HOSTILE - 2));
        assertEq(_finalPairs("batch", MSPS), ((1 << MSPS) - 1) ^ waiting, "the silent one's is final after the window");
    }
}
