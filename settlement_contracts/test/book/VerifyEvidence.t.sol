// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EvidenceLeaf} from "../../src/trees/EvidenceTree.sol";
import {AgreementKey} from "../../src/types/AgreementKey.sol";
import {PairFigures, packFigures} from "../../src/types/PairFigures.sol";
import {PairStatement, StatementRoots} from "../../src/types/PairStatement.sol";
import {ReferenceTrees} from "../base/ReferenceTrees.sol";
import {Settlement} from "../base/Settlement.sol";

contract VerifyEvidenceTest is Settlement {
    function testFuzz_EveryLeafIsProved(uint256 count, uint256 index, uint256 seed) public view {
        (EvidenceLeaf[] memory leaves, bytes32[] memory hashes) = _leaves(bound(count, 1, 70), seed);
        index = bound(index, 0, leaves.length - 1);

        assertTrue(_verify(hashes, leaves[index], index, ReferenceTrees.proof(hashes, index)), "proved");
    }

    function testFuzz_AChangedLeafIsRefused(uint256 count, uint256 index, uint256 seed, uint256 change) public view {
        (EvidenceLeaf[] memory leaves, bytes32[] memory hashes) = _leaves(bound(count, 1, 70), seed);
        index = bound(index, 0, leaves.length - 1);
        EvidenceLeaf memory leaf = leaves[index];
        uint256 field = change % 6;
        if (field == 0) leaf.kind ^= 1;
        if (field == 1) leaf.cdrKey ^= bytes32(uint256(1) << (change >> 8) % 256);
        if (field == 2) leaf.importWh ^= uint64(1) << uint64((change >> 8) % 64);
        if (field == 3) leaf.exportWh ^= uint64(1) << uint64((change >> 8) % 64);
        if (field == 4) leaf.commitment ^= bytes32(uint256(1) << (change >> 8) % 256);
        if (field == 5) leaf.meter ^= bytes32(uint256(1) << (change >> 8) % 256);

        assertFalse(_verify(hashes, leaf, index, ReferenceTrees.proof(hashes, index)), "refused");
    }

    function testFuzz_AProofServesItsOwnPlaceOnly(uint256 count, uint256 index, uint256 other, uint256 seed)
        public
        view
    {
        (EvidenceLeaf[] memory leaves, bytes32[] memory hashes) = _leaves(bound(count, 2, 70), seed);
        index = bound(index, 0, leaves.length - 1);
        other = bound(other, 0, leaves.length + 3);
        vm.assume(other != index);

        assertFalse(_verify(hashes, leaves[index], other, ReferenceTrees.proof(hashes, index)), "refused");
    }

    function testFuzz_AProofWithASiblingMoreIsRefused(uint256 count, uint256 index, uint256 seed) public view {
        (EvidenceLeaf[] memory leaves, bytes32[] memory hashes) = _leaves(bound(count, 1, 70), seed);
        index = bound(index, 0, leaves.length - 1);
        bytes32[] memory proof = ReferenceTrees.proof(hashes, index);
        bytes32[] memory longer = new bytes32[](proof.length + 1);
        for (uint256 i = 0; i < proof.length; ++i) {
            longer[i] = proof[i];
        }

        assertFalse(_verify(hashes, leaves[index], index, longer), "refused");
    }

    function _verify(bytes32[] memory hashes, EvidenceLeaf memory leaf, uint256 index, bytes32[] memory proof)
        private
        view
        returns (bool)
    {
        StatementRoots memory roots = StatementRoots(ReferenceTrees.root(hashes), "sums");
        PairFigures figures = packFigures(AgreementKey.wrap(1), 0, 0, uint24(hashes.length), 1, 0);
        return book.verifyEvidence(PairStatement(figures, _rootsHash(roots)), roots, leaf, index, proof);
    }

    function _leaves(uint256 count, uint256 seed)
        private
        pure
        returns (EvidenceLeaf[] memory leaves, bytes32[] memory hashes)
    {
        leaves = new EvidenceLeaf[](count);
        hashes = new bytes32[](count);
        for (uint256 i = 0; i < count; ++i) {
            bytes32 dice = keccak256(abi.encode(seed, i));
            EvidenceLeaf memory leaf = EvidenceLeaf({
                kind: uint8(uint256(dice) % 2),
                cdrKey: dice,
                importWh: uint64(uint256(dice) >> 64),
                exportWh: uint64(uint256(dice) >> 128),
                commitment: keccak256(abi.encode(dice)),
                meter: i % 2 == 0 ? bytes32(0) : keccak256(abi.encode("meter", dice))
            });
            leaves[i] = leaf;
            hashes[i] = keccak256(
                bytes.concat(
                    hex"00",
                    bytes1(leaf.kind),
                    leaf.cdrKey,
                    bytes8(leaf.importWh),
                    bytes8(leaf.exportWh),
                    leaf.commitment,
                    leaf.meter
                )
            );
        }
    }
}
