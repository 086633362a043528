// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {SettlementDisputes} from "./SettlementDisputes.sol";
import {IArbiter} from "./interfaces/IArbiter.sol";
import {IDisputeResolver} from "./interfaces/IDisputeResolver.sol";
import {PairStatement} from "./types/PairStatement.sol";
import {Place} from "./types/Place.sol";

/// @notice The arbiter by default: whoever holds ARBITER_ROLE decides, by what the parties show off chain.
contract RoleArbiter is IArbiter, AccessControl {
    /// @notice Who decides.
    bytes32 public constant ARBITER_ROLE = keccak256("ARBITER_ROLE");

    constructor(address admin) {
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    /// @inheritdoc IArbiter
    function take(bytes32 id, int64 statedE4, int64 claimedE4, uint40 deadline) external {
        emit QuarrelTaken(msg.sender, id, statedE4, claimedE4, deadline);
    }

    /// @notice Decides a quarrel. Only for ARBITER_ROLE.
    /// @param ruledE4 What the CDR costs, between what is stated and what is claimed.
    function rule(IDisputeResolver resolver, bytes32 id, int64 ruledE4) external onlyRole(ARBITER_ROLE) {
        resolver.rule(id, ruledE4);
    }

    /// @notice Decides a challenge that no proof decides. Only for ARBITER_ROLE.
    /// @param isUpheld Whether the statement is taken out; else it counts as accepted.
    function ruleOnChallenge(
        SettlementDisputes disputes,
        PairStatement calldata statement,
        Place calldata place,
        bool isUpheld
    ) external onlyRole(ARBITER_ROLE) {
        disputes.ruleOnChallenge(statement, place, isUpheld);
    }
}
