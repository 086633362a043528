// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Who decides what no proof decides
/// @notice A resolver hands its price quarrels to one arbiter, chosen when it was deployed: a person with a role, a panel,
/// an oracle. The arbiter answers by {IDisputeResolver-rule}. Challenges it decides unasked, by
/// {SettlementDisputes-ruleOnChallenge}.
interface IArbiter {
    /// @notice A quarrel was taken.
    event QuarrelTaken(address indexed resolver, bytes32 indexed id, int64 statedE4, int64 claimedE4, uint40 deadline);

    /// @notice Takes a quarrel that both sides put a bond on. Called by the resolver.
    /// @param id The case.
    /// @param statedE4 What the statement says of the CDR, in ten-thousandths; below zero the CPO owes it.
    /// @param claimedE4 What the other side says, likewise.
    /// @param deadline Until when it can be ruled on (unix seconds).
    function take(bytes32 id, int64 statedE4, int64 claimedE4, uint40 deadline) external;
}
