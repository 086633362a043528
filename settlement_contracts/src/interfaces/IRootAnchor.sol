// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPartyRegistry} from "./IPartyRegistry.sol";

/// @title Roots recorded without money
/// @notice Records one root per kind, party and period, for ever: delivery receipts of a hub, open sessions, passports.
interface IRootAnchor {
    /// @notice A root was recorded.
    event RootAnchored(bytes32 indexed kind, uint32 indexed party, uint64 indexed period, bytes32 root);

    /// @notice The kind, party and period have a root already.
    error RootAnchorExists(bytes32 kind, uint32 party, uint64 period);

    /// @notice Only the party's signer or ANCHOR_ROLE may anchor for it.
    error RootAnchorNotAllowed(uint32 party, address caller);

    /// @notice A root is not zero.
    error RootAnchorZeroRoot();

    /// @notice Records a root, once.
    /// @param kind What it is a root of, as the parties agree.
    /// @param party Number of the party that it belongs to.
    /// @param period Start of its period, in unix seconds.
    function anchor(bytes32 kind, uint32 party, uint64 period, bytes32 root) external;

    /// @notice The recorded root; 0 if there is none.
    function rootOf(bytes32 kind, uint32 party, uint64 period) external view returns (bytes32);

    /// @notice Where parties are registered.
    function registry() external view returns (IPartyRegistry);
}
