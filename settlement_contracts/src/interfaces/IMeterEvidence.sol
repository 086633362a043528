// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title What the signed records of a charge prove
/// @notice Judges a meter's record, in the bytes of {MeterRecord}. It knows no parties and keeps nothing.
interface IMeterEvidence {
    /// @notice What begin and end of a charge's registers say, in whole Wh.
    /// @param hasImport Whether there is a register that counts what is drawn.
    /// @param hasExport Whether there is one that counts what is fed in.
    struct Energy {
        bool hasImport;
        bool hasExport;
        uint64 importWh;
        uint64 exportWh;
    }

    /// @notice Signatures on this curve can't be checked on chain.
    error MeterEvidenceUnknownCurve(uint8 curve);

    /// @notice No register has begin and end, one lacks either, or ran backwards.
    error MeterEvidenceNoEnergy();

    /// @notice What stands for a record in a leaf: keccak(0x03 || salt || record).
    function commitment(bytes32 salt, bytes calldata record) external pure returns (bytes32);

    /// @notice Whether the record's key signed each of its payloads (ECDSA over SHA-256). On secp256r1 by the precompile
    /// of EIP-7951, on chains without it in Solidity; on secp256k1 by ecrecover. A key or signature of another length
    /// than 64 bytes signs nothing.
    function isSigned(bytes calldata record) external view returns (bool);

    /// @notice The energy between begin and end. Reverts if a payload can't be read without a doubt, see {OCMFPayload}.
    /// No signature is looked at.
    function energy(bytes calldata record) external pure returns (Energy memory);
}
