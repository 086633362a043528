// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPartyRegistry} from "../../src/interfaces/IPartyRegistry.sol";
import {Settlement} from "../base/Settlement.sol";

contract SetMessageKeyTest is Settlement {
    function setUp() public override {
        super.setUp();
        _registerParties(1);
    }

    function test_APartyNamesAndRevokesItsMessageKeyAtOnce() public {
        vm.expectEmit(address(registry));
        emit IPartyRegistry.MessageKeySet(1, "key");
        registry.setMessageKey(1, "key", NOW, _sign(_key(1), _messageKeyDigest(1, "key", 0, NOW)));
        assertEq(registry.entry("NL", _partyId(1)).messageKey, "key", "named");

        registry.setMessageKey(1, 0, NOW, _sign(_key(1), _messageKeyDigest(1, 0, 1, NOW)));

        assertEq(registry.entry("NL", _partyId(1)).messageKey, 0, "revoked");
    }
}
