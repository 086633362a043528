// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleTree} from "./MerkleTree.sol";

/// @notice What a leaf of the evidence tree says of one CDR. It shows no amount, no person and no place.
/// @param kind 0 for a charge, 1 for a credit: then the energy is what is taken back.
/// @param cdrKey HMAC-SHA256 of the CDR's owner and id under the secret of the pair.
/// @param importWh Energy drawn from the grid, in Wh.
/// @param exportWh Energy fed in, in Wh.
/// @param commitment keccak(0x02 || salt || the canonical evidence record).
/// @param meter Of a charge keccak(0x03 || salt || the meter's signed record), zero where no meter signed; of a credit the
/// key of the charge that it takes back.
struct EvidenceLeaf {
    uint8 kind;
    bytes32 cdrKey;
    uint64 importWh;
    uint64 exportWh;
    bytes32 commitment;
    bytes32 meter;
}

/// @notice The tree for drivers and auditors: Merkle without sums.
library EvidenceTree {
    /// @notice keccak(0x00 || kind u8 || cdrKey || importWh u64 || exportWh u64 || commitment || meter).
    function hash(EvidenceLeaf calldata leaf) internal pure returns (bytes32) {
        return keccak256(
            abi.encodePacked(
                uint8(0x00), leaf.kind, leaf.cdrKey, leaf.importWh, leaf.exportWh, leaf.commitment, leaf.meter
            )
        );
    }

    /// @notice Whether the leaf with hash `leaf` stands at `index` among `count` leaves under `root`.
    function verify(bytes32 root, uint256 count, bytes32 leaf, uint256 index, bytes32[] calldata siblings)
        internal
        pure
        returns (bool)
    {
        (bool shaped, bytes32 reached) = MerkleTree.climb(leaf, index, count, siblings);
        return shaped && reached == root;
    }
}
