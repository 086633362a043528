// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice Begin and end of one register within a charge.
/// @param hasBegin Whether the begin was read.
/// @param hasEnd Whether the end was read.
/// @param isInKWh The unit in which the register was written.
/// @param register Its OBIS code as written, at most 32 bytes; 0 if it has none.
/// @param beginWh Where it stood when the charge began, in whole Wh.
/// @param endWh Where it stood when the charge ended, likewise.
struct Span {
    bool hasBegin;
    bool hasEnd;
    bool isInKWh;
    bytes32 register;
    uint256 beginWh;
    uint256 endWh;
}

/// @notice Reads energy registers out of the payload of an OCMF record (Open Charge Metering Format 1.4.1, table 7), and
/// refuses whatever two readers could read differently: escapes, names that stand twice, numbers with exponents, readings
/// that inherit from the one before, units that change. What it refuses, only an arbiter can judge.
/// @dev It walks through calldata byte by byte; `place` and `end` are positions there. JSON that it skips over is only
/// checked for its strings and brackets.
library OCMFPayload {
    /// @notice Index of the register that counts what is drawn from the grid.
    uint256 internal constant IMPORT = 0;
    /// @notice Index of the register that counts what is fed in (OBIS group C: 2, C0 to C7).
    uint256 internal constant EXPORT = 1;

    uint256 private constant MAX_DIGITS = 18;
    uint256 private constant MAX_DEPTH = 32;
    uint256 private constant RD = 0x5244;
    uint256 private constant TX = 0x5458;
    uint256 private constant RV = 0x5256;
    uint256 private constant RU = 0x5255;
    uint256 private constant RI = 0x5249;
    uint256 private constant ST = 0x5354;
    uint256 private constant EF = 0x4546;

    /// @dev One reading's fields.
    /// @param seen Which names were there: one bit each of TX, RV, RU, RI, ST, EF.
    /// @param digits The number without its point.
    /// @param decimals Digits behind the point.
    struct Reading {
        uint256 seen;
        uint256 context;
        uint256 digits;
        uint256 decimals;
        bool isInKWh;
        bytes32 register;
    }

    /// @notice The payload can't be read without a doubt; `rest` bytes of it follow.
    error OCMFPayloadUnreadable(uint256 rest);

    /// @notice Reads a payload's readings into the two spans of its charge; begins that are there already must agree.
    function read(bytes calldata payload, Span[2] memory spans) internal pure {
        uint256 place;
        uint256 end;
        assembly ("memory-safe") {
            place := payload.offset
            end := add(place, payload.length)
        }
        bool isRead = false;
        uint256 name;
        place = _past(place, end, "{");
        do {
            (name, place) = _name(place, end);
            if (name == RD) {
                if (isRead) _refuse(place, end);
                isRead = true;
                place = _readings(place, end, spans);
            } else {
                place = _skip(place, end);
            }
            (name, place) = _next(place, end);
        } while (name == uint8(bytes1(",")));
        if (name != uint8(bytes1("}")) || !isRead || _space(place, end) != end) _refuse(place, end);
    }

    function _readings(uint256 place, uint256 end, Span[2] memory spans) private pure returns (uint256) {
        uint256 char;
        place = _past(place, end, "[");
        do {
            Reading memory reading;
            (reading, place) = _reading(place, end);
            if (!_enter(reading, spans)) _refuse(place, end);
            (char, place) = _next(place, end);
        } while (char == uint8(bytes1(",")));
        if (char != uint8(bytes1("]"))) _refuse(place, end);
        return place;
    }

    function _reading(uint256 place, uint256 end) private pure returns (Reading memory reading, uint256) {
        uint256 name;
        place = _past(place, end, "{");
        do {
            (name, place) = _name(place, end);
            place = _field(name, place, end, reading);
            (name, place) = _next(place, end);
        } while (name == uint8(bytes1(",")));
        if (name != uint8(bytes1("}"))) _refuse(place, end);
        return (reading, place);
    }

    function _field(uint256 name, uint256 place, uint256 end, Reading memory reading) private pure returns (uint256) {
        uint256 bit;
        if (name == RV) {
            bit = 2;
            (reading.digits, reading.decimals, place) = _number(place, end);
        } else if (name == TX || name == RU || name == RI || name == ST || name == EF) {
            uint256 word;
            uint256 length;
            (word, length, place) = _string(place, end);
            if (name == TX) {
                bit = 1;
                reading.context = length == 1 ? word >> 248 : 0;
            } else if (name == RU) {
                bit = 4;
                reading.isInKWh = length == 3 && bytes3(bytes32(word)) == "kWh";
                if (!reading.isInKWh && !(length == 2 && bytes2(bytes32(word)) == "Wh")) _refuse(place, end);
            } else if (name == RI) {
                bit = 8;
                if (length > 32) _refuse(place, end);
                reading.register = bytes32(word);
            } else if (name == ST) {
                bit = 16;
                if (length != 1 || bytes1(bytes32(word)) != "G") _refuse(place, end);
            } else {
                bit = 32;
                if (length != 0) _refuse(place, end);
            }
        } else {
            return _skip(place, end);
        }
        if (reading.seen & bit != 0) _refuse(place, end);
        reading.seen |= bit;
        return place;
    }

    /// @dev Puts a reading where it belongs; false if something is missing or contradicts what is there.
    function _enter(Reading memory reading, Span[2] memory spans) private pure returns (bool) {
        // Context, value, unit and status must be there; what is left out is never taken from the reading before.
        if (reading.seen & 23 != 23) return false;
        Span memory span = spans[_isExport(reading.register) ? EXPORT : IMPORT];
        bytes1 context = bytes1(uint8(reading.context));
        bool isBegin = context == "B";
        if (!isBegin && (context == "C" || context == "T" || context == "S")) return true;
        if (!isBegin && context != "E" && context != "L" && context != "R" && context != "A" && context != "P") {
            return false;
        }
        if ((span.hasBegin || span.hasEnd) && (span.isInKWh != reading.isInKWh || span.register != reading.register)) {
            return false;
        }
        (span.isInKWh, span.register) = (reading.isInKWh, reading.register);
        uint256 wh = _wholeWh(reading);
        if (isBegin) {
            if (span.hasBegin && span.beginWh != wh) return false;
            (span.hasBegin, span.beginWh) = (true, wh);
        } else {
            if (span.hasEnd && span.endWh != wh) return false;
            (span.hasEnd, span.endWh) = (true, wh);
        }
        return true;
    }

    /// @dev Rounds half to even, as energy is rounded everywhere.
    function _wholeWh(Reading memory reading) private pure returns (uint256 wh) {
        uint256 scale = 10 ** reading.decimals;
        uint256 scaled = reading.digits * (reading.isInKWh ? 1000 : 1);
        wh = scaled / scale;
        uint256 rest = 2 * (scaled % scale);
        if (rest > scale || (rest == scale && wh % 2 == 1)) ++wh;
    }

    /// @dev `1-0:2.8.0`, `01-00:C2.08.00` and the like; everything else counts what is drawn.
    function _isExport(bytes32 register) private pure returns (bool) {
        uint256 i = register[0] == "0" ? 1 : 0;
        if (register[i] != "1" || register[i + 1] != "-") return false;
        i += register[i + 3] == ":" ? 4 : 5;
        if (register[i - 1] != ":") return false;
        bytes1 char = register[i];
        if (char == "C" || char == "c") {
            return register[i + 1] >= "0" && register[i + 1] <= "7" && register[i + 2] == ".";
        }
        if (char == "0") char = register[++i];
        return char == "2" && register[i + 1] == ".";
    }

    // JSON

    /// @dev A member's name, as a number if it has two letters, and where its value begins.
    function _name(uint256 place, uint256 end) private pure returns (uint256 name, uint256) {
        uint256 word;
        uint256 length;
        (word, length, place) = _string(place, end);
        return (length == 2 ? word >> 240 : 0, _past(place, end, ":"));
    }

    /// @dev A string's first 32 bytes, followed by zeros, its length, and where it is over.
    function _string(uint256 place, uint256 end) private pure returns (uint256 word, uint256 length, uint256) {
        place = _past(place, end, '"');
        uint256 begin = place;
        unchecked {
            while (true) {
                uint256 char = _char(place);
                if (place >= end || char < 0x20 || char == 0x5c) _refuse(place, end); // control character, backslash
                if (char == 0x22) break;
                ++place;
            }
            length = place - begin;
            assembly ("memory-safe") {
                word := calldataload(begin)
            }
            if (length < 32) word = length == 0 ? 0 : word >> (256 - 8 * length) << (256 - 8 * length);
            return (word, length, place + 1);
        }
    }

    /// @dev A number without sign and exponent, as digits of which `decimals` stand behind the point.
    function _number(uint256 place, uint256 end) private pure returns (uint256 digits, uint256 decimals, uint256) {
        place = _space(place, end);
        uint256 begin = place;
        uint256 point = 0;
        unchecked {
            for (; place < end; ++place) {
                uint256 char = _char(place);
                if (char == 0x2e && point == 0) {
                    point = place;
                } else if (char >= 0x30 && char <= 0x39) {
                    digits = 10 * digits + char - 0x30;
                } else {
                    break;
                }
            }
            uint256 length = place - begin;
            decimals = point == 0 ? 0 : place - point - 1;
            bool leadsWithZero = _char(begin) == 0x30 && length > 1 && point != begin + 1;
            bool isBare = length == 0 || point == begin || (point != 0 && decimals == 0);
            if (isBare || leadsWithZero || length > MAX_DIGITS + 1) _refuse(place, end);
        }
        return (digits, decimals, place);
    }

    /// @dev Where a value that nobody asks about is over.
    function _skip(uint256 place, uint256 end) private pure returns (uint256) {
        place = _space(place, end);
        uint256 depth = 0;
        uint256 kinds = 0; // one bit for each bracket that is open: 1 for an object
        unchecked {
            while (true) {
                if (place >= end) _refuse(place, end);
                uint256 char = _char(place);
                if (char == 0x22) {
                    (,, place) = _string(place, end);
                } else if (char == 0x7b || char == 0x5b) {
                    if (++depth > MAX_DEPTH) _refuse(place, end);
                    kinds = (kinds << 1) | (char == 0x7b ? 1 : 0);
                    ++place;
                    continue;
                } else if (char == 0x7d || char == 0x5d) {
                    if (depth == 0 || kinds & 1 != (char == 0x7d ? 1 : 0)) _refuse(place, end);
                    --depth;
                    kinds >>= 1;
                    ++place;
                } else if (depth != 0) {
                    ++place;
                    continue;
                } else {
                    return _literal(place, end);
                }
                if (depth == 0) return place;
            }
        }
        return place;
    }

    /// @dev Where a number, `true`, `false` or `null` is over.
    function _literal(uint256 place, uint256 end) private pure returns (uint256) {
        uint256 begin = place;
        unchecked {
            for (; place < end; ++place) {
                uint256 char = _char(place);
                bool isPart = (char >= 0x30 && char <= 0x39) || (char >= 0x61 && char <= 0x7a) || char == 0x2e
                    || char == 0x2b || char == 0x2d || char == 0x45;
                if (!isPart) break;
            }
        }
        if (place == begin) _refuse(place, end);
        return place;
    }

    /// @dev The next character that is no space, and where it is over.
    function _next(uint256 place, uint256 end) private pure returns (uint256, uint256) {
        place = _space(place, end);
        if (place >= end) _refuse(place, end);
        return (_char(place), place + 1);
    }

    function _past(uint256 place, uint256 end, bytes1 expected) private pure returns (uint256) {
        uint256 char;
        (char, place) = _next(place, end);
        if (char != uint8(expected)) _refuse(place, end);
        return place;
    }

    function _space(uint256 place, uint256 end) private pure returns (uint256) {
        unchecked {
            while (place < end) {
                uint256 char = _char(place);
                if (char != 0x20 && char != 0x0a && char != 0x0d && char != 0x09) break;
                ++place;
            }
        }
        return place;
    }

    function _char(uint256 place) private pure returns (uint256 char) {
        assembly ("memory-safe") {
            char := byte(0, calldataload(place))
        }
    }

    function _refuse(uint256 place, uint256 end) private pure {
        revert OCMFPayloadUnreadable(place < end ? end - place : 0);
    }
}
