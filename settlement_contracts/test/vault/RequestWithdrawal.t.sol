// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ICollateralVault} from "../../src/interfaces/ICollateralVault.sol";
import {Settlement} from "../base/Settlement.sol";

contract RequestWithdrawalTest is Settlement {
    function setUp() public override {
        super.setUp();
        _registerParties(2);
        _deposit(1, 1_000);
    }

    function test_TheSignerAnnouncesAWithdrawal() public {
        vm.expectEmit(address(vault));
        emit ICollateralVault.WithdrawalRequested(1, 400, NOW + DELAY);
        vm.prank(_signer(1));
        vault.requestWithdrawal(1, 400);

        assertEq(vault.withdrawalOf(1).amount, 400, "amount");
        assertEq(vault.withdrawalOf(1).availableAt, NOW + DELAY, "after the delay");
        assertEq(vault.balanceOf(1), 1_000, "until then it stays cover");
    }

    function test_ALaterRequestReplacesAnEarlierOne() public {
        vm.prank(_signer(1));
        vault.requestWithdrawal(1, 400);
        vm.warp(NOW + 100);
        vm.prank(_payout(1));
        vault.requestWithdrawal(1, 500);

        assertEq(vault.withdrawalOf(1).amount, 500, "amount");
        assertEq(vault.withdrawalOf(1).availableAt, NOW + 100 + DELAY, "the delay starts again");
    }
}
