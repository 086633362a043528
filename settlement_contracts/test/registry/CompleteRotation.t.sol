// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPartyRegistry} from "../../src/interfaces/IPartyRegistry.sol";
import {Settlement} from "../base/Settlement.sol";

contract CompleteRotationTest is Settlement {
    function setUp() public override {
        super.setUp();
        _registerParties(2);
    }

    function test_TheSuccessorTakesOverAfterTheDelay() public {
        registry.rotateSigner(1, _signer(9), NOW, _sign(_key(1), _rotationDigest(1, _signer(9), 0, NOW)));
        uint64 later = NOW + registry.ROTATION_DELAY();
        vm.warp(later);
        bytes32 digest = _successionDigest("SignerAcceptance", 1, _signer(9), 1, later);

        vm.expectEmit(address(registry));
        emit IPartyRegistry.SignerRotated(1, _signer(1), _signer(9));
        registry.completeRotation(1, later, _sign(_key(9), digest));

        assertEq(registry.signerOf(1), _signer(9), "signer");
        assertEq(registry.signerOf(2), _signer(2), "the other party's stays");
        assertEq(registry.entry("NL", _partyId(1)).successor, address(0), "nobody waits");
        assertEq(registry.party(1).nonce, 2, "nonce");
    }

    function test_ThenTheNewSignerSignsTheNextChange() public {
        _rotate(1, 9, 0);
        uint64 deadline = NOW + registry.ROTATION_DELAY();

        registry.setMessageKey(1, "key", deadline, _sign(_key(9), _messageKeyDigest(1, "key", 2, deadline)));

        assertEq(registry.entry("NL", _partyId(1)).messageKey, "key", "by the new signer");
    }
}
