// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPartyRegistry} from "../../src/interfaces/IPartyRegistry.sol";
import {Settlement} from "../base/Settlement.sol";

contract AttestTest is Settlement {
    address private constant OTHER_ISSUER = address(0x155);

    function setUp() public override {
        super.setUp();
        _registerParties(1);
        registry.grantRole(registry.issuerRole("NL"), OTHER_ISSUER);
    }

    function test_AnyIssuerOfTheCountryVouchesAnew() public {
        vm.expectEmit(address(registry));
        emit IPartyRegistry.PartyAttested(1, OTHER_ISSUER, uint48(NOW) + 1);
        vm.prank(OTHER_ISSUER);
        registry.attest(1, uint48(NOW) + 1);

        assertEq(registry.entry("NL", _partyId(1)).attestedUntil, NOW + 1, "until");
    }
}
