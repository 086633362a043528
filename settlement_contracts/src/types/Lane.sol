// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AgreementKey} from "./AgreementKey.sol";

/// @notice Where an open agreement stands in 32 bits, from the lowest up: lastSequence u24, isOpen, mode u2,
/// isCorrected, hasEnded. Zero: it is not open.
type Lane is uint32;

/// @notice Eight lanes in a word of storage: those of agreements whose keys differ in the three lowest bits.
type Lanes is uint256;

using LaneLibrary for Lane global;
using LanesLibrary for Lanes global;

/// @notice The lane of an agreement that was just opened; `mode` as {ISettlementBook-Mode} counts.
function packLane(uint8 mode) pure returns (Lane) {
    return Lane.wrap((1 << 24) | (uint32(mode) << 25));
}

/// @notice Reads and changes a `Lane`.
library LaneLibrary {
    uint32 private constant CORRECTED = 1 << 27;
    uint32 private constant ENDED = 1 << 28;

    /// @notice Whether the agreement was opened.
    function isOpen(Lane self) internal pure returns (bool) {
        return Lane.unwrap(self) != 0;
    }

    /// @notice How its obligations are met.
    function mode(Lane self) internal pure returns (uint8) {
        return uint8(Lane.unwrap(self) >> 25) & 3;
    }

    /// @notice Whether corrections wait to be met.
    function isCorrected(Lane self) internal pure returns (bool) {
        return Lane.unwrap(self) & CORRECTED != 0;
    }

    /// @notice Whether no statement becomes final any more.
    function hasEnded(Lane self) internal pure returns (bool) {
        return Lane.unwrap(self) & ENDED != 0;
    }

    /// @notice Sequence of the last final statement.
    function lastSequence(Lane self) internal pure returns (uint24) {
        return uint24(Lane.unwrap(self));
    }

    /// @notice The lane after one more final statement, which met the corrections, too.
    function advanced(Lane self) internal pure returns (Lane) {
        // Callers compare the next sequence with a u24 first, so that the lowest field can't run over.
        return Lane.wrap((Lane.unwrap(self) + 1) & ~CORRECTED);
    }

    /// @notice The lane with corrections that wait, or without.
    function corrected(Lane self, bool waiting) internal pure returns (Lane) {
        return Lane.wrap(waiting ? Lane.unwrap(self) | CORRECTED : Lane.unwrap(self) & ~CORRECTED);
    }

    /// @notice The lane after the agreement's end.
    function ended(Lane self) internal pure returns (Lane) {
        return Lane.wrap(Lane.unwrap(self) | ENDED);
    }
}

/// @notice Reads and changes `Lanes`: no agreement's lane but its own.
library LanesLibrary {
    /// @notice The lane of an agreement.
    function laneOf(Lanes self, AgreementKey agreement) internal pure returns (Lane) {
        return Lane.wrap(uint32(Lanes.unwrap(self) >> _shift(agreement)));
    }

    /// @notice The word with another lane for an agreement.
    function with(Lanes self, AgreementKey agreement, Lane lane) internal pure returns (Lanes) {
        uint256 shift = _shift(agreement);
        uint256 cleared = Lanes.unwrap(self) & ~(uint256(type(uint32).max) << shift);
        return Lanes.wrap(cleared | (uint256(Lane.unwrap(lane)) << shift));
    }

    function _shift(AgreementKey agreement) private pure returns (uint256) {
        return (AgreementKey.unwrap(agreement) & 7) << 5;
    }
}
