// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AgreementKey} from "./AgreementKey.sol";

/// @notice The figures of a pair statement in one word, from the highest bits down: agreement u64 (`AgreementKey`),
/// dueE4 u56, creditE4 u56, count u24, sequence u24, periodEnd u32 (unix seconds).
type PairFigures is uint256;

using PairFiguresLibrary for PairFigures global;

/// @notice Packs the figures.
/// @param dueE4 What the MSP owes the CPO, in ten-thousandths of the currency unit.
/// @param creditE4 What the CPO owes the MSP, likewise.
/// @param count Number of CDRs.
/// @param sequence Place among the agreement's statements, from 1.
/// @param periodEnd End of the period, excluded, in unix seconds.
function packFigures(
    AgreementKey agreement,
    uint56 dueE4,
    uint56 creditE4,
    uint24 count,
    uint24 sequence,
    uint32 periodEnd
) pure returns (PairFigures) {
    return PairFigures.wrap(
        (uint256(AgreementKey.unwrap(agreement)) << 192) | (uint256(dueE4) << 136) | (uint256(creditE4) << 80)
            | (uint256(count) << 56) | (uint256(sequence) << 32) | periodEnd
    );
}

/// @notice Reads `PairFigures`.
library PairFiguresLibrary {
    /// @notice The agreement, and with it the two parties and the kind.
    function agreement(PairFigures self) internal pure returns (AgreementKey) {
        return AgreementKey.wrap(uint64(PairFigures.unwrap(self) >> 192));
    }

    /// @notice What the MSP owes the CPO, in ten-thousandths of the currency unit.
    function dueE4(PairFigures self) internal pure returns (uint56) {
        return uint56(PairFigures.unwrap(self) >> 136);
    }

    /// @notice What the CPO owes the MSP, in ten-thousandths of the currency unit.
    function creditE4(PairFigures self) internal pure returns (uint56) {
        return uint56(PairFigures.unwrap(self) >> 80);
    }

    /// @notice Number of CDRs.
    function count(PairFigures self) internal pure returns (uint24) {
        return uint24(PairFigures.unwrap(self) >> 56);
    }

    /// @notice Place among the agreement's statements, from 1.
    function sequence(PairFigures self) internal pure returns (uint24) {
        return uint24(PairFigures.unwrap(self) >> 32);
    }

    /// @notice End of the period, excluded, in unix seconds.
    function periodEnd(PairFigures self) internal pure returns (uint32) {
        return uint32(PairFigures.unwrap(self));
    }

    /// @notice Due less credit: what the MSP owes the CPO on balance, in ten-thousandths of the currency unit.
    function netE4(PairFigures self) internal pure returns (int256) {
        return int256(uint256(self.dueE4())) - int256(uint256(self.creditE4()));
    }
}
