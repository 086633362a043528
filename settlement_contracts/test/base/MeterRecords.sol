// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Test, Wallet} from "./Test.sol";

/// @notice Meters that sign, written from the texts of OCMF and of the byte table.
abstract contract MeterRecords is Test {
    uint256 internal constant P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551;
    uint256 internal constant K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141;

    function _reading(string memory context, string memory value, string memory unit)
        internal
        pure
        returns (bytes memory)
    {
        return abi.encodePacked(
            '{"TM":"2022-03-27T10:00:00,000+0200 S","TX":"',
            context,
            '","RV":',
            value,
            ',"RI":"01-00:B0.08.00","RU":"',
            unit,
            '","RT":"AC","EF":"","ST":"G"}'
        );
    }

    function _ofRegister(string memory context, string memory value, string memory register)
        internal
        pure
        returns (bytes memory)
    {
        return abi.encodePacked('{"TX":"', context, '","RV":', value, ',"RI":"', register, '","RU":"Wh","ST":"G"}');
    }

    function _payload(bytes memory readings) internal pure returns (bytes memory) {
        return abi.encodePacked(
            '{"FV":"1.0","GI":"Gateway","GS":"EM1","GV":"1.0","PG":"T7","MV":"Acme","MM":"M1","MS":"EM1","MF":"1.0",',
            '"IS":true,"IL":"TRUSTED","IF":["OCPP_RS"],"IT":"NONE","ID":"","CT":"EVSEID","CI":"NL*TNM*E1","RD":[',
            readings,
            "]}"
        );
    }

    function _payload(bytes memory one, bytes memory other) internal pure returns (bytes memory) {
        return _payload(abi.encodePacked(one, ",", other));
    }

    /// @dev A register in Wh as text, in kWh with three decimals.
    function _text(uint256 wh, bool inKWh) internal pure returns (string memory) {
        if (!inKWh) return _decimal(wh);
        string memory rest = _decimal(1000 + wh % 1000);
        return string(abi.encodePacked(_decimal(wh / 1000), ".", _part(bytes(rest), 1, 3)));
    }

    function _decimal(uint256 number) internal pure returns (string memory text) {
        do {
            text = string(abi.encodePacked(uint8(48 + number % 10), text));
            number /= 10;
        } while (number != 0);
    }

    function _part(bytes memory whole, uint256 from, uint256 length) internal pure returns (bytes memory part) {
        part = new bytes(length);
        for (uint256 i = 0; i < length; ++i) {
            part[i] = whole[from + i];
        }
    }

    // RECORDS

    /// @dev A record whose signatures nobody looks at.
    function _record(bytes memory payload) internal pure returns (bytes memory) {
        return _pack(2, new bytes(64), payload, new bytes(64));
    }

    function _record(bytes memory one, bytes memory other) internal pure returns (bytes memory) {
        return bytes.concat(_record(one), _signed(other, new bytes(64)));
    }

    function _pack(uint8 curve, bytes memory key, bytes memory payload, bytes memory signature)
        internal
        pure
        returns (bytes memory)
    {
        return bytes.concat(abi.encodePacked(curve, uint8(key.length), key), _signed(payload, signature));
    }

    function _signed(bytes memory payload, bytes memory signature) internal pure returns (bytes memory) {
        return abi.encodePacked(uint32(payload.length), payload, uint8(signature.length), signature);
    }

    // SIGNATURES

    function _sign(uint8 curve, uint256 secret, bytes memory payload) internal pure returns (bytes memory) {
        if (curve == 1) {
            (bytes32 r, bytes32 s) = vm.signP256(secret, sha256(payload));
            return bytes.concat(r, s);
        }
        (, bytes32 rK1, bytes32 sK1) = vm.sign(secret, sha256(payload));
        return bytes.concat(rK1, sK1);
    }

    function _publicKey(uint8 curve, uint256 secret) internal view returns (bytes memory) {
        if (curve == 1) {
            (uint256 x, uint256 y) = vm.publicKeyP256(secret);
            return bytes.concat(bytes32(x), bytes32(y));
        }
        Wallet memory wallet = vm.createWallet(secret);
        return bytes.concat(bytes32(wallet.publicKeyX), bytes32(wallet.publicKeyY));
    }

    /// @dev The other s that holds.
    function _mirrored(bytes memory signature, uint256 order) internal pure returns (bytes memory) {
        uint256 s = uint256(bytes32(_part(signature, 32, 32)));
        return bytes.concat(bytes32(_part(signature, 0, 32)), bytes32(order - s));
    }
}
