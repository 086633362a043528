// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice A set of positions 0 to 255 in a batch: bit i stands for the pair at position i.
type PairSet is uint256;

using PairSets for PairSet global;

/// @notice What can be asked of a `PairSet`.
library PairSets {
    /// @notice The set without members.
    PairSet internal constant NONE = PairSet.wrap(0);

    /// @notice Positions 0 to `count` - 1; `count` is 1 to 256.
    function first(uint256 count) internal pure returns (PairSet) {
        return PairSet.wrap(type(uint256).max >> (256 - count));
    }

    /// @notice Whether the set has no member.
    function isEmpty(PairSet self) internal pure returns (bool) {
        return PairSet.unwrap(self) == 0;
    }

    /// @notice Whether position `index` is a member.
    function contains(PairSet self, uint256 index) internal pure returns (bool) {
        return (PairSet.unwrap(self) >> index) & 1 == 1;
    }

    /// @notice The set with position `index` (below 256) added.
    function with(PairSet self, uint256 index) internal pure returns (PairSet) {
        return PairSet.wrap(PairSet.unwrap(self) | (1 << index));
    }

    /// @notice Members of both sets.
    function and(PairSet self, PairSet other) internal pure returns (PairSet) {
        return PairSet.wrap(PairSet.unwrap(self) & PairSet.unwrap(other));
    }

    /// @notice Members of either set.
    function or(PairSet self, PairSet other) internal pure returns (PairSet) {
        return PairSet.wrap(PairSet.unwrap(self) | PairSet.unwrap(other));
    }

    /// @notice Members of one of the two sets.
    function xor(PairSet self, PairSet other) internal pure returns (PairSet) {
        return PairSet.wrap(PairSet.unwrap(self) ^ PairSet.unwrap(other));
    }

    /// @notice Whether both have the same members.
    function equals(PairSet self, PairSet other) internal pure returns (bool) {
        return PairSet.unwrap(self) == PairSet.unwrap(other);
    }

    /// @notice Members that `other` does not have.
    function without(PairSet self, PairSet other) internal pure returns (PairSet) {
        return PairSet.wrap(PairSet.unwrap(self) & ~PairSet.unwrap(other));
    }
}
