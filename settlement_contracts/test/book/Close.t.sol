// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ISettlementBook} from "../../src/interfaces/ISettlementBook.sol";
import {PairStatement} from "../../src/types/PairStatement.sol";
import {Settlement} from "../base/Settlement.sol";

contract CloseTest is Settlement {
    function test_AClosedBookGoesOnSettlingAndPayingOut() public {
        _registerParties(2);
        _deposit(2, 1_000);
        PairStatement[] memory statements = _batchOf(_statement(_openPrefunded(1, 2), 100, 0, 1));
        book.propose("batch", statements, _nobody());

        vm.expectEmit(address(book));
        emit ISettlementBook.BookClosed();
        book.close();

        assertTrue(book.isClosed(), "closed");
        book.accept("batch", statements, _acceptances("batch", statements, 1, 2, 1));
        assertEq(_finalPairs("batch", 1), 1, "what was proposed becomes final");
        vm.prank(_signer(1));
        vault.requestWithdrawal(1, 100);
        vm.warp(NOW + DELAY);
        vm.prank(_signer(1));
        vault.withdraw(1);
        assertEq(token.balanceOf(_payout(1)), 100, "and is paid out");
    }
}
