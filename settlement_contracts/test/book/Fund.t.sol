// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ISettlementBook} from "../../src/interfaces/ISettlementBook.sol";
import {PairSet} from "../../src/types/PairSet.sol";
import {PairStatement} from "../../src/types/PairStatement.sol";
import {Settlement} from "../base/Settlement.sol";

contract FundTest is Settlement {
    PairStatement[] private _statements;

    function setUp() public override {
        super.setUp();
        _registerParties(2);
        PairStatement[] memory statements = _batchOf(_statement(_openPrefunded(1, 2), 100, 0, 1));
        _statements.push(statements[0]);
        book.propose("batch", statements, _acceptances("batch", statements, 1, 2, 1));
    }

    function test_AnUnfundedPairIsFinalOnceThereIsCover() public {
        _deposit(2, 100);

        vm.expectEmit(address(book));
        emit ISettlementBook.PairsFinal("batch", _pairs(1));
        book.fund("batch", _statements);

        assertEq(vault.balanceOf(1), 100, "paid");
        assertEq(PairSet.unwrap(book.batch("batch").acceptedByCPO), 0, "nothing waits");
        assertEq(PairSet.unwrap(book.batch("batch").acceptedByMSP), 0, "on either side");
    }

    function test_WithoutCoverItStaysUnfunded() public {
        _deposit(2, 99);

        vm.expectEmit(address(book));
        emit ISettlementBook.PairsUnfunded("batch", _pairs(1));
        book.fund("batch", _statements);

        assertEq(_finalPairs("batch", 1), 0, "not final");
        assertEq(vault.balanceOf(2), 99, "nothing was taken");
    }

    function test_AFinalPairIsNotPaidAgain() public {
        _deposit(2, 500);

        book.fund("batch", _statements);
        book.fund("batch", _statements);

        assertEq(vault.balanceOf(1), 100, "paid once");
    }
}
