// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DisputeResolver} from "../../src/disputes/DisputeResolver.sol";
import {IDisputeResolver} from "../../src/interfaces/IDisputeResolver.sol";
import {EvidenceLeaf} from "../../src/trees/EvidenceTree.sol";
import {Disputes} from "../base/Disputes.sol";
import {ReferenceTrees} from "../base/ReferenceTrees.sol";

/// @notice What a proof alone decides: each verdict takes the leaf's whole amount out, once.
contract ProofsTest is Disputes {
    // THE SAME CDR IN TWO STATEMENTS

    function testFuzz_OfTwoStatementsWithOneCDRTheLaterLosesIt(
        uint256 count,
        uint256 index,
        uint256 otherIndex,
        int64 netE4
    ) public {
        count = bound(count, 1, 30);
        (index, otherIndex) = (bound(index, 0, count - 1), bound(otherIndex, 0, count - 1));
        netE4 = _net(netE4);
        (DisputeResolver.Stated memory later, IDisputeResolver.PlacedLeaf memory contested) =
            _stating(_leaf("cdr"), netE4, count, index, 2);

        _contest(later, contested, count, otherIndex, 1);

        assertEq(_corrected(), -netE4, "taken out");
        assertEq(_stage(_id(later, contested)), uint256(IDisputeResolver.Stage.STRUCK), "struck");
    }

    function test_TheEarlierStatementStands() public {
        (DisputeResolver.Stated memory earlier, IDisputeResolver.PlacedLeaf memory contested) =
            _stating(_leaf("cdr"), 100, 5, 2, 1);

        vm.expectRevert(
            abi.encodeWithSelector(IDisputeResolver.DisputeResolverNoDuplicate.selector, _id(earlier, contested))
        );
        this.contest(earlier, contested, 5, 2, 2);
    }

    function test_AStatementIsNotItsOwnDuplicate() public {
        (DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory contested) =
            _stating(_leaf("cdr"), 100, 5, 2, 1);

        vm.expectRevert(
            abi.encodeWithSelector(IDisputeResolver.DisputeResolverNoDuplicate.selector, _id(stated, contested))
        );
        this.contest(stated, contested, 5, 2, 1);
    }

    // THE METER

    function test_ALeafWhoseMeterDidNotSignIsStruck() public {
        bytes memory record = _charge("2965.611", 8);
        (DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory contested) =
            _stating(_metered("cdr", record), 120_000);

        resolver.contestSignature(abi.encode(stated), contested, SALT, record);

        assertEq(_corrected(), -120_000, "taken out");
    }

    function test_ALeafWhoseMeterSignedStands() public {
        bytes memory record = _charge("2965.611", 7);
        (DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory contested) =
            _stating(_metered("cdr", record), 120_000);

        vm.expectRevert(
            abi.encodeWithSelector(IDisputeResolver.DisputeResolverNothingWrong.selector, _id(stated, contested))
        );
        resolver.contestSignature(abi.encode(stated), contested, SALT, record);
        vm.expectRevert(
            abi.encodeWithSelector(IDisputeResolver.DisputeResolverNothingWrong.selector, _id(stated, contested))
        );
        resolver.contestEnergy(abi.encode(stated), contested, SALT, record);
    }

    function test_ALeafWithOtherEnergyThanItsRegistersIsStruck() public {
        bytes memory record = _charge("2965.610", 7);
        (DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory contested) =
            _stating(_metered("cdr", record), 120_000);

        resolver.contestEnergy(abi.encode(stated), contested, SALT, record);

        assertEq(_corrected(), -120_000, "taken out");
    }

    function test_OnlyTheCommittedRecordOpensALeaf() public {
        bytes memory record = _charge("2965.610", 8);
        (DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory contested) =
            _stating(_metered("cdr", record), 120_000);
        bytes memory refusal =
            abi.encodeWithSelector(IDisputeResolver.DisputeResolverOtherRecord.selector, _id(stated, contested));
        bytes memory other = _charge("2965.611", 8);

        vm.expectRevert(refusal);
        resolver.contestSignature(abi.encode(stated), contested, SALT, other);
        vm.expectRevert(refusal);
        resolver.contestEnergy(abi.encode(stated), contested, keccak256("another"), record);
        EvidenceLeaf memory credit = _metered("cdr", record);
        credit.kind = 1;
        (stated, contested) = _stating(credit, -120_000);
        vm.expectRevert(
            abi.encodeWithSelector(IDisputeResolver.DisputeResolverOtherRecord.selector, _id(stated, contested))
        );
        resolver.contestEnergy(abi.encode(stated), contested, SALT, record);
    }

    // ANOTHER AMOUNT, PLACE OR TIME

    function testFuzz_OnlyWhatStandsInTheStatementIsContested(uint256 change, uint64 by) public {
        bytes memory record = _charge("2965.611", 8);
        (DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory contested) =
            _stating(_metered("cdr", record), 120_000, 13, 4, 1);
        by = uint64(bound(by, 1, 1e12));
        if (change % 5 == 0) contested.dueE4 += by;
        if (change % 5 == 1) contested.creditE4 += by;
        if (change % 5 == 2) contested.index = (contested.index + bound(by, 1, 12)) % 13;
        if (change % 5 == 3) contested.leaf.importWh ^= by;
        if (change % 5 == 4) contested.siblings[by % contested.siblings.length] ^= 0x01;

        vm.expectRevert(abi.encodeWithSelector(IDisputeResolver.DisputeResolverNotInStatement.selector, stated.id));
        resolver.contestSignature(abi.encode(stated), contested, SALT, record);
    }

    function test_NothingIsContestedWhenTheTimeIsOver() public {
        bytes memory record = _charge("2965.611", 8);
        (DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory contested) =
            _stating(_metered("cdr", record), 120_000);
        uint256 until = stated.periodEnd + resolver.CONTEST_PERIOD();

        vm.warp(until + 1);
        vm.expectRevert(abi.encodeWithSelector(IDisputeResolver.DisputeResolverTooLate.selector, until));
        resolver.contestSignature(abi.encode(stated), contested, SALT, record);
        vm.warp(until);
        resolver.contestSignature(abi.encode(stated), contested, SALT, record);
    }

    // ONCE

    function test_ALeafIsStruckOnceWhateverIsWrongWithIt() public {
        bytes memory record = _charge("2965.610", 8);
        (DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory contested) =
            _stating(_metered("cdr", record), 120_000, 5, 2, 2);
        resolver.contestEnergy(abi.encode(stated), contested, SALT, record);
        bytes memory refusal = abi.encodeWithSelector(
            IDisputeResolver.DisputeResolverWrongStage.selector, _id(stated, contested), IDisputeResolver.Stage.STRUCK
        );

        vm.expectRevert(refusal);
        resolver.contestEnergy(abi.encode(stated), contested, SALT, record);
        vm.expectRevert(refusal);
        resolver.contestSignature(abi.encode(stated), contested, SALT, record);
        vm.expectRevert(refusal);
        this.contest(stated, contested, 5, 2, 1);

        assertEq(_corrected(), -120_000, "once");
    }

    function test_AProofAgainstAChallengedStatementVoidsIt() public {
        bytes memory record = _charge("2965.611", 8);
        (DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory contested) =
            _stating(_metered("cdr", record), 120_000);
        stated.isFinal = false;

        resolver.contestSignature(abi.encode(stated), contested, SALT, record);

        assertEq(resolver.voided(), 1, "void");
        assertEq(_corrected(), 0, "nothing to take out");
        assertEq(_stage(_id(stated, contested)), 0, "no case");
    }

    // CREDITS

    function test_TheCreditOfAStruckChargeIsStruck() public {
        bytes memory record = _charge("2965.611", 8);
        (DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory charge) =
            _stating(_metered("cdr", record), 120_000);
        (DisputeResolver.Stated memory next, IDisputeResolver.PlacedLeaf memory credit) =
            _stating(_creditOf("cdr"), -120_000, 5, 3, 2);
        bytes memory refusal =
            abi.encodeWithSelector(IDisputeResolver.DisputeResolverNothingWrong.selector, _id(next, credit));

        vm.expectRevert(refusal);
        resolver.contestCredit(abi.encode(next), credit, stated.id, charge.leaf);
        resolver.contestSignature(abi.encode(stated), charge, SALT, record);
        resolver.contestCredit(abi.encode(next), credit, stated.id, charge.leaf);

        assertEq(_corrected(), 0, "taken back once, by the credit's statement");
        (DisputeResolver.Stated memory third, IDisputeResolver.PlacedLeaf memory another) =
            _stating(_creditOf("another"), -120_000, 5, 3, 3);
        vm.expectRevert(
            abi.encodeWithSelector(IDisputeResolver.DisputeResolverNothingWrong.selector, _id(third, another))
        );
        resolver.contestCredit(abi.encode(third), another, stated.id, charge.leaf);
    }

    function test_TheCreditOfADuplicateStandsForTheEarlierCopyDoes() public {
        bytes memory record = _charge("2965.611", 8);
        (DisputeResolver.Stated memory later, IDisputeResolver.PlacedLeaf memory charge) =
            _stating(_metered("cdr", record), 120_000, 5, 2, 2);
        (DisputeResolver.Stated memory earlier, IDisputeResolver.PlacedLeaf memory copy) =
            _stating(charge.leaf, 120_000, 5, 2, 1);
        (DisputeResolver.Stated memory next, IDisputeResolver.PlacedLeaf memory credit) =
            _stating(_creditOf("cdr"), -120_000, 5, 3, 3);
        _contest(later, charge, 5, 2, 1);

        vm.expectRevert(
            abi.encodeWithSelector(IDisputeResolver.DisputeResolverNothingWrong.selector, _id(next, credit))
        );
        resolver.contestCredit(abi.encode(next), credit, later.id, charge.leaf);
        resolver.contestSignature(abi.encode(earlier), copy, SALT, record);
        resolver.contestCredit(abi.encode(next), credit, earlier.id, copy.leaf);

        assertEq(_corrected(), -120_000, "both copies out, the credit too: with what was stated, nothing is left");
    }

    function _creditOf(bytes32 key) private pure returns (EvidenceLeaf memory credit) {
        credit = _leaf(keccak256(abi.encode("credit of", key)));
        credit.kind = 1;
        credit.meter = key;
    }

    /// @dev A record of 30,011 Wh if it ends at 2965.611 kWh, signed by the key 7 if `secret` is.
    function _charge(string memory end, uint256 secret) private view returns (bytes memory) {
        bytes memory payload = _payload(_reading("B", "2935.600", "kWh"), _reading("E", end, "kWh"));
        return _pack(2, _publicKey(2, 7), payload, _sign(2, secret, payload));
    }

    function _net(int64 netE4) private pure returns (int64) {
        return netE4 % 1e12;
    }

    /// @dev Contests a leaf by the same CDR at `otherIndex` of the statement with that sequence.
    function contest(
        DisputeResolver.Stated memory stated,
        IDisputeResolver.PlacedLeaf memory contested,
        uint256 count,
        uint256 otherIndex,
        uint32 otherSequence
    ) external {
        _contest(stated, contested, count, otherIndex, otherSequence);
    }

    function _contest(
        DisputeResolver.Stated memory stated,
        IDisputeResolver.PlacedLeaf memory contested,
        uint256 count,
        uint256 otherIndex,
        uint32 otherSequence
    ) private {
        EvidenceLeaf memory other = contested.leaf;
        (DisputeResolver.Stated memory second,) = _stating(other, 100, count, otherIndex, otherSequence);
        bytes32[] memory siblings = ReferenceTrees.proof(_evidence(other, count, otherIndex, otherSequence), otherIndex);
        resolver.contestDuplicate(abi.encode(stated), contested, abi.encode(second), other, otherIndex, siblings);
    }
}
