// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {IConfidentialBook} from "../src/interfaces/IConfidentialBook.sol";
import {SealedStatement} from "../src/types/SealedStatement.sol";
import {Confidential} from "./base/Confidential.sol";
import {ReferenceTrees} from "./base/ReferenceTrees.sol";

/// @notice 10,000 sessions of 100 pairs between 20 parties, from nothing to finality in one call, signatures included and
/// hashes filled up to 128. It is not the parties' first batch.
/// forge-config: default.isolate = true
contract GasConfidentialTest is Confidential {
    uint32 private constant PARTIES = 20;
    uint256 private constant HASHES = 128;
    uint256 private constant SESSIONS = 10_000;

    function setUp() public override {
        super.setUp();
        _registerParties(PARTIES);
        for (uint32 i = 1; i <= PARTIES; ++i) {
            _deposit(i, 1e12);
        }
    }

    function test_OneBatch() public {
        _settle("first");
        _settle("second");
        uint256 gasUsed = vm.snapshotGasLastCall("GasConfidential", "settle: 100 pairs, 20 parties");
        assertTrue(hidden.batch("second") != 0, "it is final");
        vm.snapshotValue("GasConfidential", "per session", Math.ceilDiv(gasUsed, SESSIONS));
    }

    function test_OpeningAStatement() public {
        SealedStatement memory statement = _sealed(2, 1, 1);
        bytes32[] memory hashes = _noise(HASHES);
        hashes[9] = _posted(statement, "salt");
        hidden.settle("b", hashes, _signedNets("b", hashes, new int64[](PARTIES)));
        uint256[] memory signers = new uint256[](PARTIES);
        for (uint32 i = 0; i < PARTIES; ++i) {
            signers[i] = _signerWord(i + 1);
        }
        bytes32[] memory siblings = ReferenceTrees.proof(hashes, 9);
        hidden.isStatementFinal(
            statement, _opening(statement, "salt"), IConfidentialBook.Place("b", 9, HASHES, siblings, signers)
        );
        vm.snapshotGasLastCall("GasConfidential", "isStatementFinal: 20 parties");
        hidden.areAmounts(statement, "salt", "sums", 700, 200);
        vm.snapshotGasLastCall("GasConfidential", "areAmounts");
        hidden.correct(1, 2, 0);
        vm.snapshotGasLastCall("GasConfidential", "correct: nothing");
    }

    function _settle(bytes32 batchId) private {
        bytes32[] memory hashes = _noise(HASHES);
        int64[] memory netsE4 = new int64[](PARTIES);
        for (uint32 i = 0; i < PARTIES; ++i) {
            int64 amountE4 = int64(11_340_000 + uint64(i / 2) * 7919);
            netsE4[i] = i % 2 == 0 ? amountE4 : -amountE4;
        }
        hidden.settle(batchId, hashes, _signedNets(batchId, hashes, netsE4));
    }
}
