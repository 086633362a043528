// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SumNode} from "../../src/trees/SumTree.sol";

/// @notice The trees in another style: recursive, split at the largest power of two below the count (as RFC 6962 does),
/// which gives the same shape as level by level with an odd last node that rises.
library ReferenceTrees {
    function root(bytes32[] memory leaves) internal pure returns (bytes32) {
        return _root(leaves, 0, leaves.length);
    }

    function proof(bytes32[] memory leaves, uint256 index) internal pure returns (bytes32[] memory) {
        return _proof(leaves, 0, leaves.length, index);
    }

    function sumRoot(SumNode[] memory leaves) internal pure returns (SumNode memory) {
        return _sumRoot(leaves, 0, leaves.length);
    }

    function sumProof(SumNode[] memory leaves, uint256 index) internal pure returns (SumNode[] memory) {
        return _sumProof(leaves, 0, leaves.length, index);
    }

    /// @dev Siblings as a contract takes them.
    function pack(SumNode[] memory nodes) internal pure returns (bytes memory packed) {
        for (uint256 i = 0; i < nodes.length; ++i) {
            packed = abi.encodePacked(packed, nodes[i].hash, nodes[i].dueE4, nodes[i].creditE4);
        }
    }

    function _split(uint256 count) private pure returns (uint256 left) {
        left = 1;
        while (left * 2 < count) left *= 2;
    }

    function _root(bytes32[] memory leaves, uint256 from, uint256 count) private pure returns (bytes32) {
        if (count == 1) return leaves[from];
        uint256 left = _split(count);
        return keccak256(abi.encodePacked(hex"01", _root(leaves, from, left), _root(leaves, from + left, count - left)));
    }

    function _proof(bytes32[] memory leaves, uint256 from, uint256 count, uint256 index)
        private
        pure
        returns (bytes32[] memory longer)
    {
        if (count == 1) return new bytes32[](0);
        uint256 left = _split(count);
        bool isLeft = index < left;
        bytes32[] memory below =
            isLeft ? _proof(leaves, from, left, index) : _proof(leaves, from + left, count - left, index - left);
        longer = new bytes32[](below.length + 1);
        for (uint256 i = 0; i < below.length; ++i) {
            longer[i] = below[i];
        }
        longer[below.length] = isLeft ? _root(leaves, from + left, count - left) : _root(leaves, from, left);
    }

    function _sumRoot(SumNode[] memory leaves, uint256 from, uint256 count) private pure returns (SumNode memory) {
        if (count == 1) return leaves[from];
        uint256 left = _split(count);
        SumNode memory l = _sumRoot(leaves, from, left);
        SumNode memory r = _sumRoot(leaves, from + left, count - left);
        bytes memory leftPart = abi.encodePacked(l.hash, l.dueE4, l.creditE4);
        bytes memory rightPart = abi.encodePacked(r.hash, r.dueE4, r.creditE4);
        return
            SumNode(keccak256(bytes.concat(hex"01", leftPart, rightPart)), l.dueE4 + r.dueE4, l.creditE4 + r.creditE4);
    }

    function _sumProof(SumNode[] memory leaves, uint256 from, uint256 count, uint256 index)
        private
        pure
        returns (SumNode[] memory longer)
    {
        if (count == 1) return new SumNode[](0);
        uint256 left = _split(count);
        bool isLeft = index < left;
        SumNode[] memory below =
            isLeft ? _sumProof(leaves, from, left, index) : _sumProof(leaves, from + left, count - left, index - left);
        longer = new SumNode[](below.length + 1);
        for (uint256 i = 0; i < below.length; ++i) {
            longer[i] = below[i];
        }
        longer[below.length] = isLeft ? _sumRoot(leaves, from + left, count - left) : _sumRoot(leaves, from, left);
    }
}
