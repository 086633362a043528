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
/// @dev Positions (`place`, `end`) are those of calldata. Of a payload only its readings are read. They are the array
/// behind the one string "RD"; as there is no escape and no object before it, that string is the root's own name.
library OCMFPayload {
    /// @notice Index of the register that counts what is drawn from the grid.
    uint256 internal constant IMPORT = 0;
    /// @notice Index of the register that counts what is fed in (OBIS group C: 2, C0 to C7).
    uint256 internal constant EXPORT = 1;

    uint256 private constant MAX_DIGITS = 18;
    uint256 private constant EACH_BYTE = 0x0101010101010101010101010101010101010101010101010101010101010101;
    uint256 private constant QUOTE = 0x22;
    uint256 private constant TX = 0x5458;
    uint256 private constant RV = 0x5256;
    uint256 private constant RU = 0x5255;
    uint256 private constant RI = 0x5249;
    uint256 private constant ST = 0x5354;
    uint256 private constant EF = 0x4546;

    /// @dev One reading's fields.
    /// @param seen Which names were there: one bit each of TX, RV, RU, RI, ST, EF.
    /// @param context The letter of TX.
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
        (uint256 place, uint256 end) = _readings(payload);
        uint256 char;
        place = _past(place, end, 0x5b); // [
        do {
            Reading memory reading;
            (reading, place) = _reading(place, end);
            if (!_enter(reading, spans)) _refuse(place, end);
            (char, place) = _next(place, end);
        } while (char == 0x2c); // ,
        if (char != 0x5d) _refuse(place, end); // ]
        (char,) = _next(place, end);
        if (char != 0x2c && char != 0x7d) _refuse(place, end); // , or }
    }

    /// @dev Where the value of the root's "RD" begins, and where the payload is over.
    function _readings(bytes calldata payload) private pure returns (uint256 place, uint256 end) {
        uint256 begin;
        assembly ("memory-safe") {
            begin := payload.offset
            end := add(begin, payload.length)
        }
        unchecked {
            if (payload.length < 2 || _char(begin) != 0x7b || _char(end - 1) != 0x7d) _refuse(begin, end); // { and }
            for (uint256 i = begin; i < end; i += 32) {
                uint256 word = _word(i);
                uint256 within = i + 32 > end ? type(uint256).max << (8 * (i + 32 - end)) : type(uint256).max;
                if (_equal(word, 0x5c) & within != 0) _refuse(i, end); // backslash
                uint256 hits = _equal(word, QUOTE) & within;
                if (hits == 0) continue;
                hits &= _equal(_word(i + 1), 0x52) & _equal(_word(i + 2), 0x44) & _equal(_word(i + 3), QUOTE);
                if (hits == 0) continue;
                if (place != 0 || hits & (hits - 1) != 0) _refuse(i, end);
                place = i + _first(hits);
            }
            if (place == 0) _refuse(end, end);
            for (uint256 i = begin + 1; i < place; i += 32) {
                uint256 before = i + 32 > place ? type(uint256).max << (8 * (i + 32 - place)) : type(uint256).max;
                if (_equal(_word(i), 0x7b) & before != 0) _refuse(i, end); // {
            }
            place = _past(place + 4, end, 0x3a); // :
        }
    }

    function _reading(uint256 place, uint256 end) private pure returns (Reading memory reading, uint256) {
        uint256 char;
        uint256 name;
        place = _past(place, end, 0x7b); // {
        do {
            (name, place) = _name(place, end);
            (char, place) = _next(place, end);
            place = char == QUOTE ? _text(name, place, end, reading) : _plain(name, place - 1, end, reading);
            (char, place) = _next(place, end);
        } while (char == 0x2c); // ,
        if (char != 0x7d) _refuse(place, end); // }
        return (reading, place);
    }

    /// @dev A member's name, as a number if it has two letters, else 0, and where its colon is over.
    function _name(uint256 place, uint256 end) private pure returns (uint256 name, uint256) {
        uint256 word = _word(place);
        // `"XX":` in one look, as meters write it
        name = uint16(word >> 232);
        bool isPlain = name >> 8 != QUOTE && uint8(name) != QUOTE;
        if (isPlain && word >> 248 == QUOTE && uint16(word >> 216) == 0x223a) return (name, place + 5);
        uint256 length;
        (word, length, place) = _string(_past(place, end, QUOTE), end);
        return (length == 2 ? word >> 240 : 0, _past(place, end, 0x3a)); // :
    }

    /// @dev Takes a member whose value is a text.
    function _text(uint256 name, uint256 place, uint256 end, Reading memory reading) private pure returns (uint256) {
        uint256 word;
        uint256 length;
        (word, length, place) = _string(place, end);
        if (name == TX) {
            _see(reading, 1, place, end);
            reading.context = length == 1 ? word >> 248 : 0;
        } else if (name == RU) {
            _see(reading, 4, place, end);
            reading.isInKWh = length == 3 && word >> 232 == 0x6b5768;
            if (!reading.isInKWh && !(length == 2 && word >> 240 == 0x5768)) _refuse(place, end);
        } else if (name == RI) {
            _see(reading, 8, place, end);
            if (length > 32) _refuse(place, end);
            reading.register = bytes32(word);
        } else if (name == ST) {
            _see(reading, 16, place, end);
            if (length != 1 || word >> 248 != 0x47) _refuse(place, end); // G, good
        } else if (name == EF) {
            _see(reading, 32, place, end);
            if (length != 0) _refuse(place, end);
        } else if (name == RV) {
            _refuse(place, end);
        }
        return place;
    }

    /// @dev Takes a member whose value is a number or a word.
    function _plain(uint256 name, uint256 place, uint256 end, Reading memory reading) private pure returns (uint256) {
        if (name == RV) {
            _see(reading, 2, place, end);
            (reading.digits, reading.decimals, place) = _number(place, end);
            return place;
        }
        if (name == TX || name == RU || name == RI || name == ST || name == EF) _refuse(place, end);
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

    function _see(Reading memory reading, uint256 bit, uint256 place, uint256 end) private pure {
        if (reading.seen & bit != 0) _refuse(place, end);
        reading.seen |= bit;
    }

    /// @dev Puts a reading where it belongs; false if something is missing or contradicts what is there.
    function _enter(Reading memory reading, Span[2] memory spans) private pure returns (bool) {
        // Context, value, unit and status must be there; what is left out is never taken from the reading before.
        if (reading.seen & 23 != 23) return false;
        Span memory span = spans[_isExport(uint256(reading.register)) ? EXPORT : IMPORT];
        uint256 context = reading.context;
        // C, S and T stand between; E, L, R, A and P end a charge; what comes with X is not to be used.
        if (context == 0x43 || context == 0x53 || context == 0x54) return true;
        bool isBegin = context == 0x42;
        bool isEnd = context == 0x45 || context == 0x4c || context == 0x52 || context == 0x41 || context == 0x50;
        if (!isBegin && !isEnd) return false;
        bool isKnown = span.hasBegin || span.hasEnd;
        if (isKnown && (span.isInKWh != reading.isInKWh || span.register != reading.register)) return false;
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
    function _isExport(uint256 register) private pure returns (bool) {
        if (register >> 248 == 0x30) register <<= 8; // 0
        if (register >> 240 != 0x312d) return false; // 1-
        register <<= uint8(register >> 224) == 0x3a ? 32 : 40; // B and :
        uint256 group = register >> 248;
        if (group == 0x43 || group == 0x63) return uint8(register >> 232) == 0x2e && uint8(register >> 240) - 0x30 < 8;
        if (group == 0x30) register <<= 8;
        return register >> 240 == 0x322e; // 2.
    }

    // JSON

    /// @dev Of a string whose first character stands at `place`: its first 32 bytes, followed by zeros, its length, and
    /// where it is over.
    function _string(uint256 place, uint256 end) private pure returns (uint256 word, uint256 length, uint256) {
        uint256 begin = place;
        word = _word(begin);
        unchecked {
            uint256 hits = _equal(word, QUOTE);
            while (hits == 0) {
                place += 32;
                if (place >= end) _refuse(end, end);
                hits = _equal(_word(place), QUOTE);
            }
            place += _first(hits);
            if (place >= end) _refuse(end, end);
            length = place - begin;
            if (length < 32) word &= ~(type(uint256).max >> (8 * length));
            return (word, length, place + 1);
        }
    }

    /// @dev A number without sign and exponent, as digits of which `decimals` stand behind the point.
    function _number(uint256 place, uint256 end) private pure returns (uint256 digits, uint256 decimals, uint256) {
        uint256 begin = place;
        uint256 point = 0;
        unchecked {
            for (; place < end; ++place) {
                uint256 char = _char(place);
                if (char == 0x2e && point == 0) {
                    point = place;
                } else if (char - 0x30 < 10) {
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

    /// @dev The next character that is no space, and where it is over.
    function _next(uint256 place, uint256 end) private pure returns (uint256 char, uint256) {
        unchecked {
            char = _char(place);
            while (char < 0x21) {
                if (char != 0x20 && char != 0x0a && char != 0x0d && char != 0x09) _refuse(place, end);
                char = _char(++place);
            }
            if (++place > end) _refuse(end, end);
            return (char, place);
        }
    }

    function _past(uint256 place, uint256 end, uint256 expected) private pure returns (uint256) {
        uint256 char;
        (char, place) = _next(place, end);
        if (char != expected) _refuse(place, end);
        return place;
    }

    // WORDS OF BYTES

    function _char(uint256 place) private pure returns (uint256 char) {
        assembly ("memory-safe") {
            char := byte(0, calldataload(place))
        }
    }

    function _word(uint256 place) private pure returns (uint256 word) {
        assembly ("memory-safe") {
            word := calldataload(place)
        }
    }

    /// @dev 0x80 in each byte of `word` that is `char`, else 0x00; no byte carries into its neighbour.
    function _equal(uint256 word, uint256 char) private pure returns (uint256 hits) {
        assembly ("memory-safe") {
            let low := mul(EACH_BYTE, 0x7f)
            let other := xor(word, mul(EACH_BYTE, char))
            hits := not(or(or(add(and(other, low), low), other), low))
        }
    }

    /// @dev The index of the first byte that is not zero; there is one.
    function _first(uint256 hits) private pure returns (uint256 index) {
        assembly ("memory-safe") {
            let shift := shl(7, lt(0xffffffffffffffffffffffffffffffff, hits))
            shift := or(shift, shl(6, lt(0xffffffffffffffff, shr(shift, hits))))
            shift := or(shift, shl(5, lt(0xffffffff, shr(shift, hits))))
            shift := or(shift, shl(4, lt(0xffff, shr(shift, hits))))
            shift := or(shift, shl(3, lt(0xff, shr(shift, hits))))
            index := sub(31, shr(3, shift))
        }
    }

    function _refuse(uint256 place, uint256 end) private pure {
        revert OCMFPayloadUnreadable(place < end ? end - place : 0);
    }
}
