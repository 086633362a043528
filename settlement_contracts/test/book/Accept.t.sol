// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ISettlementBook} from "../../src/interfaces/ISettlementBook.sol";
import {PairSet} from "../../src/types/PairSet.sol";
import {PairStatement} from "../../src/types/PairStatement.sol";
import {Settlement} from "../base/Settlement.sol";

contract AcceptTest is Settlement {
    PairStatement[] private _statements;

    function setUp() public override {
        super.setUp();
        _registerParties(3);
        _deposit(2, 1_000);
        _deposit(3, 1_000);
        PairStatement[] memory statements =
            _batchOf(_statement(_openPrefunded(1, 2), 100, 0, 1), _statement(_openPrefunded(1, 3), 100, 0, 1));
        _statements.push(statements[0]);
        _statements.push(statements[1]);
        book.propose("batch", statements, _nobody());
    }

    function test_WhoComesFirstIsRemembered() public {
        book.accept("batch", _statements, _only(_acceptance("batch", _statements, 1, 3)));

        assertEq(PairSet.unwrap(book.batch("batch").acceptedByCPO), 3, "the CPO accepted both pairs");
        assertEq(_finalPairs("batch", 2), 0, "that is one side");
    }

    function test_ThePairIsFinalWhenTheOtherSideAccepts() public {
        book.accept("batch", _statements, _only(_acceptance("batch", _statements, 1, 3)));
        book.accept("batch", _statements, _only(_acceptance("batch", _statements, 2, 3)));

        assertEq(vault.balanceOf(1), 100, "one MSP paid");
        assertEq(vault.balanceOf(2), 900, "this one");
        uint256 done = _finalPairs("batch", 2);
        assertTrue(done == 1 || done == 2, "its pair alone is final");
        assertEq(PairSet.unwrap(book.batch("batch").acceptedByCPO), 3 - done, "the other still waits");
    }

    function test_AnAcceptanceSaysNothingOfOtherPairs() public {
        book.accept("batch", _statements, _acceptances("batch", _statements, 2, 3, 3));

        assertEq(PairSet.unwrap(book.batch("batch").acceptedByCPO), 0, "no CPO spoke");
        assertEq(PairSet.unwrap(book.batch("batch").acceptedByMSP), 3, "each MSP for its own pair");
    }

    function test_APartyMayAcceptSomeOfItsPairs() public {
        book.accept("batch", _statements, _only(_acceptance("batch", _statements, 1, 2)));

        assertEq(PairSet.unwrap(book.batch("batch").acceptedByCPO), 2, "only the second pair");
    }

    function test_ARepeatedAcceptanceChangesNothing() public {
        ISettlementBook.Acceptance[] memory both = _acceptances("batch", _statements, 1, 2, 3);

        book.accept("batch", _statements, both);
        book.accept("batch", _statements, both);

        assertEq(vault.balanceOf(1), 100, "paid once");
    }

    function test_TwoWordsOfOnePartyAddUp() public {
        ISettlementBook.Acceptance[] memory words = new ISettlementBook.Acceptance[](2);
        words[0] = _acceptance("batch", _statements, 1, 1);
        words[1] = _acceptance("batch", _statements, 1, 2);

        book.accept("batch", _statements, words);

        assertEq(PairSet.unwrap(book.batch("batch").acceptedByCPO), 3, "both pairs");
    }

    function test_PlacesBeyondTheBatchMeanNothing() public {
        book.accept("batch", _statements, _acceptances("batch", _statements, 1, 2, type(uint256).max));

        assertEq(PairSet.unwrap(book.batch("batch").acceptedByCPO) | _finalPairs("batch", 2), 3, "two pairs, no more");
    }

    function test_WhatOneCallHeardTheNextDoesNotRemember() public {
        PairStatement[] memory next = _batchOf(_statement(_statements[0].figures.agreement(), 100, 0, 1));

        book.accept("batch", _statements, _only(_acceptance("batch", _statements, 1, 3)));
        book.propose("next", next, _nobody());

        assertEq(PairSet.unwrap(book.batch("next").acceptedByCPO), 0, "nobody accepted the next batch");
    }

    function test_ProposalsMayBePausedButNotAcceptances() public {
        book.pause();

        book.accept("batch", _statements, _acceptances("batch", _statements, 1, 2, 3));

        assertTrue(_finalPairs("batch", 2) != 0, "final all the same");
    }
}
