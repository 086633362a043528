// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IPartyRegistry} from "../../src/interfaces/IPartyRegistry.sol";
import {Settlement} from "../base/Settlement.sol";

contract AnnounceSuccessorTest is Settlement {
    function test_ABookHasOneSuccessor() public {
        assertEq(registry.successorOf(address(book)), address(0), "none yet");

        vm.expectEmit(address(registry));
        emit IPartyRegistry.BookSucceeded(address(book), address(0xb00c));
        registry.announceSuccessor(address(book), address(0xb00c));

        assertEq(registry.successorOf(address(book)), address(0xb00c), "announced");
    }
}
