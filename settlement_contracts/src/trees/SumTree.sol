// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice A node of the sum tree.
/// @param hash Hash over everything below.
/// @param dueE4 Sum of what the MSP owes, in ten-thousandths of the currency unit.
/// @param creditE4 Sum of what the CPO owes, likewise.
struct SumNode {
    bytes32 hash;
    uint128 dueE4;
    uint128 creditE4;
}

/// @notice The tree for the two parties alone: Merkle-sum. A proof shows the amounts of neighbours.
library SumTree {
    /// @notice keccak(0x00 || evidence leaf || dueE4 u64 || creditE4 u64), with the leaf's own amounts as sums.
    function leafNode(bytes32 evidenceLeaf, uint64 dueE4, uint64 creditE4) internal pure returns (SumNode memory) {
        return SumNode({
            hash: keccak256(abi.encodePacked(uint8(0x00), evidenceLeaf, dueE4, creditE4)),
            dueE4: dueE4,
            creditE4: creditE4
        });
    }

    /// @notice keccak(0x01 || left hash || left due u128 || left credit u128 || the same of right), with sums added.
    function node(SumNode memory left, SumNode memory right) internal pure returns (SumNode memory) {
        return SumNode({
            hash: keccak256(
                abi.encodePacked(
                    uint8(0x01), left.hash, left.dueE4, left.creditE4, right.hash, right.dueE4, right.creditE4
                )
            ),
            dueE4: left.dueE4 + right.dueE4,
            creditE4: left.creditE4 + right.creditE4
        });
    }

    /// @notice Whether `leaf` stands at `index` among `count` leaves under `root`, sums included.
    /// @param siblings Nodes beside the path, from the bottom up. Sums beyond 128 bits revert.
    function verify(SumNode memory root, uint256 count, SumNode memory leaf, uint256 index, SumNode[] calldata siblings)
        internal
        pure
        returns (bool)
    {
        if (index >= count) return false;
        uint256 used = 0;
        for (uint256 width = count; width > 1; width = width / 2 + width % 2) {
            // An odd last node has no sibling and rises unchanged.
            if (index + 1 != width || width % 2 == 0) {
                if (used == siblings.length) return false;
                SumNode memory sibling = siblings[used++];
                leaf = index % 2 == 0 ? node(leaf, sibling) : node(sibling, leaf);
            }
            index /= 2;
        }
        return
            used == siblings.length && leaf.hash == root.hash && leaf.dueE4 == root.dueE4
                && leaf.creditE4 == root.creditE4;
    }
}
