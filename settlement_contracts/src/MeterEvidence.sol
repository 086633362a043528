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
    address private constant P256_PRECOMPILE = address(0x100);

    bool private immutable HAS_PRECOMPILE = _hasPrecompile();

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
        // slither-disable-next-line uninitialized-local (memory is zero)
        Span[2] memory spans;
        // slither-disable-next-line unused-return (who signed is asked by isSigned)
        (,, uint256 place) = MeterRecord.head(record);
        do {
            bytes calldata payload;
            // slither-disable-next-line unused-return
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
        if (HAS_PRECOMPILE) return _isValid(bytes.concat(digest, signature, key));
        uint256 s = uint256(bytes32(signature[32:]));
        if (s >= P256.N) return false;
        // Meters sign with either of the two s that hold; the library takes the lower alone.
        if (s > P256.N / 2) s = P256.N - s;
        return P256.verifySolidity(digest, bytes32(signature[:32]), bytes32(s), bytes32(key[:32]), bytes32(key[32:]));
    }

    /// @dev Asks the precompile, which answers nothing to what is not signed (EIP-7951).
    function _isValid(bytes memory asked) private view returns (bool) {
        // slither-disable-next-line low-level-calls (a precompile has no interface)
        (bool isAnswered, bytes memory answer) = P256_PRECOMPILE.staticcall(asked);
        return isAnswered && answer.length == 32 && uint256(bytes32(answer)) == 1;
    }

    /// @dev Whether it knows a signature that holds (Wycheproof, ecdsa_secp256r1_sha256_p1363), when this is deployed; a
    /// chain that gets it later goes on in Solidity.
    function _hasPrecompile() private view returns (bool) {
        return _isValid(
            hex"bb5a52f42f9c9261ed4361f59422a1e30036e7c32b270c8807a419feca605023"
            hex"0000000000000000000000000000000000000000000000000000000000000005"
            hex"0000000000000000000000000000000000000000000000000000000000000001"
            hex"a71af64de5126a4a4e02b7922d66ce9415ce88a4c9d25514d91082c8725ac957"
            hex"5d47723c8fbe580bb369fec9c2665d8e30a435b9932645482e7c9f11e872296b"
        );
    }

    function _isByK1(bytes32 digest, bytes calldata key, bytes calldata signature) private pure returns (bool) {
        address signer = address(uint160(uint256(keccak256(key))));
        (bytes32 r, bytes32 s) = (bytes32(signature[:32]), bytes32(signature[32:]));
        return ecrecover(digest, 27, r, s) == signer || ecrecover(digest, 28, r, s) == signer;
    }
}
