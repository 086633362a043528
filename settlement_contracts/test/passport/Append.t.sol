// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IBatteryPassport} from "../../src/interfaces/IBatteryPassport.sol";
import {packHappening} from "../../src/types/Happening.sol";
import {Passports} from "../base/Passports.sol";

contract AppendTest is Passports {
    IBatteryPassport.Status private constant ORIGINAL = IBatteryPassport.Status.ORIGINAL;

    function testFuzz_TheHeadChainsEveryEntry(bytes32[5] memory commitments) public {
        _issue(42, 1);
        bytes24 head = passports.passport(42).head;
        IBatteryPassport.Entry[] memory entries = new IBatteryPassport.Entry[](5);
        for (uint40 i = 0; i < 5; ++i) {
            entries[i] = IBatteryPassport.Entry(42, packHappening(4, 0, NOW - 50 + i), commitments[i]);
            head =
                _chained(head, 42, IBatteryPassport.Kind.CHARGED, ORIGINAL, NOW - 50 + i, _account(1), commitments[i]);
        }

        vm.prank(_account(1));
        passports.append(entries);

        assertEq(bytes32(passports.passport(42).head), bytes32(head), "head");
        assertEq(passports.passport(42).entries, 6, "entries");
        assertEq(passports.passport(42).happenedAt, NOW - 46, "last entry");
    }

    function test_ManyPacksInOneCall() public {
        _issue(1, 1);
        _issue(2, 1);
        IBatteryPassport.Entry[] memory entries = new IBatteryPassport.Entry[](3);
        entries[0] = _entry(1, IBatteryPassport.Kind.SWAPPED_IN, ORIGINAL, NOW);
        entries[1] = _entry(2, IBatteryPassport.Kind.CHARGED, ORIGINAL, NOW);
        entries[2] = _entry(1, IBatteryPassport.Kind.SWAPPED_OUT, ORIGINAL, NOW);

        vm.prank(_account(1));
        passports.append(entries);

        assertEq(passports.passport(1).entries, 3, "in and out again");
        assertTrue(passports.passport(1).phase == IBatteryPassport.Phase.STORED, "and it is where it was");
        assertEq(passports.passport(2).entries, 2, "the other");
    }

    /// @dev The state machine, read a second time: which kind the custodian tells in which phase, and what comes of it.
    function testFuzz_EachPhaseTakesItsKindsAlone(uint8 phase, uint8 kind) public {
        phase = phase % 5;
        kind = kind % 20;
        _bring(phase);
        IBatteryPassport.Status status = ORIGINAL;
        if (kind == 10) status = IBatteryPassport.Status.REPURPOSED;
        if (kind == 11) status = IBatteryPassport.Status.WASTE;
        uint8 expected = _next(phase, kind);

        vm.prank(_account(1));
        try passports.append(_one(IBatteryPassport.Entry(7, packHappening(kind, uint8(status), NOW), "x"))) {
            assertTrue(uint8(passports.passport(7).phase) == expected, "phase");
        } catch {
            assertTrue(expected == 99, "refused what does not happen, and nothing else");
        }
    }

    function test_ASecondLifeChangesTheStatus() public {
        _issue(7, 1);
        _happens(1, 7, IBatteryPassport.Kind.RETIRED, ORIGINAL);
        _happens(1, 7, IBatteryPassport.Kind.SECOND_LIFE, IBatteryPassport.Status.REPURPOSED);

        assertTrue(passports.passport(7).status == IBatteryPassport.Status.REPURPOSED, "status");
        assertTrue(passports.passport(7).phase == IBatteryPassport.Phase.STORED, "and it can be installed again");
    }

    /// @dev Rows: STORED, INSTALLED, RETIRED, SUCCEEDED, RECYCLED; columns: kinds in their order; 99: refused.
    function _next(uint8 phase, uint8 kind) private pure returns (uint8) {
        uint8[14][5] memory table = [
            [uint8(99), 1, 1, 99, 0, 0, 0, 0, 99, 2, 99, 99, 99, 99],
            [99, 99, 99, 0, 1, 1, 1, 1, 99, 2, 99, 99, 99, 99],
            [99, 99, 99, 99, 99, 2, 2, 2, 99, 99, 0, 4, 99, 99],
            [99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 4, 99, 99],
            [99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99]
        ];
        return kind < 14 ? table[phase][kind] : 99;
    }

    function _bring(uint8 phase) private {
        _issue(7, 1);
        if (phase == 0) return;
        if (phase == 1) return _happens(1, 7, IBatteryPassport.Kind.INSTALLED, ORIGINAL);
        _happens(1, 7, IBatteryPassport.Kind.RETIRED, ORIGINAL);
        if (phase == 3) {
            _issue(8, 1);
            vm.prank(_account(1));
            passports.succeedBy(_ids(7, 1), _ids(8, 1), NOW, "cells");
        }
        if (phase == 4) _happens(1, 7, IBatteryPassport.Kind.RECYCLED, IBatteryPassport.Status.WASTE);
    }
}
