// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MeterEvidence} from "../../src/MeterEvidence.sol";
import {IMeterEvidence} from "../../src/interfaces/IMeterEvidence.sol";
import {MeterRecord} from "../../src/meter/MeterRecord.sol";
import {OCMFPayload} from "../../src/meter/OCMFPayload.sol";
import {MeterRecords} from "../base/MeterRecords.sol";

/// @notice Registers are read as written or not at all; signatures are the committed key's or nobody's.
contract MeterEvidenceTest is MeterRecords {
    MeterEvidence internal evidence = new MeterEvidence();

    // ENERGY

    function testFuzz_EnergyIsEndLessBegin(uint64 beginWh, uint64 wh, bool inKWh) public view {
        beginWh = uint64(bound(beginWh, 0, 1e12));
        wh = uint64(bound(wh, 0, 1e12));
        string memory unit = inKWh ? "kWh" : "Wh";
        bytes memory record = _record(
            _payload(_reading("B", _text(beginWh, inKWh), unit), _reading("E", _text(beginWh + wh, inKWh), unit))
        );

        IMeterEvidence.Energy memory read = evidence.energy(record);

        assertTrue(read.hasImport && !read.hasExport, "drawn alone");
        assertEq(read.importWh, wh, "end less begin");
    }

    function test_BeginAndEndMayStandInTwoPayloads() public view {
        bytes memory record = _record(_payload(_reading("B", "1.000", "kWh")), _payload(_reading("E", "3.500", "kWh")));

        assertEq(evidence.energy(record).importWh, 2_500, "Wh");
    }

    function test_ReadingsBetweenAndOtherFieldsDoNotMatter() public view {
        bytes memory payload = abi.encodePacked(
            '{"FV":"1.0", "IF":["}",1.5e3],"IS":true,"ID":null,\n"RD" : [',
            _reading("B", "10", "Wh"),
            ' , {"TM":"t","TX":"C","RV":11,"RU":"Wh","ST":"G","XX":1e5,"YY":null},',
            _reading("R", "15", "Wh"),
            '] , "LC":{"LN":[1,{"a":"}"}],"LI":1.5e3} }'
        );

        assertEq(evidence.energy(_record(payload)).importWh, 5, "Wh");
    }

    function test_WhatIsFedInIsReadApart() public view {
        string[4] memory codes = ["1-0:2.8.0", "01-00:C2.08.00", "1-b:02.8.0", "1-0:c0.8.0"];
        for (uint256 i = 0; i < codes.length; ++i) {
            bytes memory readings = abi.encodePacked(
                _reading("B", "10", "Wh"), ",", _ofRegister("B", "5", codes[i]), ",", _reading("E", "30", "Wh")
            );
            bytes memory payload = _payload(abi.encodePacked(readings, ",", _ofRegister("E", "7", codes[i])));

            IMeterEvidence.Energy memory read = evidence.energy(_record(payload));

            assertTrue(read.hasImport && read.hasExport, codes[i]);
            assertEq(read.importWh, 20, codes[i]);
            assertEq(read.exportWh, 2, codes[i]);
        }
    }

    function test_HalfWattHoursRoundToEven() public view {
        string[5] memory ends = ["0.0005", "0.0015", "0.00251", "0.00249999", "2.5"];
        uint16[5] memory expected = [0, 2, 3, 2, 2_500];
        for (uint256 i = 0; i < ends.length; ++i) {
            bytes memory record = _record(_payload(_reading("B", "0", "kWh"), _reading("E", ends[i], "kWh")));

            assertEq(evidence.energy(record).importWh, expected[i], ends[i]);
        }
    }

    function test_WhatTwoReadersCouldReadDifferentlyIsRefused() public {
        string memory begin = '{"RD":[{"TX":"B","RV":1,"RU":"Wh","ST":"G"}';
        string memory end = ',{"TX":"E","RV":2,"RU":"Wh","ST":"G"}]}';
        _reads(string.concat(begin, end));
        // names twice, escapes, no names, several objects
        _refuses(string.concat('{"RD":[],', _tail(begin), end));
        _refuses(string.concat(_cut(begin), ',"RV":1}', end));
        _refuses(string.concat(_cut(begin), ',"\\u0052V":5}', end));
        _refuses(string.concat(_cut(begin), ',"XX":"\\""}', end));
        _refuses(string.concat(begin, end, " "));
        // a name that is empty or longer is no other name
        _reads(
            string.concat('{"RD":[{"":":","RVX":":",', _tail("{\"TX\":\"B\",\"RV\":1,\"RU\":\"Wh\",\"ST\":\"G\"}"), end)
        );
        // numbers
        string[10] memory numbers =
            ["1e1", "-1", "+1", "01", "1.", ".5", '"1"', "1.2.3", "null", "1234567890123456789012"];
        for (uint256 i = 0; i < numbers.length; ++i) {
            _refuses(string.concat('{"RD":[{"TX":"B","RV":', numbers[i], ',"RU":"Wh","ST":"G"}', end));
        }
        // units, status, error flags, contexts
        _refuses('{"RD":[{"TX":"B","RV":1,"RU":"kWh","ST":"G"},{"TX":"E","RV":2,"RU":"Wh","ST":"G"}]}');
        _refuses('{"RD":[{"TX":"B","RV":1,"RU":"kwh","ST":"G"},{"TX":"E","RV":2,"RU":"kwh","ST":"G"}]}');
        _refuses(string.concat('{"RD":[{"TX":"B","RV":1,"RU":"Wh","ST":"T"}', end));
        _refuses(string.concat('{"RD":[{"TX":"B","RV":1,"RU":"Wh","ST":"G","EF":"E"}', end));
        _refuses(string.concat('{"RD":[{"TX":"X","RV":1,"RU":"Wh","ST":"G"}', end));
        // what is left out is not taken from the reading before
        _refuses(string.concat(begin, ',{"TX":"E","RV":2,"RU":"Wh"}]}'));
        _refuses(string.concat(begin, ',{"TX":"E","RV":2,"ST":"G"}]}'));
        _refuses(string.concat(begin, ',{"RV":2,"RU":"Wh","ST":"G"}]}'));
        _refuses(string.concat(begin, ',{"TX":"E","RU":"Wh","ST":"G"}]}'));
        // another register, another begin, another end
        _refuses(string.concat(begin, ',{"TX":"E","RV":2,"RU":"Wh","ST":"G","RI":"1-0:1.8.0"}]}'));
        _refuses(string.concat(begin, ',{"TX":"B","RV":3,"RU":"Wh","ST":"G"}', end));
        _refuses(string.concat(begin, ',{"TX":"E","RV":3,"RU":"Wh","ST":"G"}', end));
        // an object before the readings, or within one; another "RD"
        _refuses(string.concat('{"A":{},', _tail(begin), end));
        _refuses(string.concat('{"A":"{",', _tail(begin), end));
        _refuses(string.concat('{"A":"RD",', _tail(begin), end));
        _refuses(string.concat('{"RD":[{"TX":"B","RV":1,"RU":"Wh","ST":"G","XX":{}}', end));
        _refuses(string.concat('{"RD":[{"TX":"B","RV":1,"RU":"Wh","ST":"G","XX":[]}', end));
        _refuses('{"X":[{"RD":[{"TX":"B","RV":1,"RU":"Wh","ST":"G"},{"TX":"E","RV":2,"RU":"Wh","ST":"G"}]}]}');
        // brackets
        _refuses(string.concat(begin, ',{"TX":"E","RV":2,"RU":"Wh","ST":"G"}}}'));
        _refuses("{}");
        _refuses('{"A":1}');
        _refuses("");
    }

    function test_WithoutBeginOrEndThereIsNoEnergy() public {
        string[4] memory readings = ["B", "E", "C", ""];
        for (uint256 i = 0; i < readings.length; ++i) {
            bytes memory payload = _payload(_reading(i == 3 ? "B" : readings[i], i == 3 ? "5" : "1", "Wh"));
            if (i == 3) payload = _payload(_reading("B", "5", "Wh"), _reading("E", "4", "Wh"));
            vm.expectRevert(abi.encodeWithSelector(IMeterEvidence.MeterEvidenceNoEnergy.selector));
            evidence.energy(_record(payload));
        }
    }

    // SIGNATURES

    function testFuzz_OnlyTheKeySignsOnEitherCurve(uint256 secret, uint256 flip, bool isR1, bool isHigh) public view {
        (uint256 order, uint8 curve) = isR1 ? (P256_ORDER, 1) : (K1_ORDER, 2);
        secret = bound(secret, 1, order - 1);
        bytes memory payload = _payload(_reading("B", "1", "Wh"), _reading("E", "2", "Wh"));
        bytes memory signature = _sign(curve, secret, payload);
        if (isHigh) signature = _mirrored(signature, order);
        bytes memory key = _publicKey(curve, secret);

        assertTrue(evidence.isSigned(_pack(curve, key, payload, signature)), "signed");
        uint256 bit = flip % 8;
        uint256 where = (flip >> 8) % 3;
        if (where == 0) payload[(flip >> 16) % payload.length] ^= bytes1(uint8(1 << bit));
        if (where == 1) signature[(flip >> 16) % 64] ^= bytes1(uint8(1 << bit));
        if (where == 2) key[(flip >> 16) % 64] ^= bytes1(uint8(1 << bit));
        assertFalse(evidence.isSigned(_pack(curve, key, payload, signature)), "changed");
    }

    function test_EachPayloadMustBeSigned() public view {
        (bytes memory begin, bytes memory end) =
            (_payload(_reading("B", "1", "Wh")), _payload(_reading("E", "2", "Wh")));
        bytes memory key = _publicKey(2, 7);
        bytes memory signed = _pack(2, key, begin, _sign(2, 7, begin));

        assertTrue(evidence.isSigned(bytes.concat(signed, _signed(end, _sign(2, 7, end)))), "both");
        assertFalse(evidence.isSigned(bytes.concat(signed, _signed(end, _sign(2, 8, end)))), "one");
    }

    function test_KeysAndSignaturesOfAnotherLengthSignNothing() public view {
        bytes memory payload = "{}";
        bytes memory signature = _sign(1, 7, payload);
        bytes memory key = _publicKey(1, 7);

        assertTrue(evidence.isSigned(_pack(1, key, payload, signature)), "signed");
        assertFalse(evidence.isSigned(_pack(1, bytes.concat(key, hex"00"), payload, signature)), "longer key");
        assertFalse(evidence.isSigned(_pack(1, key, payload, bytes.concat(signature, hex"00"))), "longer signature");
        assertFalse(evidence.isSigned(_pack(1, key, payload, "")), "no signature");
        assertFalse(evidence.isSigned(_pack(1, key, payload, new bytes(64))), "zero");
        bytes memory beyond = bytes.concat(bytes32(uint256(1)), bytes32(type(uint256).max));
        assertFalse(evidence.isSigned(_pack(1, key, payload, beyond)), "s beyond the order");
    }

    function test_OtherCurvesAreNotJudged() public {
        bytes memory record = _pack(0, _publicKey(1, 7), "{}", new bytes(64));

        vm.expectRevert(abi.encodeWithSelector(IMeterEvidence.MeterEvidenceUnknownCurve.selector, 0));
        evidence.isSigned(record);
    }

    function testFuzz_ARecordThatIsCutShortIsRefused(uint256 length) public {
        bytes memory whole = _pack(2, _publicKey(2, 7), "{}", _sign(2, 7, "{}"));
        bytes memory part = new bytes(bound(length, 0, whole.length - 1));
        for (uint256 i = 0; i < part.length; ++i) {
            part[i] = whole[i];
        }

        vm.expectRevert(abi.encodeWithSelector(MeterRecord.MeterRecordCutShort.selector));
        evidence.isSigned(part);
    }

    function testFuzz_TheCommitmentIsAsWritten(bytes32 salt, bytes calldata record) public view {
        assertEq(evidence.commitment(salt, record), keccak256(bytes.concat(hex"03", salt, record)), "commitment");
    }

    function _reads(string memory payload) private view {
        assertEq(evidence.energy(_record(bytes(payload))).importWh, 1, payload);
    }

    function _refuses(string memory payload) private {
        (bool isRead, bytes memory answer) =
            address(evidence).call(abi.encodeCall(IMeterEvidence.energy, (_record(bytes(payload)))));
        assertFalse(isRead, payload);
        assertEq(uint32(bytes4(answer)), uint32(OCMFPayload.OCMFPayloadUnreadable.selector), payload);
    }

    /// @dev An object without its last brace, and one without its first.
    function _cut(string memory json) private pure returns (string memory) {
        return string(_part(bytes(json), 0, bytes(json).length - 1));
    }

    function _tail(string memory json) private pure returns (string memory) {
        return string(_part(bytes(json), 1, bytes(json).length - 1));
    }
}
