// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IConfidentialBook} from "../../src/interfaces/IConfidentialBook.sol";
import {Confidential} from "../base/Confidential.sol";

contract SettleTest is Confidential {
    function setUp() public override {
        super.setUp();
        _registerParties(4);
        _deposit(1, 1_000);
        _deposit(2, 1_000);
        _deposit(3, 1_000);
    }

    function test_NetsMoveAtOnce() public {
        bytes32[] memory hashes = _noise(4);
        IConfidentialBook.PartyNet[] memory nets = _signedNets("b", hashes, _three(-600, 250, 350));

        vm.expectEmit(address(hidden));
        emit IConfidentialBook.BatchSettled("b", _hashesHash(hashes), 4);
        hidden.settle("b", hashes, nets);

        assertEq(vault.balanceOf(1), 400, "who pays");
        assertEq(vault.balanceOf(2), 1_250, "who gets");
        assertEq(vault.balanceOf(3), 1_350, "who gets");
        assertTrue(hidden.batch("b") != 0, "the batch is there");
        assertEq(hidden.nonceOf(1), 1, "its signature is used up");
    }

    function test_APartyWhoseNetIsZeroSignsToo() public {
        bytes32[] memory hashes = _noise(2);

        hidden.settle("b", hashes, _signedNets("b", hashes, _three(-600, 0, 600)));

        assertEq(hidden.nonceOf(2), 1, "it spoke");
        assertEq(vault.balanceOf(2), 1_000, "and has what it had");
    }

    function test_CollateralThatWasAnnouncedForWithdrawalStillCovers() public {
        vm.prank(_signer(1));
        vault.requestWithdrawal(1, 1_000);
        bytes32[] memory hashes = _noise(2);

        hidden.settle("b", hashes, _signedNets("b", hashes, _three(-600, 0, 600)));

        assertEq(vault.balanceOf(1), 400, "who pays");
    }

    function testFuzz_WhatIsSettledSumsToZeroAndIsCovered(int64 a, int64 b, uint8 power) public {
        bytes32[] memory hashes = _noise(1 << (1 + power % 8));
        a = int64(a % 1_500);
        b = int64(b % 1_500);
        int64[] memory netsE4 = _three(a, b, -a - b);
        bool covered = a >= -1_000 && b >= -1_000 && -a - b >= -1_000;

        try hidden.settle("b", hashes, _signedNets("b", hashes, netsE4)) {
            assertTrue(covered, "settled only what is covered");
            for (uint32 i = 0; i < 3; ++i) {
                assertTrue(int256(vault.balanceOf(i + 1)) == 1_000 + netsE4[i], "each has its net");
            }
        } catch {
            assertFalse(covered, "refused only what is not");
            assertEq(vault.balanceOf(1) + vault.balanceOf(2) + vault.balanceOf(3), 3_000, "and nothing moved");
            assertEq(hidden.nonceOf(1), 0, "nor was a signature used up");
        }
    }
}
