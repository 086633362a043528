// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Settlement} from "../base/Settlement.sol";

contract ApplyNetsTest is Settlement {
    uint32[] private _parties;
    int64[] private _nets;

    function setUp() public override {
        super.setUp();
        _registerParties(3);
        vault.grantRole(vault.BOOK_ROLE(), address(this));
        _parties = [1, 2, 3];
    }

    function test_EachNetIsAdded() public {
        _deposit(1, 100);
        _deposit(3, 50);
        _nets = [int64(-60), 85, -25];

        vault.applyNets(_parties, _nets);

        assertEq(vault.freeOf(1), 40, "it paid");
        assertEq(vault.freeOf(2), 85, "it was paid");
        assertEq(vault.freeOf(3), 25, "it paid, too");
        assertEq(vault.totalBalance(), 150, "nothing came in or went out");
    }

    function testFuzz_MoneyIsConserved(uint64[3] memory deposits, int64 first, int64 second) public {
        vm.assume(first > type(int32).min && first < type(int32).max && second > type(int32).min);
        vm.assume(second < type(int32).max);
        uint256 total = 0;
        for (uint32 i = 0; i < 3; ++i) {
            _deposit(i + 1, uint256(deposits[i]) + 1 << 33);
            total += uint256(deposits[i]) + 1 << 33;
        }
        _nets = [first, second, -first - second];

        vault.applyNets(_parties, _nets);

        assertEq(vault.freeOf(1) + vault.freeOf(2) + vault.freeOf(3), total, "sum");
        assertEq(vault.totalBalance(), total, "total");
    }
}
