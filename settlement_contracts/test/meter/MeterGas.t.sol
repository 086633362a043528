// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MeterEvidence} from "../../src/MeterEvidence.sol";
import {MeterRecords} from "../base/MeterRecords.sol";

/// @notice What it costs to judge one record of 400 bytes, as a call of its own, without the precompile.
/// forge-config: default.isolate = true
contract MeterGasTest is MeterRecords {
    function test_OneRecord() public virtual {
        _measure("");
    }

    function _measure(string memory suffix) internal {
        MeterEvidence evidence = new MeterEvidence();
        bytes memory payload = _payload(_reading("B", "2935.600", "kWh"), _reading("E", "2965.611", "kWh"));
        bytes memory signed = _pack(1, _publicKey(1, 7), payload, _sign(1, 7, payload));
        evidence.isSigned(signed);
        vm.snapshotGasLastCall("Meter", string.concat("isSigned: secp256r1", suffix));
        signed[signed.length - 1] ^= 0x01;
        evidence.isSigned(signed);
        vm.snapshotGasLastCall("Meter", string.concat("isSigned: secp256r1, not signed", suffix));
        signed = _pack(2, _publicKey(2, 7), payload, _sign(2, 7, payload));
        evidence.isSigned(signed);
        vm.snapshotGasLastCall("Meter", string.concat("isSigned: secp256k1", suffix));
        evidence.energy(signed);
        vm.snapshotGasLastCall("Meter", string.concat("energy: two readings", suffix));
    }
}

/// @notice The same on a chain with the precompile.
/// forge-config: default.isolate = true
/// forge-config: default.evm_version = "osaka"
contract MeterGasWithPrecompileTest is MeterGasTest {
    function test_OneRecord() public override {
        _measure(", with precompile");
    }
}
