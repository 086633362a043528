// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AgreementKey} from "./AgreementKey.sol";

/// @notice How much more the MSP may owe under each of four agreements, whose keys differ in the two lowest bits; in
/// ten-thousandths, u64 each. What it owes is its limit less this.
type Rooms is uint256;

using RoomsLibrary for Rooms global;

/// @notice Reads and changes `Rooms`.
library RoomsLibrary {
    /// @notice The room under an agreement.
    function roomOf(Rooms self, AgreementKey agreement) internal pure returns (uint64) {
        return uint64(Rooms.unwrap(self) >> _shift(agreement));
    }

    /// @notice The word with another room for an agreement.
    function with(Rooms self, AgreementKey agreement, uint64 roomE4) internal pure returns (Rooms) {
        uint256 shift = _shift(agreement);
        uint256 cleared = Rooms.unwrap(self) & ~(uint256(type(uint64).max) << shift);
        return Rooms.wrap(cleared | (uint256(roomE4) << shift));
    }

    function _shift(AgreementKey agreement) private pure returns (uint256) {
        return (AgreementKey.unwrap(agreement) & 3) << 6;
    }
}
