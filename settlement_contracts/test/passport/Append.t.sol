// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BatteryPassport} from "../../src/BatteryPassport.sol";
import {IBatteryPassport} from "../../src/interfaces/IBatteryPassport.sol";
import {Test} from "../base/Test.sol";

contract AppendTest is Test {
    BatteryPassport private _passports;

    function setUp() public {
        vm.warp(1_000);
        _passports = new BatteryPassport(address(this));
        _passports.grantRole(_passports.ISSUER_ROLE(), address(this));
        _passports.issue(42, address(7), 900, "made");
    }

    function testFuzz_TheHeadChainsEveryEntry(bytes32[5] memory commitments) public {
        bytes32 head = _passports.passport(42).head;
        for (uint64 i = 0; i < commitments.length; ++i) {
            _append(IBatteryPassport.Kind.CHARGED, IBatteryPassport.Status.ORIGINAL, 900 + i, commitments[i]);
            head = keccak256(
                abi.encode(
                    head,
                    IBatteryPassport.Kind.CHARGED,
                    IBatteryPassport.Status.ORIGINAL,
                    900 + i,
                    address(7),
                    commitments[i]
                )
            );
        }

        assertEq(_passports.passport(42).head, head, "head");
        assertEq(_passports.passport(42).entries, 1 + commitments.length, "entries");
        assertEq(_passports.passport(42).happenedAt, 904, "last entry");
    }

    function test_ASecondLifeChangesTheStatus() public {
        _append(IBatteryPassport.Kind.SECOND_LIFE, IBatteryPassport.Status.REPURPOSED, 950, "reused");

        assertTrue(_passports.passport(42).status == IBatteryPassport.Status.REPURPOSED, "status");
        assertTrue(_passports.passport(42).lastKind == IBatteryPassport.Kind.SECOND_LIFE, "kind");
    }

    function test_CustodyMovesWithTheToken() public {
        vm.prank(address(7));
        _passports.transferFrom(address(7), address(8), 42);

        vm.prank(address(8));
        _passports.append(42, IBatteryPassport.Kind.OWNERSHIP, IBatteryPassport.Status.ORIGINAL, 950, "sold");

        assertEq(_passports.passport(42).entries, 2, "the new custodian appends");
    }

    function _append(IBatteryPassport.Kind kind, IBatteryPassport.Status status, uint64 happenedAt, bytes32 commitment)
        private
    {
        vm.prank(address(7));
        _passports.append(42, kind, status, happenedAt, commitment);
    }
}
