// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {CollateralVault} from "../../src/CollateralVault.sol";
import {ICollateralVault} from "../../src/interfaces/ICollateralVault.sol";
import {PairSet} from "../../src/types/PairSet.sol";
import {Transfer, packTransfer} from "../../src/types/Transfer.sol";
import {Settlement} from "../base/Settlement.sol";
import {SilentToken} from "../mocks/SilentToken.sol";

contract ReserveTest is Settlement {
    function setUp() public override {
        super.setUp();
        _registerParties(2);
        vault.grantRole(vault.BOOK_ROLE(), address(this));
        _deposit(1, 1_000);
    }

    function test_WhatIsReservedIsNotFree() public {
        vm.expectEmit(address(vault));
        emit ICollateralVault.CollateralReserved(1, address(this), 400);
        vault.reserve(1, 400);

        assertEq(vault.freeOf(1), 600, "free");
        assertEq(vault.reservedBy(address(this), 1), 400, "reserved");
        assertEq(vault.balanceOf(1), 1_000, "all of it");
    }

    function test_WhatIsReservedPaysNoStatement() public {
        vault.reserve(1, 400);
        Transfer[] memory transfers = new Transfer[](1);
        transfers[0] = packTransfer(1, 2, 601);

        assertEq(PairSet.unwrap(vault.applyTransfers(transfers)), 0, "it lacks cover");
    }

    function test_WhatIsReservedIsNotWithdrawn() public {
        vm.prank(_signer(1));
        vault.requestWithdrawal(1, 1_000);
        vault.reserve(1, 400);
        vm.warp(NOW + DELAY);

        vm.prank(_payout(1));
        vault.withdraw(1);

        assertEq(token.balanceOf(_payout(1)), 600, "what is free");
        assertEq(vault.balanceOf(1), 400, "the rest stays");
        vault.takeReserved(1, 2, 400);
    }

    function test_WhatIsReleasedIsFreeAgain() public {
        vault.reserve(1, 400);

        vm.expectEmit(address(vault));
        emit ICollateralVault.CollateralReleased(1, address(this), 150);
        vault.release(1, 150);

        assertEq(vault.freeOf(1), 750, "free");
        assertEq(vault.reservedBy(address(this), 1), 250, "reserved");
    }

    function test_WhatIsTakenGoesToTheOther() public {
        vault.reserve(1, 400);

        vm.expectEmit(address(vault));
        emit ICollateralVault.ReservedCollateralTaken(1, 2, address(this), 150);
        vault.takeReserved(1, 2, 150);

        assertEq(vault.freeOf(2), 150, "free for the other");
        assertEq(vault.reservedBy(address(this), 1), 250, "reserved");
        assertEq(vault.totalBalance(), 1_000, "nothing came in or went out");
    }

    function test_ABookGetsAtItsOwnReservesOnly() public {
        vault.reserve(1, 400);
        vault.grantRole(vault.BOOK_ROLE(), address(0xb00c));

        vm.expectRevert(abi.encodeWithSelector(ICollateralVault.CollateralVaultNotReserved.selector, 1, 1, 0));
        vm.prank(address(0xb00c));
        vault.takeReserved(1, 2, 1);
    }

    function test_AmountsAreScaledToTheToken() public {
        SilentToken silent = new SilentToken(6);
        CollateralVault other = new CollateralVault(IERC20Metadata(address(silent)), registry, DELAY, address(this));
        other.grantRole(other.BOOK_ROLE(), address(this));
        silent.mint(address(this), 1_000);
        other.deposit(1, 1_000);

        other.reserve(1, 7);
        other.release(1, 2);
        other.takeReserved(1, 2, 3);

        assertEq(other.freeOf(1), 500, "seven less two");
        assertEq(other.freeOf(2), 300, "three");
        assertEq(other.reservedBy(address(this), 1), 200, "two are left");
    }

    function testFuzz_FreeAndReservedMakeTheBalance(uint64 first, uint64 second, uint64 third) public {
        first = uint64(bound(first, 0, 1_000));
        second = uint64(bound(second, 0, first));
        third = uint64(bound(third, 0, first - second));

        vault.reserve(1, first);
        vault.release(1, second);
        vault.takeReserved(1, 2, third);

        assertEq(vault.freeOf(1) + vault.reservedBy(address(this), 1), vault.balanceOf(1), "of the one");
        assertEq(vault.balanceOf(1) + vault.balanceOf(2), 1_000, "of both");
    }
}
