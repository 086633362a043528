// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Names an agreement within a book, from the highest bits down: cpo u24, kind u4, number u12, msp u24.
/// Agreements of one CPO with neighbouring MSPs have neighbouring keys, so that they share words of storage.
type AgreementKey is uint64;

using AgreementKeys for AgreementKey global;

/// @notice Packs a key; each value must fit its field.
function packAgreementKey(uint32 cpo, uint8 kind, uint16 number, uint32 msp) pure returns (AgreementKey) {
    return AgreementKey.wrap((uint64(cpo) << 40) | (uint64(kind) << 36) | (uint64(number) << 24) | msp);
}

/// @notice Reads an `AgreementKey`.
library AgreementKeys {
    /// @notice Party number of the CPO: who is paid on balance.
    function cpo(AgreementKey self) internal pure returns (uint32) {
        return uint32(AgreementKey.unwrap(self) >> 40);
    }

    /// @notice What is settled, as {ISettlementBook-Kind} counts.
    function kind(AgreementKey self) internal pure returns (uint8) {
        return uint8(AgreementKey.unwrap(self) >> 36) & 0xf;
    }

    /// @notice Which of the pair's agreements of this kind.
    function number(AgreementKey self) internal pure returns (uint16) {
        return uint16(AgreementKey.unwrap(self) >> 24) & 0xfff;
    }

    /// @notice Party number of the MSP: who pays on balance.
    function msp(AgreementKey self) internal pure returns (uint32) {
        return uint32(AgreementKey.unwrap(self)) & 0xffffff;
    }
}
