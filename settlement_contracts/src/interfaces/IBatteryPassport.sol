// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC721} from "@openzeppelin/contracts/token/ERC721/IERC721.sol";

/// @title The life of a battery, first form
/// @notice One ERC-721 token per battery: who has custody, its status, and a hash chain over its life. What happened
/// lies off chain; a commitment to it lies here.
interface IBatteryPassport is IERC721 {
    /// @notice Status of a battery, in the words of Regulation (EU) 2023/1542, Annex XIII.
    enum Status {
        ORIGINAL,
        REPURPOSED,
        REUSED,
        REMANUFACTURED,
        WASTE
    }

    /// @notice What happened to a battery.
    enum Kind {
        MANUFACTURED,
        INSTALLED,
        SWAPPED_IN,
        SWAPPED_OUT,
        CHARGED,
        SOH_MEASURED,
        REPAIRED,
        INCIDENT,
        OWNERSHIP,
        RETIRED,
        SECOND_LIFE,
        RECYCLED
    }

    /// @notice A passport.
    /// @param head Hash chain: keccak(former head, kind, status, happenedAt, custodian, commitment), each a 32-byte word.
    /// @param happenedAt When the last entry happened (unix seconds).
    /// @param entries Number of entries.
    /// @param status Status since the last entry.
    /// @param lastKind Kind of the last entry.
    struct Passport {
        bytes32 head;
        uint64 happenedAt;
        uint32 entries;
        Status status;
        Kind lastKind;
    }

    /// @notice Something happened to a battery.
    /// @param commitment keccak(0x02 || salt || canonical record).
    event LifecycleRecorded(
        uint256 indexed id,
        Kind indexed kind,
        Status status,
        uint64 happenedAt,
        address indexed custodian,
        bytes32 commitment,
        bytes32 head
    );

    /// @notice Only the custodian appends.
    error BatteryPassportNotCustodian(uint256 id, address caller);

    /// @notice A life begins with MANUFACTURED, once, and ends with RECYCLED.
    error BatteryPassportOutOfOrder(uint256 id, Kind last, Kind next);

    /// @notice A battery that is waste stays so, and a used one is not original again.
    error BatteryPassportStatusGoesBack(uint256 id, Status from, Status to);

    /// @notice Entries stand in the order of time and not in the future.
    error BatteryPassportUnlikelyMoment(uint256 id, uint64 last, uint64 next);

    /// @notice Issues a passport to its first custodian. Only for ISSUER_ROLE.
    /// @param id keccak(salt || unique identifier of ISO/IEC 15459); the salt stays off chain.
    function issue(uint256 id, address custodian, uint64 happenedAt, bytes32 commitment) external;

    /// @notice Appends an entry. Only for the custodian.
    function append(uint256 id, Kind kind, Status status, uint64 happenedAt, bytes32 commitment) external;

    /// @notice A passport; reverts if there is none.
    function passport(uint256 id) external view returns (Passport memory);
}
