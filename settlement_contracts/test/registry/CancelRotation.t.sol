// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPartyRegistry} from "../../src/interfaces/IPartyRegistry.sol";
import {Settlement} from "../base/Settlement.sol";

contract CancelRotationTest is Settlement {
    function setUp() public override {
        super.setUp();
        _registerParties(1);
        registry.rotateSigner(1, _signer(9), NOW, _sign(_key(1), _rotationDigest(1, _signer(9), 0, NOW)));
    }

    function test_TheOldSignerTakesItsWordBackHoweverLate() public {
        uint64 late = NOW + 2 * registry.ROTATION_DELAY();
        vm.warp(late);
        bytes32 digest = _successionDigest("RotationCancellation", 1, _signer(9), 1, late);

        vm.expectEmit(address(registry));
        emit IPartyRegistry.SignerRotationCanceled(1, _signer(9));
        registry.cancelRotation(1, late, _sign(_key(1), digest));

        IPartyRegistry.Entry memory entry = registry.entry("NL", _partyId(1));
        assertEq(registry.signerOf(1), _signer(1), "signer");
        assertEq(entry.successor, address(0), "successor");
        assertEq(entry.successorFrom, 0, "from");
        assertEq(entry.party.nonce, 2, "nonce");
    }
}
