// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice A payment between two parties in one word, from the lowest bits up:
/// amountE4 u64 (ten-thousandths of the currency unit), payee u32, payer u32 (party numbers).
type Transfer is uint256;

using Transfers for Transfer global;

/// @notice Packs a payment of `amountE4` from party `payer` to party `payee`.
function packTransfer(uint32 payer, uint32 payee, uint64 amountE4) pure returns (Transfer) {
    return Transfer.wrap((uint256(payer) << 96) | (uint256(payee) << 64) | amountE4);
}

/// @notice Reads `Transfer`.
library Transfers {
    /// @notice Number of the party that pays.
    function payer(Transfer self) internal pure returns (uint32) {
        return uint32(Transfer.unwrap(self) >> 96);
    }

    /// @notice Number of the party that is paid.
    function payee(Transfer self) internal pure returns (uint32) {
        return uint32(Transfer.unwrap(self) >> 64);
    }

    /// @notice The amount, in ten-thousandths of the currency unit.
    function amountE4(Transfer self) internal pure returns (uint64) {
        return uint64(Transfer.unwrap(self));
    }
}
