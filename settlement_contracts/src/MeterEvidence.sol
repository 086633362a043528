// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {P256} from "@openzeppelin/contracts/utils/cryptography/P256.sol";
import {IMeterEvidence} from "./interfaces/IMeterEvidence.sol";
import {MeterRecord} from "./meter/MeterRecord.sol";
import {OCMFPayload, Span} from "./meter/OCMFPayload.sol";

/// @notice See {IMeterEvidence}.
contract MeterEvidence is IMeterEvidence {
    uint8 private constant SECP256R1 = 1;
    uint8 private constant SECP256K1 = 2;

    /// @inheritdoc IMeterEvidence
    function commitment(bytes32 salt, bytes calldata record) external pure returns (bytes32) {
        return MeterRecord.commitment(salt, record);
    }

    /// @inheritdoc IMeterEvidence
    function isSigned(bytes calldata record) external view returns (bool) {
        (uint8 curve, bytes calldata key, uint256 place) = MeterRecord.head(record);
        if (curve != SECP256R1 && curve != SECP256K1) revert MeterEvidenceUnknownCurve(curve);
        if (key.length != 64) return false;
        do {
            bytes calldata payload;
            bytes calldata signature;
            (payload, signature, place) = MeterRecord.signedAt(record, place);
            if (signature.length != 64) return false;
            bytes32 digest = sha256(payload);
            if (!(curve == SECP256R1 ? _isByR1(digest, key, signature) : _isByK1(digest, key, signature))) {
                return false;
            }
        } while (place != record.length);
        return true;
    }

    /// @inheritdoc IMeterEvidence
    function energy(bytes calldata record) external pure returns (Energy memory) {
        Span[2] memory spans;
        (,, uint256 place) = MeterRecord.head(record);
        do {
            bytes calldata payload;
            (payload,, place) = MeterRecord.signedAt(record, place);
            OCMFPayload.read(payload, spans);
        } while (place != record.length);
        (bool hasImport, uint64 importWh) = _between(spans[OCMFPayload.IMPORT]);
        (bool hasExport, uint64 exportWh) = _between(spans[OCMFPayload.EXPORT]);
        if (!hasImport && !hasExport) revert MeterEvidenceNoEnergy();
        return Energy({hasImport: hasImport, hasExport: hasExport, importWh: importWh, exportWh: exportWh});
    }

    function _between(Span memory span) private pure returns (bool, uint64) {
        if (!span.hasBegin && !span.hasEnd) return (false, 0);
        if (!span.hasBegin || !span.hasEnd || span.endWh < span.beginWh || span.endWh > type(uint64).max) {
            revert MeterEvidenceNoEnergy();
        }
        return (true, uint64(span.endWh - span.beginWh));
    }

    function _isByR1(bytes32 digest, bytes calldata key, bytes calldata signature) private view returns (bool) {
        uint256 s = uint256(bytes32(signature[32:]));
        if (s >= P256.N) return false;
        // Meters sign with either of the two s that hold; the library takes the lower alone.
        if (s > P256.N / 2) s = P256.N - s;
        return P256.verify(digest, bytes32(signature[:32]), bytes32(s), bytes32(key[:32]), bytes32(key[32:]));
    }

    function _isByK1(bytes32 digest, bytes calldata key, bytes calldata signature) private pure returns (bool) {
        address signer = address(uint160(uint256(keccak256(key))));
        (bytes32 r, bytes32 s) = (bytes32(signature[:32]), bytes32(signature[32:]));
        return ecrecover(digest, 27, r, s) == signer || ecrecover(digest, 28, r, s) == signer;
    }
}
