// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPartyRegistry} from "../../src/interfaces/IPartyRegistry.sol";
import {Settlement} from "../base/Settlement.sol";

contract RotateSignerTest is Settlement {
    function setUp() public override {
        super.setUp();
        _registerParties(2);
    }

    function test_TheOldSignerNamesTheNewWhoWaits() public {
        bytes32 digest = _rotationDigest(1, _signer(9), 0, NOW);
        uint64 takesOverAt = NOW + registry.ROTATION_DELAY();

        vm.expectEmit(address(registry));
        emit IPartyRegistry.SignerNamed(1, _signer(9), takesOverAt);
        registry.rotateSigner(1, _signer(9), NOW, _sign(_key(1), digest));

        IPartyRegistry.Entry memory entry = registry.entry("NL", _partyId(1));
        assertEq(registry.signerOf(1), _signer(1), "the old one signs until then");
        assertEq(entry.successor, _signer(9), "successor");
        assertEq(entry.successorFrom, takesOverAt, "from");
        assertEq(entry.party.nonce, 1, "nonce");
    }

    function test_WhoeverIsNamedLastWaitsAnew() public {
        registry.rotateSigner(1, _signer(9), NOW, _sign(_key(1), _rotationDigest(1, _signer(9), 0, NOW)));
        vm.warp(NOW + 1 hours);
        uint64 deadline = NOW + 1 hours;

        registry.rotateSigner(1, _signer(8), deadline, _sign(_key(1), _rotationDigest(1, _signer(8), 1, deadline)));

        IPartyRegistry.Entry memory entry = registry.entry("NL", _partyId(1));
        assertEq(entry.successor, _signer(8), "successor");
        assertEq(entry.successorFrom, deadline + registry.ROTATION_DELAY(), "from");
    }
}
