// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DisputeResolver} from "../../src/disputes/DisputeResolver.sol";
import {IDisputeResolver} from "../../src/interfaces/IDisputeResolver.sol";
import {EvidenceLeaf} from "../../src/trees/EvidenceTree.sol";
import {Disputes} from "../base/Disputes.sol";
import {ReferenceTrees} from "../base/ReferenceTrees.sol";

/// @notice What a call on a statement of 10,000 CDRs costs beside its calldata and what its book takes, on a chain with
/// the precompile. `bench` measures whole transactions.
/// forge-config: default.isolate = true
/// forge-config: default.evm_version = "osaka"
contract DisputeGasTest is Disputes {
    uint256 private constant COUNT = 10_000;
    uint256 private constant INDEX = 4_321;

    function test_Proofs() public {
        bytes memory payload = _payload(_reading("B", "2935.600", "kWh"), _reading("E", "2965.610", "kWh"));
        bytes memory record = _pack(1, _publicKey(1, 7), payload, _sign(1, 8, payload));
        (DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory leaf) = _large(record, 2);
        assertEq(leaf.siblings.length, 672, "bytes of a proof");
        resolver.contestSignature(abi.encode(stated), leaf, SALT, record);
        vm.snapshotGasLastCall("Disputes", "contestSignature");
        (stated, leaf) = _large(record, 3);
        resolver.contestEnergy(abi.encode(stated), leaf, SALT, record);
        vm.snapshotGasLastCall("Disputes", "contestEnergy");
        (DisputeResolver.Stated memory later, IDisputeResolver.PlacedLeaf memory again) = _large(record, 4);
        bytes32[] memory siblings = _evidenceProof(leaf.leaf, 3);
        resolver.contestDuplicate(abi.encode(later), again, abi.encode(stated), leaf.leaf, INDEX, siblings);
        vm.snapshotGasLastCall("Disputes", "contestDuplicate");
        EvidenceLeaf memory credit = _leaf("credit");
        (credit.kind, credit.meter) = (1, leaf.leaf.cdrKey);
        (later, again) = _chain(credit, -120_000, 5);
        resolver.contestCredit(abi.encode(later), again, stated.id, leaf.leaf);
        vm.snapshotGasLastCall("Disputes", "contestCredit");
    }

    function test_Quarrels() public {
        (DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory leaf) =
            _chain(_leaf("cdr"), 120_000, 2);
        bytes32 id = _demand(stated, leaf, MSP);
        vm.snapshotGasLastCall("Disputes", "demand");
        resolver.reveal(stated.id, leaf.leaf);
        vm.snapshotGasLastCall("Disputes", "reveal");
        _quarrel(stated, leaf, MSP, 80_000);
        vm.snapshotGasLastCall("Disputes", "quarrel");
        resolver.defend(id, _defence(id, CPO));
        vm.snapshotGasLastCall("Disputes", "defend");
        arbiter.rule(resolver, id, 80_000);
        vm.snapshotGasLastCall("Disputes", "rule");
        (stated, leaf) = _chain(_leaf("hidden"), 120_000, 3);
        id = _demand(stated, leaf, MSP);
        vm.warp(resolver.caseOf(id).deadline + 1);
        resolver.lapse(id);
        vm.snapshotGasLastCall("Disputes", "lapse: a leaf that nobody showed");
    }

    function _large(bytes memory record, uint32 sequence)
        private
        pure
        returns (DisputeResolver.Stated memory, IDisputeResolver.PlacedLeaf memory)
    {
        return _chain(_metered("cdr", record), 120_000, sequence);
    }

    /// @dev A statement of `COUNT` leaves of which only the path to the root is made: siblings are what they are.
    function _chain(EvidenceLeaf memory leaf, int64 netE4, uint32 sequence)
        private
        pure
        returns (DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory placed)
    {
        (stated, placed) = _stating(leaf, netE4, 1, 0, sequence);
        bytes32 hash = stated.sumRoot;
        bytes32 evidenceHash = _hashOf(leaf);
        (uint256 index, uint256 width) = (INDEX, COUNT);
        while (width > 1) {
            bytes32 sibling = keccak256(abi.encode(sequence, width));
            bytes memory own = abi.encodePacked(hash, stated.dueE4, stated.creditE4);
            bytes memory other = abi.encodePacked(sibling, uint64(width * 15_000), uint64(width));
            hash = keccak256(index % 2 == 0 ? bytes.concat(hex"01", own, other) : bytes.concat(hex"01", other, own));
            evidenceHash = index % 2 == 0
                ? keccak256(bytes.concat(hex"01", evidenceHash, sibling))
                : keccak256(bytes.concat(hex"01", sibling, evidenceHash));
            stated.dueE4 += uint64(width * 15_000);
            stated.creditE4 += uint64(width);
            placed.siblings = bytes.concat(placed.siblings, other);
            (index, width) = (index / 2, width / 2 + width % 2);
        }
        (stated.sumRoot, stated.evidenceRoot, stated.count, placed.index) = (hash, evidenceHash, uint32(COUNT), INDEX);
        stated.id = keccak256(abi.encode(hash, sequence));
    }

    function _evidenceProof(EvidenceLeaf memory, uint32 sequence) private pure returns (bytes32[] memory siblings) {
        siblings = new bytes32[](14);
        uint256 width = COUNT;
        for (uint256 i = 0; i < 14; ++i) {
            siblings[i] = keccak256(abi.encode(sequence, width));
            width = width / 2 + width % 2;
        }
    }
}
