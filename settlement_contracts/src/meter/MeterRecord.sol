// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice The signed records of one charge in one byte string: curve u8, key with its length u8, then payload with its
/// length u32 and signature with its length u8, as often as the meter signed. A leaf's `meter` is a commitment to it.
library MeterRecord {
    /// @notice The record ends within a part, or has no payload.
    error MeterRecordCutShort();

    /// @notice keccak(0x03 || salt || record).
    function commitment(bytes32 salt, bytes calldata record) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(uint8(0x03), salt, record));
    }

    /// @notice The curve's code, the key, and where the first payload's length stands.
    function head(bytes calldata record) internal pure returns (uint8 curve, bytes calldata key, uint256 place) {
        curve = uint8(bytes1(_slice(record, 0, 1)));
        (key, place) = _sized(record, 1, 1);
    }

    /// @notice The payload whose length stands at `place`, its signature, and where the next one's length stands.
    function signedAt(bytes calldata record, uint256 place)
        internal
        pure
        returns (bytes calldata payload, bytes calldata signature, uint256 next)
    {
        (payload, next) = _sized(record, place, 4);
        (signature, next) = _sized(record, next, 1);
    }

    function _sized(bytes calldata record, uint256 place, uint256 lengthBytes)
        private
        pure
        returns (bytes calldata part, uint256 next)
    {
        uint256 length = uint256(bytes32(_slice(record, place, lengthBytes))) >> (256 - 8 * lengthBytes);
        part = _slice(record, place + lengthBytes, length);
        next = place + lengthBytes + length;
    }

    function _slice(bytes calldata record, uint256 place, uint256 length) private pure returns (bytes calldata) {
        if (place + length > record.length) revert MeterRecordCutShort();
        return record[place:place + length];
    }
}
