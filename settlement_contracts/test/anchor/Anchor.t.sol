// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {RootAnchor} from "../../src/RootAnchor.sol";
import {IRootAnchor} from "../../src/interfaces/IRootAnchor.sol";
import {Settlement} from "../base/Settlement.sol";

contract AnchorTest is Settlement {
    RootAnchor private _anchor;

    function setUp() public override {
        super.setUp();
        _registerParties(2);
        _anchor = new RootAnchor(registry, address(this));
    }

    function test_APartyAnchorsItsOwnRoots() public {
        vm.expectEmit(address(_anchor));
        emit IRootAnchor.RootAnchored("deliveries", 1, NOW, "root");
        vm.prank(_signer(1));
        _anchor.anchor("deliveries", 1, NOW, "root");

        assertEq(_anchor.rootOf("deliveries", 1, NOW), "root", "root");
        assertEq(_anchor.rootOf("deliveries", 2, NOW), 0, "another party");
        assertEq(_anchor.rootOf("passports", 1, NOW), 0, "another kind");
        assertEq(_anchor.rootOf("deliveries", 1, NOW + 1), 0, "another period");
    }

    function test_TheAnchorRoleAnchorsForAnyParty() public {
        _anchor.grantRole(_anchor.ANCHOR_ROLE(), address(this));

        _anchor.anchor("deliveries", 2, NOW, "root");

        assertEq(_anchor.rootOf("deliveries", 2, NOW), "root", "root");
    }
}
