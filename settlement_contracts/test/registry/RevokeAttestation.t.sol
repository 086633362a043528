// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPartyRegistry} from "../../src/interfaces/IPartyRegistry.sol";
import {Settlement} from "../base/Settlement.sol";

contract RevokeAttestationTest is Settlement {
    function setUp() public override {
        super.setUp();
        _registerParties(1);
    }

    function test_AnIssuerTakesItsWordBackAndMoneyStillMoves() public {
        vm.expectEmit(address(registry));
        emit IPartyRegistry.PartyAttested(1, address(this), 0);
        registry.revokeAttestation(1);

        assertEq(registry.entry("NL", _partyId(1)).attestedUntil, 0, "revoked");
        assertEq(registry.signerOf(1), _signer(1), "what is owed is still signed for");
    }

    function test_AndMayVouchAgain() public {
        registry.revokeAttestation(1);

        registry.attest(1, ATTESTED_UNTIL);

        assertEq(registry.entry("NL", _partyId(1)).attestedUntil, ATTESTED_UNTIL, "attested");
    }
}
