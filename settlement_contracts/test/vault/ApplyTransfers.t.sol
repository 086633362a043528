// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {CollateralVault} from "../../src/CollateralVault.sol";
import {PairSet} from "../../src/types/PairSet.sol";
import {Transfer, packTransfer} from "../../src/types/Transfer.sol";
import {Settlement} from "../base/Settlement.sol";
import {SilentToken} from "../mocks/SilentToken.sol";

contract ApplyTransfersTest is Settlement {
    function setUp() public override {
        super.setUp();
        _registerParties(3);
        vault.grantRole(vault.BOOK_ROLE(), address(this));
    }

    function test_EachPaymentIsMadeIfThereIsCoverWhenItsTurnComes() public {
        _deposit(1, 100);
        Transfer[] memory transfers = new Transfer[](4);
        transfers[0] = packTransfer(2, 3, 1);
        transfers[1] = packTransfer(1, 2, 60);
        transfers[2] = packTransfer(1, 3, 41);
        transfers[3] = packTransfer(2, 3, 60);

        assertEq(PairSet.unwrap(vault.applyTransfers(transfers)), 10, "the second and the fourth were made");

        assertEq(vault.balanceOf(1), 40, "first party");
        assertEq(vault.balanceOf(2), 0, "second party");
        assertEq(vault.balanceOf(3), 60, "third party");
    }

    function test_APaymentToOneselfChangesNothing() public {
        _deposit(1, 100);
        Transfer[] memory transfers = new Transfer[](1);
        transfers[0] = packTransfer(1, 1, 60);

        vault.applyTransfers(transfers);

        assertEq(vault.balanceOf(1), 100, "balance");
    }

    function test_AmountsAreScaledToTheToken() public {
        SilentToken silent = new SilentToken(18);
        CollateralVault other = new CollateralVault(IERC20Metadata(address(silent)), registry, DELAY, address(this));
        other.grantRole(other.BOOK_ROLE(), address(this));
        silent.mint(address(this), 1 ether);
        other.deposit(1, 1 ether);
        Transfer[] memory transfers = new Transfer[](2);
        transfers[0] = packTransfer(1, 2, 9_999);
        transfers[1] = packTransfer(1, 2, type(uint64).max);

        assertEq(PairSet.unwrap(other.applyTransfers(transfers)), 1, "the first was made");

        assertEq(other.balanceOf(1), 1 ether / 10_000, "a ten-thousandth is left");
    }

    function testFuzz_MoneyIsConserved(uint96[3] memory deposits, uint256[8] memory dice) public {
        uint256 total = 0;
        for (uint32 i = 0; i < 3; ++i) {
            if (deposits[i] != 0) _deposit(i + 1, deposits[i]);
            total += deposits[i];
        }
        Transfer[] memory transfers = new Transfer[](dice.length);
        for (uint256 i = 0; i < dice.length; ++i) {
            transfers[i] = packTransfer(uint32(dice[i] % 3 + 1), uint32((dice[i] >> 8) % 3 + 1), uint64(dice[i] >> 64));
        }

        vault.applyTransfers(transfers);

        assertEq(vault.balanceOf(1) + vault.balanceOf(2) + vault.balanceOf(3), total, "sum");
        assertEq(vault.totalBalance(), total, "total");
    }
}
