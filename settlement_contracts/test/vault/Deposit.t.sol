// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {CollateralVault} from "../../src/CollateralVault.sol";
import {ICollateralVault} from "../../src/interfaces/ICollateralVault.sol";
import {Settlement} from "../base/Settlement.sol";
import {FeeToken} from "../mocks/FeeToken.sol";
import {ReentrantToken} from "../mocks/ReentrantToken.sol";
import {SilentToken} from "../mocks/SilentToken.sol";

contract DepositTest is Settlement {
    function setUp() public override {
        super.setUp();
        _registerParties(2);
    }

    function testFuzz_WhatArrivesIsCredited(uint96 first, uint96 second) public {
        vm.assume(first > 0 && second > 0);

        _deposit(1, first);
        token.mint(address(this), second);
        token.approve(address(vault), second);
        vm.expectEmit(address(vault));
        emit ICollateralVault.Deposited(1, address(this), second);
        vault.deposit(1, second);

        assertEq(vault.balanceOf(1), uint256(first) + second, "balance");
        assertEq(vault.totalBalance(), uint256(first) + second, "total");
        assertEq(token.balanceOf(address(vault)), uint256(first) + second, "tokens");
    }

    function test_AFeeOnTransferIsNotCredited() public {
        FeeToken fee = new FeeToken();
        CollateralVault other = new CollateralVault(fee, registry, DELAY, address(this));
        fee.mint(address(this), 1_000);
        fee.approve(address(other), 1_000);

        other.deposit(1, 1_000);

        assertEq(other.balanceOf(1), 990, "what arrived");
    }

    function test_ATokenThatReturnsNothingServes() public {
        SilentToken silent = new SilentToken(6);
        CollateralVault other = new CollateralVault(IERC20Metadata(address(silent)), registry, DELAY, address(this));
        silent.mint(address(this), 1_000);

        other.deposit(1, 1_000);

        assertEq(other.balanceOf(1), 1_000, "credited");
        assertEq(other.unitsPerE4(), 100, "six decimals");
    }

    function test_ADepositDoesNotReenter() public {
        ReentrantToken reentrant = new ReentrantToken();
        CollateralVault other = new CollateralVault(reentrant, registry, DELAY, address(this));
        reentrant.mint(address(this), 1_000);
        reentrant.approve(address(other), 1_000);
        reentrant.attack(other, abi.encodeCall(ICollateralVault.deposit, (1, 1)));

        vm.expectRevert(abi.encodeWithSelector(ReentrancyGuardTransient.ReentrancyGuardReentrantCall.selector));
        other.deposit(1, 1_000);
    }
}
