// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice A positional Merkle tree: the order of leaves is part of the root, and an odd last node rises unchanged.
/// @dev A node's preimage has 65 bytes and starts with 0x01, so that no leaf can pass for a node.
library MerkleTree {
    /// @notice A tree needs a leaf.
    error MerkleTreeEmpty();

    /// @notice keccak(0x01 || left || right).
    function node(bytes32 left, bytes32 right) internal pure returns (bytes32 hash) {
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore8(free, 0x01)
            mstore(add(free, 0x01), left)
            mstore(add(free, 0x21), right)
            hash := keccak256(free, 0x41)
        }
    }

    /// @notice The root over `nodes`, which it overwrites.
    function root(bytes32[] memory nodes) internal pure returns (bytes32) {
        uint256 width = nodes.length;
        if (width == 0) revert MerkleTreeEmpty();
        unchecked {
            while (width > 1) {
                uint256 pairs = width / 2;
                for (uint256 i = 0; i < pairs; ++i) {
                    nodes[i] = node(nodes[2 * i], nodes[2 * i + 1]);
                }
                if (width % 2 == 1) nodes[pairs] = nodes[width - 1];
                width = pairs + width % 2;
            }
        }
        return nodes[0];
    }

    /// @notice The root that a leaf's proof leads to.
    /// @param leaf The leaf's hash.
    /// @param index Its position, from 0.
    /// @param count Number of leaves. The root does not say it, so it must come from where the root comes from.
    /// @param siblings Hashes beside the path, from the bottom up.
    /// @return Whether the proof has the right shape, and the root.
    function climb(bytes32 leaf, uint256 index, uint256 count, bytes32[] calldata siblings)
        internal
        pure
        returns (bool, bytes32)
    {
        if (index >= count) return (false, 0);
        uint256 used = 0;
        unchecked {
            for (uint256 width = count; width > 1; width = width / 2 + width % 2) {
                // An odd last node has no sibling and rises unchanged.
                if (index + 1 != width || width % 2 == 0) {
                    if (used == siblings.length) return (false, 0);
                    bytes32 sibling = siblings[used++];
                    leaf = index % 2 == 0 ? node(leaf, sibling) : node(sibling, leaf);
                }
                index /= 2;
            }
        }
        return (used == siblings.length, leaf);
    }
}
