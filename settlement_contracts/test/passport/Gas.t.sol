// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {IBatteryPassport} from "../../src/interfaces/IBatteryPassport.sol";
import {Passports} from "../base/Passports.sol";

/// @notice What one call costs, as a transaction of its own; of a batch, what a record costs, the call's own gas included.
/// forge-config: default.isolate = true
contract PassportGasTest is Passports {
    uint256 private constant RECORDS = 50;

    function test_Life() public {
        _issue(1, 1);
        _snap("issue");
        _happens(1, 1, IBatteryPassport.Kind.CHARGED, IBatteryPassport.Status.ORIGINAL);
        _snap("append: one");
        _handOver(_ids(1, 1), 1, 2);
        _snap("transferCustody: one");
        _happens(2, 1, IBatteryPassport.Kind.RETIRED, IBatteryPassport.Status.ORIGINAL);
        _issue(2, 2);
        vm.prank(_account(2));
        passports.succeedBy(_ids(1, 1), _ids(2, 1), NOW, "cells");
        _snap("succeedBy: one of one");
    }

    function test_FiftyPacksInOneCall() public {
        IBatteryPassport.Entry[] memory entries = new IBatteryPassport.Entry[](RECORDS);
        for (uint256 i = 0; i < RECORDS; ++i) {
            uint256 id = uint256(keccak256(abi.encode(i)));
            _issue(id, 1);
            entries[i] = _entry(id, IBatteryPassport.Kind.CHARGED, IBatteryPassport.Status.ORIGINAL, NOW);
        }
        vm.prank(_account(1));
        passports.append(entries);
        uint256 gasUsed = vm.snapshotGasLastCall("GasPassport", "append: 50 packs");
        vm.snapshotValue("GasPassport", "append: 50 packs, per record", Math.ceilDiv(gasUsed, RECORDS));
    }

    function _snap(string memory name) private {
        vm.snapshotGasLastCall("GasPassport", name);
    }
}
