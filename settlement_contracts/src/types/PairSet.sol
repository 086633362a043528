// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @notice A set of positions 0 to 255 in a batch: bit i stands for the pair at position i.
type PairSet is uint256;

using PairSets for PairSet global;

/// @notice What can be asked of a `PairSet`.
library PairSets {
    /// @notice The set without members.
    PairSet internal constant NONE = PairSet.wrap(0);

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
        return PairSet.wrap(PairSet.unwrap(self) | (uint256(1) << index));
    }

    /// @notice Members of both sets.
    function and(PairSet self, PairSet other) internal pure returns (PairSet) {
        return PairSet.wrap(PairSet.unwrap(self) & PairSet.unwrap(other));
    }

    /// @notice Members of either set.
    function or(PairSet self, PairSet other) internal pure returns (PairSet) {
        return PairSet.wrap(PairSet.unwrap(self) | PairSet.unwrap(other));
    }

    /// @notice Members that `other` does not have.
    function without(PairSet self, PairSet other) internal pure returns (PairSet) {
        return PairSet.wrap(PairSet.unwrap(self) & ~PairSet.unwrap(other));
    }

    /// @notice The lowest member; 0 if there is none.
    function lowest(PairSet self) internal pure returns (uint256) {
        unchecked {
            uint256 bits = PairSet.unwrap(self);
            return Math.log2(bits & (0 - bits));
        }
    }

    /// @notice The set without its lowest member.
    function withoutLowest(PairSet self) internal pure returns (PairSet) {
        unchecked {
            uint256 bits = PairSet.unwrap(self);
            return PairSet.wrap(bits & (bits - 1));
        }
    }
}
