// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPartyRegistry} from "../../src/interfaces/IPartyRegistry.sol";
import {Settlement} from "../base/Settlement.sol";

contract SetClaimsTest is Settlement {
    bytes32 private constant PLATFORM = keccak256("https://ocpi.example.com");

    function setUp() public override {
        super.setUp();
        _registerParties(2);
    }

    function test_APartySaysWhatItIsAndFromWhereItSpeaks() public {
        bytes32 digest = _claimsDigest(1, 3, 0x101, PLATFORM, 0, NOW);

        vm.expectEmit(address(registry));
        emit IPartyRegistry.ClaimsSet(1, 3, 0x101, PLATFORM);
        registry.setClaims(1, 3, 0x101, PLATFORM, NOW, _sign(_key(1), digest));

        IPartyRegistry.Entry memory entry = registry.entry("NL", _partyId(1));
        assertEq(entry.roles, 3, "roles");
        assertEq(entry.modules, 0x101, "modules");
        assertEq(entry.platform, PLATFORM, "platform");
        assertEq(entry.party.nonce, 1, "nonce");
        assertEq(registry.entry("NL", _partyId(2)).roles, 0, "the other party claims nothing");
    }

    function test_NewClaimsReplaceTheOld() public {
        registry.setClaims(1, 3, 0x101, PLATFORM, NOW, _sign(_key(1), _claimsDigest(1, 3, 0x101, PLATFORM, 0, NOW)));

        registry.setClaims(1, 1, 0, 0, NOW, _sign(_key(1), _claimsDigest(1, 1, 0, 0, 1, NOW)));

        IPartyRegistry.Entry memory entry = registry.entry("NL", _partyId(1));
        assertEq(entry.roles, 1, "roles");
        assertEq(entry.modules, 0, "modules");
        assertEq(entry.platform, 0, "platform");
    }
}
