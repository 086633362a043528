// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC721} from "@openzeppelin/contracts/token/ERC721/IERC721.sol";
import {BatteryPassport} from "../../src/BatteryPassport.sol";
import {IBatteryPassport} from "../../src/interfaces/IBatteryPassport.sol";
import {Test} from "../base/Test.sol";

contract IssueTest is Test {
    function test_APassportStartsWithItsManufacture() public {
        vm.warp(1_000);
        BatteryPassport passports = new BatteryPassport(address(this));
        passports.grantRole(passports.ISSUER_ROLE(), address(this));
        bytes32 head = keccak256(
            abi.encode(
                bytes32(0),
                IBatteryPassport.Kind.MANUFACTURED,
                IBatteryPassport.Status.ORIGINAL,
                uint64(900),
                address(7),
                bytes32("made")
            )
        );

        vm.expectEmit(address(passports));
        emit IERC721.Transfer(address(0), address(7), 42);
        vm.expectEmit(address(passports));
        emit IBatteryPassport.LifecycleRecorded(
            42, IBatteryPassport.Kind.MANUFACTURED, IBatteryPassport.Status.ORIGINAL, 900, address(7), "made", head
        );
        passports.issue(42, address(7), 900, "made");

        assertEq(passports.ownerOf(42), address(7), "custodian");
        assertEq(passports.passport(42).head, head, "head");
        assertEq(passports.passport(42).entries, 1, "entries");
        assertTrue(passports.supportsInterface(type(IBatteryPassport).interfaceId), "says what it is");
        assertTrue(passports.supportsInterface(type(IERC721).interfaceId), "and that it is a token");
    }
}
