// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {IBatteryPassport} from "./interfaces/IBatteryPassport.sol";

/// @notice See {IBatteryPassport}.
contract BatteryPassport is IBatteryPassport, ERC721, AccessControl {
    /// @notice Who issues passports.
    bytes32 public constant ISSUER_ROLE = keccak256("ISSUER_ROLE");

    mapping(uint256 id => Passport) private _passports;

    constructor(address admin) ERC721("Battery passport", "BATTERY") {
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    /// @inheritdoc IBatteryPassport
    function issue(uint256 id, address custodian, uint64 happenedAt, bytes32 commitment)
        external
        onlyRole(ISSUER_ROLE)
    {
        _mint(custodian, id);
        _record(id, Kind.MANUFACTURED, Status.ORIGINAL, happenedAt, commitment);
    }

    /// @inheritdoc IBatteryPassport
    function append(uint256 id, Kind kind, Status status, uint64 happenedAt, bytes32 commitment) external {
        if (_requireOwned(id) != msg.sender) revert BatteryPassportNotCustodian(id, msg.sender);
        Passport storage present = _passports[id];
        if (kind == Kind.MANUFACTURED || present.lastKind == Kind.RECYCLED) {
            revert BatteryPassportOutOfOrder(id, present.lastKind, kind);
        }
        bool goesBack = present.status == Status.WASTE
            ? status != Status.WASTE
            : status == Status.ORIGINAL && present.status != Status.ORIGINAL;
        if (goesBack) revert BatteryPassportStatusGoesBack(id, present.status, status);
        _record(id, kind, status, happenedAt, commitment);
    }

    /// @inheritdoc IBatteryPassport
    function passport(uint256 id) external view returns (Passport memory) {
        _requireOwned(id);
        return _passports[id];
    }

    /// @inheritdoc IERC165
    function supportsInterface(bytes4 interfaceId) public view override(IERC165, ERC721, AccessControl) returns (bool) {
        return interfaceId == type(IBatteryPassport).interfaceId || super.supportsInterface(interfaceId);
    }

    function _record(uint256 id, Kind kind, Status status, uint64 happenedAt, bytes32 commitment) private {
        Passport storage present = _passports[id];
        if (happenedAt < present.happenedAt || happenedAt > block.timestamp) {
            revert BatteryPassportUnlikelyMoment(id, present.happenedAt, happenedAt);
        }
        address custodian = _ownerOf(id);
        bytes32 head = keccak256(abi.encode(present.head, kind, status, happenedAt, custodian, commitment));
        present.head = head;
        present.happenedAt = happenedAt;
        ++present.entries;
        present.status = status;
        present.lastKind = kind;
        emit LifecycleRecorded(id, kind, status, happenedAt, custodian, commitment, head);
    }
}
