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
                // Each node is written where both its children have been read: places 0 to pairs - 1.
                assembly ("memory-safe") {
                    let free := mload(0x40)
                    let child := add(nodes, 0x20)
                    let end := add(child, shl(5, pairs))
                    mstore8(free, 0x01)
                    for { let parent := child } lt(parent, end) { parent := add(parent, 0x20) } {
                        mcopy(add(free, 0x01), child, 0x40)
                        mstore(parent, keccak256(free, 0x41))
                        child := add(child, 0x40)
                    }
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
