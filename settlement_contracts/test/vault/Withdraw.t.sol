// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {CollateralVault} from "../../src/CollateralVault.sol";
import {ICollateralVault} from "../../src/interfaces/ICollateralVault.sol";
import {PairStatement} from "../../src/types/PairStatement.sol";
import {Settlement} from "../base/Settlement.sol";
import {ReentrantToken} from "../mocks/ReentrantToken.sol";

contract WithdrawTest is Settlement {
    function setUp() public override {
        super.setUp();
        _registerParties(2);
        _deposit(1, 1_000);
        _deposit(2, 500);
    }

    function testFuzz_WhatWasAnnouncedGoesToThePayoutAddress(uint256 amount, uint256 wait) public {
        amount = bound(amount, 1, 1_000);
        wait = bound(wait, DELAY, DELAY + vault.WITHDRAWAL_WINDOW());
        _request(uint128(amount));
        vm.warp(NOW + wait);

        vm.expectEmit(address(vault));
        emit ICollateralVault.Withdrawn(1, _payout(1), amount);
        vm.prank(_signer(1));
        vault.withdraw(1);

        assertEq(token.balanceOf(_payout(1)), amount, "paid out");
        assertEq(vault.balanceOf(1), 1_000 - amount, "balance");
        assertEq(vault.totalBalance(), 1_500 - amount, "total");
        assertEq(vault.withdrawalOf(1).availableAt, 0, "done with");
    }

    function test_WhatIsLeftIsPaidIfAStatementTookTheRest() public {
        _request(1_000);
        PairStatement[] memory statements = _batchOf(_statement(_openPrefunded(2, 1), 700, 0, 1));
        book.propose("batch", statements, _acceptances("batch", statements, 1, 2, 1));
        vm.warp(NOW + DELAY);

        vm.prank(_payout(1));
        vault.withdraw(1);

        assertEq(token.balanceOf(_payout(1)), 300, "the rest");
        assertEq(vault.balanceOf(2), 1_200, "the statement was paid");
    }

    function test_NobodyCanStopAWithdrawal() public {
        _request(1_000);
        book.pause();
        vm.warp(NOW + DELAY);

        vm.prank(_payout(1));
        vault.withdraw(1);

        assertEq(token.balanceOf(_payout(1)), 1_000, "paid out");
    }

    function test_AWithdrawalDoesNotReenter() public {
        ReentrantToken reentrant = new ReentrantToken();
        CollateralVault other = new CollateralVault(reentrant, registry, DELAY, address(this));
        reentrant.mint(address(this), 1_000);
        reentrant.approve(address(other), 1_000);
        other.deposit(1, 1_000);
        vm.prank(_signer(1));
        other.requestWithdrawal(1, 1_000);
        vm.warp(NOW + DELAY);
        reentrant.attack(other, abi.encodeCall(ICollateralVault.withdraw, (1)));

        vm.expectRevert(abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector));
        vm.prank(_signer(1));
        other.withdraw(1);
    }

    function _request(uint128 amount) private {
        vm.prank(_signer(1));
        vault.requestWithdrawal(1, amount);
    }
}
