// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPartyRegistry} from "../../src/interfaces/IPartyRegistry.sol";
import {Signature} from "../../src/types/Signature.sol";
import {Settlement} from "../base/Settlement.sol";

contract RegisterTest is Settlement {
    function test_APartyThatConsentsIsRegistered() public {
        vm.expectEmit(address(registry));
        emit IPartyRegistry.PartyRegistered(1, "NL", "TNM", _signer(7), _payout(7));
        uint32 number = _register("TNM", 7);

        IPartyRegistry.Party memory party = registry.party(number);
        assertEq(number, 1, "numbers start at 1");
        assertEq(registry.numberOf("NL", "TNM"), 1, "found by its id");
        assertEq(registry.signerOf(1), _signer(7), "signer");
        assertEq(party.payout, _payout(7), "payout");
        assertEq(party.nonce, 0, "nonce");
        assertEq(bytes32(party.countryCode), bytes32("NL"), "country");
        assertEq(bytes32(party.partyId), bytes32("TNM"), "id");
    }

    function test_TheSameIdInAnotherCountryIsAnotherParty() public {
        _register("TNM", 1);
        registry.grantRole(registry.issuerRole("DE"), address(this));
        bytes32 digest = _registrationDigest("DE", "TNM", _signer(1), _payout(1), NOW);
        Signature memory consent = _sign(_key(1), digest);

        uint32 other = registry.register("DE", "TNM", _signer(1), _payout(1), ATTESTED_UNTIL, NOW, consent);

        assertEq(other, 2, "number");
        assertEq(registry.numberOf("DE", "TNM"), 2, "found");
        assertEq(registry.numberOf("FR", "TNM"), 0, "there is none");
    }

    function test_AnIssuerVouchesForIdsOfItsCountryUntilADate() public {
        vm.expectEmit(address(registry));
        emit IPartyRegistry.PartyRegistered(1, "NL", "TNM", _signer(7), _payout(7));
        vm.expectEmit(address(registry));
        emit IPartyRegistry.PartyAttested(1, address(this), ATTESTED_UNTIL);
        _register("TNM", 7);

        IPartyRegistry.Entry memory entry = registry.entry("NL", "TNM");
        assertEq(entry.number, 1, "number");
        assertEq(entry.party.signer, _signer(7), "signer");
        assertEq(entry.attestedUntil, ATTESTED_UNTIL, "attested");
        assertEq(entry.roles, 0, "it claims nothing yet");
        assertEq(registry.entry("NL", "XXX").number, 0, "nobody is nobody");
    }
}
