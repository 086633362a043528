// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AgreementKey} from "../../src/types/AgreementKey.sol";
import {ISettlementBook} from "../../src/interfaces/ISettlementBook.sol";
import {PairSet} from "../../src/types/PairSet.sol";
import {PairStatement} from "../../src/types/PairStatement.sol";
import {Settlement} from "../base/Settlement.sol";

contract ProposeTest is Settlement {
    function setUp() public override {
        super.setUp();
        _registerParties(4);
    }

    function test_AProposalWithoutAcceptancesWaits() public {
        PairStatement[] memory statements = _batchOf(_statement(_openPrefunded(1, 2), 100, 0, 1));

        vm.expectEmit(address(book));
        emit ISettlementBook.BatchProposed("batch", _pairsHash(statements), 1);
        book.propose("batch", statements, _nobody());

        assertEq(book.batch("batch").pairsHash, _pairsHash(statements), "the batch binds the statements");
        assertEq(_finalPairs("batch", 1), 0, "no pair is final");
    }

    function test_APairThatBothAcceptIsFinalAndPaidInTheSameCall() public {
        AgreementKey agreement = _openPrefunded(1, 2);
        _deposit(2, 1_000);
        PairStatement[] memory statements = _batchOf(_statement(agreement, 700, 100, 1));

        ISettlementBook.Acceptance[] memory acceptances = _acceptances("batch", statements, 1, 2, 1);
        vm.expectEmit(address(book));
        emit ISettlementBook.BatchProposed("batch", _pairsHash(statements), 1);
        vm.expectEmit(address(book));
        emit ISettlementBook.PairsFinal("batch", _pairs(1));
        book.propose("batch", statements, acceptances);

        assertEq(_finalPairs("batch", 1), 1, "final");
        assertTrue(book.isFinal(agreement, 1), "final by sequence");
        assertFalse(book.isFinal(agreement, 2), "the next is not");
        assertEq(vault.balanceOf(1), 600, "the CPO has due less credit");
        assertEq(vault.balanceOf(2), 400, "the MSP has the rest");
    }

    function test_ANetInFavourOfTheMSPIsPaidByTheCPO() public {
        _deposit(1, 1_000);
        PairStatement[] memory statements = _batchOf(_statement(_openPrefunded(1, 2), 100, 300, 1));

        book.propose("batch", statements, _acceptances("batch", statements, 1, 2, 1));

        assertEq(vault.balanceOf(1), 800, "cpo");
        assertEq(vault.balanceOf(2), 200, "msp");
    }

    function test_ANetOfZeroNeedsNoCover() public {
        PairStatement[] memory statements = _batchOf(_statement(_openPrefunded(1, 2), 300, 300, 1));

        book.propose("batch", statements, _acceptances("batch", statements, 1, 2, 1));

        assertEq(_finalPairs("batch", 1), 1, "final");
    }

    function test_AnUnfundedPairHoldsUpNoOther() public {
        AgreementKey poor = _openPrefunded(1, 2);
        AgreementKey rich = _openPrefunded(1, 3);
        _deposit(3, 1_000);
        PairStatement[] memory statements = _batchOf(_statement(poor, 100, 0, 1), _statement(rich, 100, 0, 1));
        uint256 poorPlace = _isBefore(poor, rich) ? 1 : 2;
        ISettlementBook.Acceptance[] memory acceptances = new ISettlementBook.Acceptance[](3);
        for (uint32 party = 1; party <= 3; ++party) {
            acceptances[party - 1] = _acceptance("batch", statements, party, 3);
        }

        vm.expectEmit(address(book));
        emit ISettlementBook.PairsFinal("batch", _pairs(3 - poorPlace));
        vm.expectEmit(address(book));
        emit ISettlementBook.PairsUnfunded("batch", _pairs(poorPlace));
        book.propose("batch", statements, acceptances);

        assertEq(PairSet.unwrap(book.batch("batch").acceptedByCPO), poorPlace, "the poor pair stays accepted");
        assertEq(PairSet.unwrap(book.batch("batch").acceptedByMSP), poorPlace, "by both");
        assertEq(book.agreementState(poor).lastSequence, 0, "and is not final");
    }

    function test_ACreditLineRecordsWhatIsOwedUpToItsLimit() public {
        AgreementKey agreement = _openCreditLine(1, 2, 1_000);
        PairStatement[] memory first = _batchOf(_statement(agreement, 900, 0, 1));
        PairStatement[] memory second = _batchOf(_statement(agreement, 101, 0, 2));
        PairStatement[] memory third = _batchOf(_statement(agreement, 100, 0, 2));

        book.propose("first", first, _acceptances("first", first, 1, 2, 1));
        book.propose("second", second, _acceptances("second", second, 1, 2, 1));
        book.propose("third", third, _acceptances("third", third, 1, 2, 1));

        assertEq(_finalPairs("first", 1), 1, "within the limit");
        assertEq(_finalPairs("second", 1), 0, "beyond the limit");
        assertEq(_finalPairs("third", 1), 1, "at the limit");
        assertEq(uint64(book.agreementState(agreement).owedE4), 1_000, "owed");
    }

    function test_ACreditLineTurnsInFavourOfTheMSP() public {
        AgreementKey agreement = _openCreditLine(1, 2, 1_000);
        PairStatement[] memory statements = _batchOf(_statement(agreement, 100, 350, 1));

        book.propose("batch", statements, _acceptances("batch", statements, 1, 2, 1));

        assertTrue(book.agreementState(agreement).owedE4 == -250, "the CPO owes");
    }

    function test_AStatementThatComesEarlyWaitsForTheOneBefore() public {
        AgreementKey agreement = _openCreditLine(1, 2, 1_000);
        PairStatement[] memory early = _batchOf(_statement(agreement, 20, 0, 2));
        PairStatement[] memory first = _batchOf(_statement(agreement, 10, 0, 1));

        book.propose("early", early, _acceptances("early", early, 1, 2, 1));
        assertEq(_finalPairs("early", 1), 0, "too early");
        book.propose("first", first, _acceptances("first", first, 1, 2, 1));
        book.fund("early", early);

        assertEq(_finalPairs("early", 1), 1, "its turn has come");
        assertEq(uint64(book.agreementState(agreement).owedE4), 30, "both are owed");
    }

    function test_OfTwoStatementsWithOneSequenceOneBecomesFinal() public {
        AgreementKey agreement = _openCreditLine(1, 2, 1_000);
        PairStatement[] memory one = _batchOf(_statement(agreement, 10, 0, 1));
        PairStatement[] memory other = _batchOf(_statement(agreement, 20, 0, 1));
        book.propose("one", one, _nobody());
        book.propose("other", other, _nobody());

        book.accept("other", other, _acceptances("other", other, 1, 2, 1));
        book.accept("one", one, _acceptances("one", one, 1, 2, 1));

        assertEq(_finalPairs("other", 1), 1, "the first to be accepted");
        assertEq(_finalPairs("one", 1), 0, "never the second");
        assertEq(uint64(book.agreementState(agreement).owedE4), 20, "owed once");
    }

    /// forge-config: default.fuzz.runs = 50
    function testFuzz_ABatchOfAnySizeConservesMoney(uint256 seed, uint256 count) public {
        count = bound(count, 1, 12);
        AgreementKey[] memory agreements = new AgreementKey[](12);
        for (uint32 i = 0; i < 12; ++i) {
            agreements[i] = _openPrefunded(1 + i / 3, 1 + (i / 3 + 1 + i % 3) % 4);
        }
        for (uint32 party = 1; party <= 4; ++party) {
            _deposit(party, uint256(keccak256(abi.encode(seed, party))) % 2_000 + 1);
        }
        uint256 before = vault.totalBalance();
        PairStatement[] memory statements = new PairStatement[](count);
        for (uint256 i = 0; i < count; ++i) {
            uint256 dice = uint256(keccak256(abi.encode(seed, "statement", i)));
            statements[i] = _statement(_lowest(agreements), uint64(dice % 1_000), uint64((dice >> 64) % 500), 1);
        }
        ISettlementBook.Acceptance[] memory acceptances = new ISettlementBook.Acceptance[](4);
        for (uint32 party = 1; party <= 4; ++party) {
            acceptances[party - 1] = _acceptance("batch", statements, party, type(uint256).max);
        }

        book.propose("batch", statements, acceptances);

        uint256 total = 0;
        for (uint32 party = 1; party <= 4; ++party) {
            total += vault.balanceOf(party);
        }
        assertEq(total, before, "money is conserved");
        assertEq(vault.totalBalance(), before, "and its total");
        for (uint256 i = 0; i < count; ++i) {
            assertEq(
                book.agreementState(statements[i].figures.agreement()).lastSequence,
                _finalPairs("batch", count) >> i & 1,
                "the sequence moved where the pair is final"
            );
        }
    }

    /// @dev Takes the lowest agreement out of the list.
    function _lowest(AgreementKey[] memory agreements) private pure returns (AgreementKey lowest) {
        uint256 place = 0;
        for (uint256 i = 1; i < agreements.length; ++i) {
            if (_isBefore(agreements[i], agreements[place])) place = i;
        }
        lowest = agreements[place];
        agreements[place] = AgreementKey.wrap(type(uint64).max);
    }
}
