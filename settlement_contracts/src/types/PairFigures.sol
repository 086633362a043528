// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice The figures of a pair statement in one word, from the lowest bits up:
/// periodEnd u40 (unix seconds), sequence u32, count u32, creditE4 u64, dueE4 u64; the 24 highest bits are zero.
type PairFigures is uint256;

using PairFiguresLibrary for PairFigures global;

/// @notice Packs the figures.
/// @param dueE4 What the MSP owes the CPO, in ten-thousandths of the currency unit.
/// @param creditE4 What the CPO owes the MSP, likewise.
/// @param count Number of CDRs.
/// @param sequence Place among the agreement's statements, from 1.
/// @param periodEnd End of the period, excluded, in unix seconds.
function packFigures(uint64 dueE4, uint64 creditE4, uint32 count, uint32 sequence, uint40 periodEnd)
    pure
    returns (PairFigures)
{
    return PairFigures.wrap(
        (uint256(dueE4) << 168) | (uint256(creditE4) << 104) | (uint256(count) << 72) | (uint256(sequence) << 40)
            | periodEnd
    );
}

/// @notice Reads `PairFigures`.
library PairFiguresLibrary {
    /// @notice What the MSP owes the CPO, in ten-thousandths of the currency unit.
    function dueE4(PairFigures self) internal pure returns (uint64) {
        return uint64(PairFigures.unwrap(self) >> 168);
    }

    /// @notice What the CPO owes the MSP, in ten-thousandths of the currency unit.
    function creditE4(PairFigures self) internal pure returns (uint64) {
        return uint64(PairFigures.unwrap(self) >> 104);
    }

    /// @notice Number of CDRs.
    function count(PairFigures self) internal pure returns (uint32) {
        return uint32(PairFigures.unwrap(self) >> 72);
    }

    /// @notice Place among the agreement's statements, from 1.
    function sequence(PairFigures self) internal pure returns (uint32) {
        return uint32(PairFigures.unwrap(self) >> 40);
    }

    /// @notice End of the period, excluded, in unix seconds.
    function periodEnd(PairFigures self) internal pure returns (uint40) {
        return uint40(PairFigures.unwrap(self));
    }

    /// @notice Due less credit: what the MSP owes the CPO on balance, in ten-thousandths of the currency unit.
    function netE4(PairFigures self) internal pure returns (int256) {
        return int256(uint256(self.dueE4())) - int256(uint256(self.creditE4()));
    }

    /// @notice Whether the unused bits are zero and there is a CDR.
    function isWellFormed(PairFigures self) internal pure returns (bool) {
        return PairFigures.unwrap(self) >> 232 == 0 && self.count() != 0;
    }
}
