// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {ICollateralVault} from "../../src/interfaces/ICollateralVault.sol";
import {IConfidentialBook} from "../../src/interfaces/IConfidentialBook.sol";
import {IPartyRegistry} from "../../src/interfaces/IPartyRegistry.sol";
import {MerkleTree} from "../../src/trees/MerkleTree.sol";
import {Confidential} from "../base/Confidential.sol";

/// @notice What a confidential book must refuse, and with which words: one line per case.
contract ConfidentialRefusalsTest is Confidential {
    address private constant STRANGER = address(0xbad);

    error WasNotRefused(string what);
    error WasRefusedOtherwise(string what, bytes answer);

    function setUp() public override {
        super.setUp();
        _registerParties(4);
        _deposit(1, 1_000);
    }

    function test_WhoMayDoWhat() public {
        bytes32[] memory hashes = _noise(2);
        bytes memory batch = _settling("b", hashes, _signedNets("b", hashes, _three(-600, 250, 350)));
        _refused("a stranger's batch", STRANGER, batch, _missing(hidden.PROPOSER_ROLE()));
        _refused("a stranger's pause", STRANGER, abi.encodeCall(hidden.pause, ()), _missing(hidden.PAUSER_ROLE()));
        _refused("a stranger's unpause", STRANGER, abi.encodeCall(hidden.unpause, ()), _missing(hidden.PAUSER_ROLE()));
        bytes memory correction = abi.encodeCall(hidden.correct, (1, 2, 100));
        _refused("a stranger's verdict", STRANGER, correction, _missing(hidden.RESOLVER_ROLE()));
        hidden.pause();
        _refused("a batch while paused", address(this), batch, abi.encodeWithSelector(Pausable.EnforcedPause.selector));
        hidden.correct(1, 2, 100);
        assertEq(vault.balanceOf(2), 100, "verdicts can't be paused");
        hidden.unpause();
        hidden.settle("b", hashes, _signedNets("b", hashes, _three(-600, 250, 350)));
    }

    function test_HowManyHashes() public {
        uint256[6] memory counts = [uint256(0), 1, 3, 6, 255, 512];
        for (uint256 i = 0; i < counts.length; ++i) {
            bytes32[] memory hashes = _noise(counts[i]);
            IConfidentialBook.PartyNet[] memory nets = new IConfidentialBook.PartyNet[](0);
            bytes memory answer =
                abi.encodeWithSelector(IConfidentialBook.ConfidentialBookUnsuitableCount.selector, counts[i]);
            _refused("a count that tells too much", address(this), _settling("b", hashes, nets), answer);
        }
    }

    function test_WhichParties() public {
        bytes32[] memory hashes = _noise(2);
        IConfidentialBook.PartyNet[] memory nets = new IConfidentialBook.PartyNet[](0);
        _refused("nobody", address(this), _settling("b", hashes, nets), _notAscending(0));
        nets = _signedNets("b", hashes, new int64[](1));
        _refused("one alone", address(this), _settling("b", hashes, nets), _notAscending(1));
        nets = _signedNets("b", hashes, _three(-600, 250, 350));
        (nets[0], nets[1]) = (nets[1], nets[0]);
        _refused("in another order", address(this), _settling("b", hashes, nets), _notAscending(1));
        nets[0] = nets[1];
        _refused("one twice", address(this), _settling("b", hashes, nets), _notAscending(1));
        nets = _signedNets("b", hashes, _three(-600, 250, 350));
        nets[2].party = 9;
        bytes memory unknown = abi.encodeWithSelector(IPartyRegistry.PartyRegistryUnknownParty.selector, 9);
        _refused("one that is not", address(this), _settling("b", hashes, nets), unknown);
    }

    function test_WhatWasNotSigned() public {
        bytes32[] memory hashes = _noise(2);
        IConfidentialBook.PartyNet[] memory nets = _signedNets("b", hashes, _three(-600, 250, 350));
        _refused("another batch id", address(this), _settling("c", hashes, nets), _wrongSigner(1, 0));
        bytes32[] memory others = _noise(4);
        _refused("other hashes", address(this), _settling("b", others, nets), _wrongSigner(1, 0));
        nets[1].netE4 = 251;
        nets[2].netE4 = 349;
        _refused("another net", address(this), _settling("b", hashes, nets), _wrongSigner(2, 0));
        nets = _signedNets("b", hashes, _three(-600, 250, 350));
        nets[2].signature = nets[1].signature;
        _refused("another's signature", address(this), _settling("b", hashes, nets), _wrongSigner(3, 0));
        nets = _signedNets("b", hashes, _three(-600, 250, 350));
        nets[2].signature.r = 0;
        _refused("no signature", address(this), _settling("b", hashes, nets), _wrongSigner(3, 0));
        bytes32 digest = _netDigest("b", hashes, 3, 350, 1);
        nets[2].signature = _sign(_key(3), digest);
        _refused("a nonce too early", address(this), _settling("b", hashes, nets), _wrongSigner(3, 0));
    }

    function test_NothingCountsTwice() public {
        bytes32[] memory hashes = _noise(2);
        IConfidentialBook.PartyNet[] memory nets = _signedNets("b", hashes, _three(-300, 100, 200));
        hidden.settle("b", hashes, nets);
        bytes memory exists =
            abi.encodeWithSelector(IConfidentialBook.ConfidentialBookBatchExists.selector, bytes32("b"));
        _refused("the batch again", address(this), _settling("b", hashes, nets), exists);
        IConfidentialBook.PartyNet[] memory other = _signedNets("c", hashes, _three(-300, 100, 200));
        other[1] = nets[1];
        _refused("a signature again", address(this), _settling("c", hashes, other), _wrongSigner(2, 1));
    }

    function test_WhatTheVaultRefuses() public {
        bytes32[] memory hashes = _noise(2);
        bytes memory short = abi.encodeWithSelector(ICollateralVault.CollateralVaultShort.selector, 1, 1_001, 1_000);
        _refused("no cover", address(this), _settled(hashes, _three(-1_001, 501, 500)), short);
        bytes memory sum = abi.encodeWithSelector(ICollateralVault.CollateralVaultNotZeroSum.selector, int256(1));
        _refused("money out of nothing", address(this), _settled(hashes, _three(-600, 300, 301)), sum);
        sum = abi.encodeWithSelector(ICollateralVault.CollateralVaultNotZeroSum.selector, int256(-1));
        _refused("money into nothing", address(this), _settled(hashes, _three(-600, 300, 299)), sum);
        short = abi.encodeWithSelector(ICollateralVault.CollateralVaultShort.selector, 2, 1, 0);
        uint64 huge = 1 << 63;
        bytes memory wide = abi.encodeWithSelector(SafeCast.SafeCastOverflowedIntDowncast.selector, 64, huge);
        _refused("a verdict that turns around", address(this), abi.encodeCall(hidden.correct, (2, 1, huge)), wide);
        _refused("a verdict on nothing", address(this), abi.encodeCall(hidden.correct, (2, 1, 1)), short);
    }

    function _settled(bytes32[] memory hashes, int64[] memory netsE4) private view returns (bytes memory) {
        return _settling("b", hashes, _signedNets("b", hashes, netsE4));
    }

    function _settling(bytes32 batchId, bytes32[] memory hashes, IConfidentialBook.PartyNet[] memory nets)
        private
        view
        returns (bytes memory)
    {
        return abi.encodeCall(hidden.settle, (batchId, hashes, nets));
    }

    function _missing(bytes32 role) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, STRANGER, role);
    }

    function _notAscending(uint256 index) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IConfidentialBook.ConfidentialBookPartiesNotAscending.selector, index);
    }

    function _wrongSigner(uint32 party, uint64 nonce) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IConfidentialBook.ConfidentialBookWrongSigner.selector, party, nonce);
    }

    function _refused(string memory what, address sender, bytes memory called, bytes memory expected) private {
        vm.prank(sender);
        (bool done, bytes memory answer) = address(hidden).call(called);
        if (done) revert WasNotRefused(what);
        if (keccak256(answer) != keccak256(expected)) revert WasRefusedOtherwise(what, answer);
    }
}
