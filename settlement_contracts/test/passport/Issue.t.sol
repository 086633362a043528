// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC721} from "@openzeppelin/contracts/token/ERC721/IERC721.sol";
import {IBatteryPassport} from "../../src/interfaces/IBatteryPassport.sol";
import {Passports} from "../base/Passports.sol";

contract IssueTest is Passports {
    function test_APassportStartsWithItsManufacture() public {
        bytes24 head = _chained(
            0, 42, IBatteryPassport.Kind.MANUFACTURED, IBatteryPassport.Status.ORIGINAL, 900, address(7), "made"
        );

        vm.expectEmit(address(passports));
        emit IERC721.Transfer(address(0), address(7), 42);
        vm.expectEmit(address(passports));
        emit IBatteryPassport.LifecycleRecorded(42, (uint256(900) << 160) | 7, "made");
        passports.issue(42, address(7), 900, "made");

        IBatteryPassport.Passport memory passport = passports.passport(42);
        assertEq(passports.ownerOf(42), address(7), "custodian");
        assertEq(bytes32(passport.head), bytes32(head), "head");
        assertEq(passport.entries, 1, "entries");
        assertTrue(passport.phase == IBatteryPassport.Phase.STORED, "phase");
        assertTrue(passports.supportsInterface(type(IBatteryPassport).interfaceId), "says what it is");
        assertTrue(passports.supportsInterface(type(IERC721).interfaceId), "and that it is a token");
    }
}
