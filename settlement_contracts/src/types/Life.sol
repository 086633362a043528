// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Where a battery's life stands, in one word, so that a record costs one slot; from the lowest bits up:
/// phase u4, status u4, entries u16, happenedAt u40 (unix seconds), head 192 bits.
/// @dev 192 bits of a hash: whoever wants two histories with one head tries 2^96 times.
type Life is uint256;

using Lives for Life global;

/// @notice Packs where a life stands.
function packLife(bytes24 head, uint40 happenedAt, uint16 entries, uint8 status, uint8 phase) pure returns (Life) {
    return Life.wrap(
        (uint256(uint192(head)) << 64) | (uint256(happenedAt) << 24) | (uint256(entries) << 8) | (uint256(status) << 4)
            | phase
    );
}

/// @notice Reads a `Life`.
library Lives {
    /// @notice Hash chain over all entries.
    function head(Life self) internal pure returns (bytes24) {
        return bytes24(uint192(Life.unwrap(self) >> 64));
    }

    /// @notice When the last entry happened.
    function happenedAt(Life self) internal pure returns (uint40) {
        return uint40(Life.unwrap(self) >> 24);
    }

    /// @notice Number of entries.
    function entries(Life self) internal pure returns (uint16) {
        return uint16(Life.unwrap(self) >> 8);
    }

    /// @notice Status since the last entry.
    function status(Life self) internal pure returns (uint8) {
        return uint8(Life.unwrap(self) >> 4) & 15;
    }

    /// @notice Phase since the last entry.
    function phase(Life self) internal pure returns (uint8) {
        return uint8(Life.unwrap(self)) & 15;
    }
}
