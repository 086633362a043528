// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPartyRegistry} from "../../src/interfaces/IPartyRegistry.sol";
import {Settlement} from "../base/Settlement.sol";

contract RotateSignerTest is Settlement {
    function setUp() public override {
        super.setUp();
        _registerParties(2);
    }

    function test_TheOldSignerNamesTheNew() public {
        bytes32 digest = _rotationDigest(1, _signer(9), 0, NOW);

        vm.expectEmit(address(registry));
        emit IPartyRegistry.SignerRotated(1, _signer(1), _signer(9));
        registry.rotateSigner(1, _signer(9), NOW, _sign(_key(1), digest));

        assertEq(registry.signerOf(1), _signer(9), "signer");
        assertEq(registry.signerOf(2), _signer(2), "the other party's stays");
        assertEq(registry.party(1).nonce, 1, "nonce");
    }

    function test_ThenTheNewSignerSignsTheNextChange() public {
        registry.rotateSigner(1, _signer(9), NOW, _sign(_key(1), _rotationDigest(1, _signer(9), 0, NOW)));

        registry.rotateSigner(1, _signer(1), NOW, _sign(_key(9), _rotationDigest(1, _signer(1), 1, NOW)));

        assertEq(registry.signerOf(1), _signer(1), "signer");
    }
}
