// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice A node of the sum tree.
/// @param hash Hash over everything below.
/// @param dueE4 Sum of what the MSP owes, in ten-thousandths of the currency unit.
/// @param creditE4 Sum of what the CPO owes, likewise.
struct SumNode {
    bytes32 hash;
    uint64 dueE4;
    uint64 creditE4;
}

/// @notice The tree for the two parties alone: Merkle-sum. A proof shows the amounts of neighbours.
library SumTree {
    /// @notice Bytes of a sibling in a proof: hash, due u64, credit u64.
    uint256 internal constant NODE_BYTES = 48;

    /// @notice keccak(0x00 || evidence leaf || dueE4 u64 || creditE4 u64), with the leaf's own amounts as sums.
    function leafNode(bytes32 evidenceLeaf, uint64 dueE4, uint64 creditE4) internal pure returns (SumNode memory) {
        return SumNode({
            hash: keccak256(abi.encodePacked(uint8(0x00), evidenceLeaf, dueE4, creditE4)),
            dueE4: dueE4,
            creditE4: creditE4
        });
    }

    /// @notice Whether `leaf` stands at `index` among `count` leaves under `root`, sums included.
    /// A node is keccak(0x01 || left hash || left due u64 || left credit u64 || the same of right), with sums added.
    /// @param siblings Nodes beside the path, from the bottom up, NODE_BYTES each.
    function verify(SumNode memory root, uint256 count, SumNode memory leaf, uint256 index, bytes calldata siblings)
        internal
        pure
        returns (bool)
    {
        if (index >= count) return false;
        bytes32 hash = leaf.hash;
        // Wider than a node's, and they only grow: sums that outgrow 64 bits are no root's.
        uint256 dueE4 = leaf.dueE4;
        uint256 creditE4 = leaf.creditE4;
        uint256 used = 0;
        unchecked {
            for (uint256 width = count; width > 1; width = width / 2 + width % 2) {
                // An odd last node has no sibling and rises unchanged.
                if (index + 1 != width || width % 2 == 0) {
                    if (used + NODE_BYTES > siblings.length) return false;
                    uint256 sums;
                    (hash, sums) = _parent(hash, dueE4, creditE4, index % 2 == 1, siblings, used);
                    dueE4 += sums >> 192;
                    creditE4 += uint64(sums >> 128);
                    used += NODE_BYTES;
                }
                index /= 2;
            }
        }
        return used == siblings.length && hash == root.hash && dueE4 == root.dueE4 && creditE4 == root.creditE4;
    }

    /// @dev Hashes a node with the sibling that lies at `offset`, whose sums come back in the upper half of a word.
    function _parent(
        bytes32 hash,
        uint256 dueE4,
        uint256 creditE4,
        bool isRight,
        bytes calldata siblings,
        uint256 offset
    ) private pure returns (bytes32 parent, uint256 sums) {
        assembly ("memory-safe") {
            let free := mload(0x40)
            let own := add(free, add(1, mul(isRight, 48)))
            mstore8(free, 0x01)
            mstore(own, hash)
            mstore(add(own, 0x20), or(shl(192, dueE4), shl(128, creditE4)))
            // After the node itself, for its second word may reach into its right neighbour.
            let sibling := add(siblings.offset, offset)
            calldatacopy(add(free, add(1, mul(iszero(isRight), 48))), sibling, 48)
            sums := calldataload(add(sibling, 0x20))
            parent := keccak256(free, 97)
        }
    }
}
