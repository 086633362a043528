// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Place} from "../../src/types/Place.sol";
import {AgreementKey} from "../../src/types/AgreementKey.sol";
import {ISettlementBook} from "../../src/interfaces/ISettlementBook.sol";
import {PairFigures} from "../../src/types/PairFigures.sol";
import {PairStatement} from "../../src/types/PairStatement.sol";
import {ReferenceTrees} from "../base/ReferenceTrees.sol";
import {Settlement} from "../base/Settlement.sol";

contract IsStatementFinalTest is Settlement {
    PairStatement[] private _statements;
    uint256 private constant FINAL = 5;

    function setUp() public override {
        super.setUp();
        _registerParties(8);
        for (uint32 party = 2; party <= 8; ++party) {
            _push(_statement(_openCreditLine(1, party, 1_000), 100, 0, 1));
        }
        PairStatement[] memory statements = _statements;
        book.propose("batch", statements, _only(_acceptance("batch", statements, 1, 1 << FINAL)));
        uint32 msp = book.agreementState(statements[FINAL].figures.agreement()).msp;
        book.accept("batch", statements, _only(_acceptance("batch", statements, msp, 1 << FINAL)));
    }

    function test_ExactlyTheFinalStatementIsFinal() public view {
        for (uint256 i = 0; i < _statements.length; ++i) {
            assertTrue(book.isStatementFinal(_statements[i], _place(i)) == (i == FINAL), "final");
        }
    }

    function testFuzz_NoOtherPlaceIsBelieved(uint256 index, uint256 count) public view {
        Place memory place = _place(6);
        place.index = bound(index, 0, 300);
        place.count = bound(count, 0, 300);

        assertFalse(book.isStatementFinal(_statements[6], place), "the last statement is not final");
    }

    function testFuzz_NoOtherStatementIsBelieved(bytes32 roots, uint256 figures, bool isFigures) public view {
        PairStatement memory forged = _statements[FINAL];
        if (isFigures) forged.figures = PairFigures.wrap(figures);
        else forged.roots = roots;

        assertFalse(book.isStatementFinal(forged, _place(FINAL)), "forged");
    }

    function testFuzz_AProofOfAnotherLengthIsRefused(uint256 length) public view {
        Place memory place = _place(FINAL);
        length = bound(length, 0, 8);
        vm.assume(length != place.siblings.length);
        place.siblings = new bytes32[](length);

        assertFalse(book.isStatementFinal(_statements[FINAL], place), "refused");
    }

    function test_NothingIsFinalInABatchThatThereIsNot() public view {
        Place memory place = _place(FINAL);
        place.batchId = "other";

        assertFalse(book.isStatementFinal(_statements[FINAL], place), "no such batch");
    }

    function testFuzz_WhatBindsABatchIsAsWritten(uint256 count, uint256 seed) public view {
        PairStatement[] memory statements = new PairStatement[](bound(count, 1, 256));
        for (uint256 i = 0; i < statements.length; ++i) {
            statements[i] =
                _statement(AgreementKey.wrap(uint64(seed)), uint64(seed >> 64), uint64(seed >> 128), uint24(i));
        }

        assertEq(book.pairsHash(statements), _pairsHash(statements), "pairs hash");
    }

    function _place(uint256 index) private view returns (Place memory) {
        bytes32[] memory siblings = ReferenceTrees.proof(_statementHashes(_statements), index);
        return Place("batch", index, _statements.length, siblings);
    }

    /// @dev Keeps the list ascending.
    function _push(PairStatement memory statement) private {
        _statements.push(statement);
        for (
            uint256 i = _statements.length - 1;
            i > 0 && _isBefore(_statements[i].figures.agreement(), _statements[i - 1].figures.agreement());
            --i
        ) {
            PairStatement memory lower = _statements[i];
            _statements[i] = _statements[i - 1];
            _statements[i - 1] = lower;
        }
    }
}
