// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {IPartyRegistry} from "./interfaces/IPartyRegistry.sol";
import {IRootAnchor} from "./interfaces/IRootAnchor.sol";

/// @notice See {IRootAnchor}.
contract RootAnchor is IRootAnchor, AccessControl {
    /// @notice Who anchors for parties that have no account of their own on the chain.
    bytes32 public constant ANCHOR_ROLE = keccak256("ANCHOR_ROLE");

    /// @inheritdoc IRootAnchor
    IPartyRegistry public immutable registry;

    /// @inheritdoc IRootAnchor
    mapping(bytes32 kind => mapping(uint32 party => mapping(uint64 period => bytes32))) public rootOf;

    constructor(IPartyRegistry registry_, address admin) {
        registry = registry_;
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    /// @inheritdoc IRootAnchor
    function anchor(bytes32 kind, uint32 party, uint64 period, bytes32 root) external {
        if (registry.signerOf(party) != msg.sender && !hasRole(ANCHOR_ROLE, msg.sender)) {
            revert RootAnchorNotAllowed(party, msg.sender);
        }
        if (root == 0) revert RootAnchorZeroRoot();
        if (rootOf[kind][party][period] != 0) revert RootAnchorExists(kind, party, period);
        rootOf[kind][party][period] = root;
        emit RootAnchored(kind, party, period, root);
    }
}
