// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Where an open agreement stands, in one word, so that a pair costs one slot: from the lowest bits up
/// lastSequence u32, owedE4 i64, discharges u24, creditLimitE4 u64, isCreditLine u8, msp u32, cpo u32.
type Standing is uint256;

using Standings for Standing global;

/// @notice The standing of an agreement that was just opened.
function packStanding(uint32 cpo, uint32 msp, bool isCreditLine, uint64 creditLimitE4) pure returns (Standing) {
    return Standing.wrap(
        (uint256(cpo) << 224) | (uint256(msp) << 192) | (isCreditLine ? 1 << 184 : 0) | (uint256(creditLimitE4) << 120)
    );
}

/// @notice Reads and changes a `Standing`.
library Standings {
    uint256 private constant OWED = uint256(type(uint64).max) << 32;

    /// @notice Whether the agreement was opened: party numbers start at 1.
    function isOpen(Standing self) internal pure returns (bool) {
        return Standing.unwrap(self) != 0;
    }

    /// @notice Party number of the CPO.
    function cpo(Standing self) internal pure returns (uint32) {
        return uint32(Standing.unwrap(self) >> 224);
    }

    /// @notice Party number of the MSP.
    function msp(Standing self) internal pure returns (uint32) {
        return uint32(Standing.unwrap(self) >> 192);
    }

    /// @notice Whether obligations are recorded, not taken from collateral.
    function isCreditLine(Standing self) internal pure returns (bool) {
        return uint8(Standing.unwrap(self) >> 184) != 0;
    }

    /// @notice Most that the MSP may owe, in ten-thousandths of the currency unit.
    function creditLimitE4(Standing self) internal pure returns (uint64) {
        return uint64(Standing.unwrap(self) >> 120);
    }

    /// @notice Number of discharges.
    function discharges(Standing self) internal pure returns (uint24) {
        return uint24(Standing.unwrap(self) >> 96);
    }

    /// @notice What the MSP owes on balance, in ten-thousandths; below zero the CPO owes.
    function owedE4(Standing self) internal pure returns (int64) {
        return int64(uint64(Standing.unwrap(self) >> 32));
    }

    /// @notice Sequence of the last final statement.
    function lastSequence(Standing self) internal pure returns (uint32) {
        return uint32(Standing.unwrap(self));
    }

    /// @notice The standing after one more final statement.
    function advanced(Standing self) internal pure returns (Standing) {
        // Callers compare the next sequence with a u32 first, so that the lowest field can't run over.
        return Standing.wrap(Standing.unwrap(self) + 1);
    }

    /// @notice The standing after one more discharge.
    function discharged(Standing self) internal pure returns (Standing) {
        if (self.discharges() == type(uint24).max) revert StandingTooManyDischarges();
        return Standing.wrap(Standing.unwrap(self) + (1 << 96));
    }

    /// @notice The standing with another amount owed.
    function owing(Standing self, int64 amountE4) internal pure returns (Standing) {
        return Standing.wrap((Standing.unwrap(self) & ~OWED) | (uint256(uint64(amountE4)) << 32));
    }

    /// @notice An agreement takes 2^24 - 1 discharges; then open another.
    error StandingTooManyDischarges();
}
