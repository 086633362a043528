// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IBatteryPassport} from "../../src/interfaces/IBatteryPassport.sol";
import {Passports} from "../base/Passports.sol";

contract SucceedByTest is Passports {
    function test_ThreePacksBecomeTwo() public {
        for (uint256 id = 1; id <= 5; ++id) {
            _issue(id, 1);
        }
        for (uint256 id = 1; id <= 3; ++id) {
            _happens(1, id, IBatteryPassport.Kind.RETIRED, IBatteryPassport.Status.ORIGINAL);
        }
        uint256[] memory from = _ids(1, 3);
        uint256[] memory to = _ids(4, 2);
        bytes32 link =
            keccak256(abi.encode(bytes32("cells"), keccak256(abi.encodePacked(from)), keccak256(abi.encodePacked(to))));
        bytes24 head = _chained(
            passports.passport(4).head,
            4,
            IBatteryPassport.Kind.MADE_OF,
            IBatteryPassport.Status.ORIGINAL,
            NOW,
            _account(1),
            link
        );

        vm.expectEmit(address(passports));
        emit IBatteryPassport.Succession(link, from, to);
        vm.prank(_account(1));
        passports.succeedBy(from, to, NOW, "cells");

        for (uint256 id = 1; id <= 3; ++id) {
            assertTrue(passports.passport(id).phase == IBatteryPassport.Phase.SUCCEEDED, "it is no pack any more");
        }
        assertEq(bytes32(passports.passport(4).head), bytes32(head), "and what came of it says so");
        assertTrue(passports.passport(5).phase == IBatteryPassport.Phase.STORED, "ready to be installed");
        _happens(1, 2, IBatteryPassport.Kind.RECYCLED, IBatteryPassport.Status.WASTE);
    }
}
