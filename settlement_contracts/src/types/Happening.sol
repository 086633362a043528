// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice What happened to a battery, in one word, from the lowest bits up: happenedAt u40 (unix seconds), status u8
/// (since then), kind u8; the other bits are zero.
type Happening is uint256;

using Happenings for Happening global;

/// @notice Packs what happened.
function packHappening(uint8 kind, uint8 status, uint40 happenedAt) pure returns (Happening) {
    return Happening.wrap((uint256(kind) << 48) | (uint256(status) << 40) | happenedAt);
}

/// @notice Reads a `Happening`.
library Happenings {
    /// @notice What happened; more than a kind if bits are set that mean nothing.
    function kind(Happening self) internal pure returns (uint256) {
        return Happening.unwrap(self) >> 48;
    }

    /// @notice Status since then.
    function status(Happening self) internal pure returns (uint8) {
        return uint8(Happening.unwrap(self) >> 40);
    }

    /// @notice When, in unix seconds.
    function happenedAt(Happening self) internal pure returns (uint40) {
        return uint40(Happening.unwrap(self));
    }

    /// @notice The word that is told and hashed: what happened above 160 bits of who has custody.
    function by(Happening self, address custodian) internal pure returns (uint256) {
        return (Happening.unwrap(self) << 160) | uint160(custodian);
    }
}
