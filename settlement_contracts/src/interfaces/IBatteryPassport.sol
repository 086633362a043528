// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC721} from "@openzeppelin/contracts/token/ERC721/IERC721.sol";
import {Happening} from "../types/Happening.sol";
import {Signature} from "../types/Signature.sol";

/// @title The life of batteries
/// @notice One ERC-721 token per battery: who has custody, its status, its phase, and a hash chain over its life. What
/// happened lies off chain; a commitment to it lies here. Custody changes hands with both sides' signatures alone: the
/// token's own transfers and approvals are refused.
interface IBatteryPassport is IERC721 {
    /// @notice Status of a battery, in the words of Regulation (EU) 2023/1542, Annex XIII.
    enum Status {
        ORIGINAL,
        REPURPOSED,
        REUSED,
        REMANUFACTURED,
        WASTE
    }

    /// @notice What can happen to a battery in which phase.
    /// STORED: in no vehicle and no station. INSTALLED: in one. RETIRED: out of use. SUCCEEDED: other batteries were made of
    /// it. RECYCLED: the end.
    enum Phase {
        STORED,
        INSTALLED,
        RETIRED,
        SUCCEEDED,
        RECYCLED
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
        RECYCLED,
        SUCCEEDED,
        MADE_OF
    }

    /// @notice A passport.
    /// @param head Hash chain: the first 24 bytes of keccak(former head padded with zeros to 32 bytes, id, what,
    /// commitment), each a 32-byte word; `what` as it is told.
    /// @param happenedAt When the last entry happened (unix seconds).
    /// @param entries Number of entries.
    /// @param status Status since the last entry.
    /// @param phase Phase since the last entry.
    struct Passport {
        bytes24 head;
        uint40 happenedAt;
        uint16 entries;
        Status status;
        Phase phase;
    }

    /// @notice Something that happened to a battery.
    /// @param id The battery.
    /// @param what Kind, status from then on (another only with SECOND_LIFE, RETIRED and RECYCLED), and when.
    /// @param commitment keccak(0x02 || salt || canonical record).
    struct Entry {
        uint256 id;
        Happening what;
        bytes32 commitment;
    }

    /// @notice Something happened to a battery. Its head follows from all of its events.
    /// @param what From the lowest bits up: custodian (160), happenedAt u40, status u8, kind u8.
    event LifecycleRecorded(uint256 indexed id, uint256 what, bytes32 commitment);

    /// @notice Batteries were made of others. Each has an entry that commits to the lists.
    event Succession(bytes32 indexed link, uint256[] from, uint256[] to);

    /// @notice Only the custodian does this.
    error BatteryPassportNotCustodian(uint256 id, address caller);

    /// @notice This does not happen to a battery in its phase, or the custodian alone does not tell it.
    error BatteryPassportOutOfOrder(uint256 id, Phase phase, uint256 kind);

    /// @notice A battery that is waste stays so, a used one is not original again, and a status changes only with
    /// SECOND_LIFE, RETIRED (to waste) and RECYCLED (waste).
    error BatteryPassportUnsuitableStatus(uint256 id, Status from, uint8 to);

    /// @notice Entries stand in the order of time and not in the future.
    error BatteryPassportUnlikelyMoment(uint256 id, uint40 last, uint40 next);

    /// @notice A battery has 65,535 entries at most; roll up what happens daily.
    error BatteryPassportTooManyEntries(uint256 id);

    /// @notice Custody changes hands by `transferCustody` alone.
    error BatteryPassportCustodyNeedsBoth();

    /// @notice The signatures' deadline (unix seconds) has passed.
    error BatteryPassportExpired(uint64 deadline);

    /// @notice The signature is not by this account over these very bytes.
    error BatteryPassportWrongSigner(address account);

    /// @notice A call names 1 to `MAX_TOGETHER` batteries on each side.
    error BatteryPassportUnsuitableCount(uint256 count);

    /// @notice Issues a passport to its first custodian. Only for ISSUER_ROLE.
    /// @param id keccak(salt || unique identifier of ISO/IEC 15459); the salt stays off chain.
    function issue(uint256 id, address custodian, uint40 happenedAt, bytes32 commitment) external;

    /// @notice Appends entries, of one battery or of many, in their order; all or none. Only for the custodian of each.
    /// Who has custody is told by `transferCustody` alone.
    function append(Entry[] calldata entries) external;

    /// @notice Hands batteries over. Anyone may submit it. Each gets an OWNERSHIP entry that commits to the hand-over.
    /// @param nonce The holder's, see `nonceOf`.
    /// @param byHolder Signature by the custodian of all of them over `CustodyTransfer(uint256[] ids,address from,
    /// address to,uint256 nonce,uint64 deadline)`.
    /// @param byReceiver The same by `to`.
    function transferCustody(
        uint256[] calldata ids,
        address to,
        uint256 nonce,
        uint64 deadline,
        Signature calldata byHolder,
        Signature calldata byReceiver
    ) external;

    /// @notice Links retired batteries to those that were made of their cells, each of the ones to all of the others.
    /// Only for the custodian of all.
    /// @param from RETIRED; afterwards they can only be recycled.
    /// @param to Issued and nothing else yet.
    /// @param commitment To the record that says which cells went where.
    function succeedBy(uint256[] calldata from, uint256[] calldata to, uint40 happenedAt, bytes32 commitment) external;

    /// @notice A passport; reverts if there is none.
    function passport(uint256 id) external view returns (Passport memory);

    /// @notice How many hand-overs an account signed as holder; its next one names this number.
    function nonceOf(address holder) external view returns (uint256);
}
