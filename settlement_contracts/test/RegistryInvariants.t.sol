// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PartyRegistry} from "../src/PartyRegistry.sol";
import {IPartyRegistry} from "../src/interfaces/IPartyRegistry.sol";
import {Signature} from "../src/types/Signature.sol";
import {Settlement} from "./base/Settlement.sol";

/// @notice Two parties that claim, hand over, change their minds and are attested, in any order, while somebody sends
/// every word again. It keeps its own books of what each said last.
contract Parties is Settlement {
    uint32[3] public keyOf;
    uint32[3] public words;
    uint16[3] public claimed;
    uint48[3] public attestedUntil;
    uint32[3] public successor;
    uint64[3] public named;
    bytes[] private _sent;
    bool public replayed;
    bool public tookOverEarly;

    function setUp() public override {
        super.setUp();
        _registerParties(2);
        for (uint32 number = 1; number <= 2; ++number) {
            keyOf[number] = number;
            attestedUntil[number] = ATTESTED_UNTIL;
        }
    }

    function claim(uint32 number, uint16 roles) external {
        number = 1 + number % 2;
        uint64 now_ = uint64(block.timestamp);
        bytes32 digest = _claimsDigest(number, roles, 7, "platform", words[number], now_);
        Signature memory word = _sign(_key(keyOf[number]), digest);
        _say(number, abi.encodeCall(IPartyRegistry.setClaims, (number, roles, 7, "platform", now_, word)));
        claimed[number] = roles;
    }

    function name(uint32 number, uint32 to) external {
        number = 1 + number % 2;
        to = 1 + to % 9;
        uint64 now_ = uint64(block.timestamp);
        Signature memory word = _sign(_key(keyOf[number]), _rotationDigest(number, _signer(to), words[number], now_));
        _say(number, abi.encodeCall(IPartyRegistry.rotateSigner, (number, _signer(to), now_, word)));
        successor[number] = to;
        named[number] = now_;
    }

    function finish(uint32 number, bool cancels) external {
        number = 1 + number % 2;
        uint32 to = successor[number];
        uint64 now_ = uint64(block.timestamp);
        if (to == 0) return;
        bytes32 digest = _successionDigest(
            cancels ? "RotationCancellation" : "SignerAcceptance", number, _signer(to), words[number], now_
        );
        Signature memory word = _sign(_key(cancels ? keyOf[number] : to), digest);
        if (cancels) {
            _say(number, abi.encodeCall(IPartyRegistry.cancelRotation, (number, now_, word)));
        } else {
            bytes memory call = abi.encodeCall(IPartyRegistry.completeRotation, (number, now_, word));
            if (now_ < named[number] + registry.ROTATION_DELAY()) {
                (bool done,) = address(registry).call(call);
                if (done) tookOverEarly = true;
                return;
            }
            _say(number, call);
            keyOf[number] = to;
        }
        successor[number] = 0;
    }

    function attest(uint32 number, uint48 span) external {
        number = 1 + number % 2;
        uint48 until = span % 5 == 0 ? 0 : uint48(block.timestamp + 1 + span % 90 days);
        if (until == 0) registry.revokeAttestation(number);
        else registry.attest(number, until);
        attestedUntil[number] = until;
    }

    function wait(uint64 span) external {
        vm.warp(block.timestamp + span % 2 days);
    }

    function replay(uint256 which) external {
        if (_sent.length == 0) return;
        (bool done,) = address(registry).call(_sent[which % _sent.length]);
        if (done) replayed = true;
    }

    function theRegistry() external view returns (PartyRegistry) {
        return registry;
    }

    function signer(uint32 number) external view returns (address) {
        return _signer(keyOf[number]);
    }

    function _say(uint32 number, bytes memory call) private {
        (bool done,) = address(registry).call(call);
        assertTrue(done, "a party's word counts");
        words[number] += 1;
        _sent.push(call);
    }
}

contract RegistryInvariantsTest is Settlement {
    Parties private _parties;

    function setUp() public override {
        _parties = new Parties();
        _parties.setUp();
        registry = _parties.theRegistry();
    }

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_parties);
    }

    function targetSelectors() public view returns (FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](6);
        selectors[0] = Parties.claim.selector;
        selectors[1] = Parties.name.selector;
        selectors[2] = Parties.finish.selector;
        selectors[3] = Parties.attest.selector;
        selectors[4] = Parties.wait.selector;
        selectors[5] = Parties.replay.selector;
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(_parties), selectors);
    }

    function invariant_APartyIsWhatItSaidLast() public view {
        for (uint32 number = 1; number <= 2; ++number) {
            IPartyRegistry.Entry memory entry = registry.entry("NL", _partyId(number));
            assertEq(entry.number, number, "numbers stay");
            assertEq(entry.party.nonce, _parties.words(number), "each word counted once");
            assertEq(entry.party.signer, _parties.signer(number), "signer");
            assertEq(entry.party.payout, _payout(number), "payout never changes");
            assertEq(entry.roles, _parties.claimed(number), "claims");
            assertEq(entry.attestedUntil, _parties.attestedUntil(number), "attestation");
        }
        assertFalse(_parties.replayed(), "no word was heard twice");
        assertFalse(_parties.tookOverEarly(), "nobody took over before the delay");
    }
}
