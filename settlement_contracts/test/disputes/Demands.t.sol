// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DisputeResolver} from "../../src/disputes/DisputeResolver.sol";
import {IDisputeResolver} from "../../src/interfaces/IDisputeResolver.sol";
import {EvidenceLeaf} from "../../src/trees/EvidenceTree.sol";
import {Disputes} from "../base/Disputes.sol";

/// @notice A leaf that a party asks for is shown in time, or its amount is taken out.
contract DemandsTest is Disputes {
    DisputeResolver.Stated private _stated_;
    IDisputeResolver.PlacedLeaf private _placed;
    bytes32 private _case;

    function setUp() public override {
        super.setUp();
        (_stated_, _placed) = _stating(_leaf("cdr"), 120_000, 9, 8, 1);
        _case = _demand(_stated_, _placed, MSP);
    }

    function test_WhoeverAnswersGetsTheBond() public {
        assertEq(_reserved(MSP), DEMAND_BOND, "at stake");

        resolver.reveal(_stated_.id, _placed.leaf);

        assertEq(_stage(_case), uint256(IDisputeResolver.Stage.REVEALED), "shown");
        assertEq(_reserved(MSP), 0, "nothing at stake");
        assertEq(vault.balanceOf(CPO), BONDS + DEMAND_BOND, "the answer is paid");
        assertEq(_corrected(), 0, "nothing is taken out");
    }

    function testFuzz_AnotherLeafIsNoAnswer(uint64 wh) public {
        EvidenceLeaf memory other = _placed.leaf;
        vm.assume(wh != other.importWh);
        other.importWh = wh;
        bytes32 id = keccak256(abi.encode(_stated_.id, _hashOf(other)));

        vm.expectRevert(
            abi.encodeWithSelector(IDisputeResolver.DisputeResolverWrongStage.selector, id, IDisputeResolver.Stage.NONE)
        );
        resolver.reveal(_stated_.id, other);
    }

    function test_WhatNobodyShowsIsTakenOutWhenTheWindowIsOver() public {
        uint40 deadline = resolver.caseOf(_case).deadline;
        assertEq(deadline, block.timestamp + resolver.ANSWER_WINDOW(), "a week");

        vm.warp(deadline);
        vm.expectRevert(abi.encodeWithSelector(IDisputeResolver.DisputeResolverDeadline.selector, deadline));
        resolver.lapse(_case);
        vm.warp(deadline + 1);
        resolver.lapse(_case);

        assertEq(_corrected(), -120_000, "taken out");
        assertEq(_reserved(MSP), 0, "the bond is back");
        assertEq(vault.balanceOf(MSP), BONDS, "whole");
        assertEq(_stage(_case), uint256(IDisputeResolver.Stage.STRUCK), "struck");
    }

    function test_ALeafIsDemandedOnce() public {
        bytes memory refusal = abi.encodeWithSelector(
            IDisputeResolver.DisputeResolverWrongStage.selector, _case, IDisputeResolver.Stage.DEMANDED
        );
        vm.expectRevert(refusal);
        this.demand(CPO);
        resolver.reveal(_stated_.id, _placed.leaf);
        refusal = abi.encodeWithSelector(
            IDisputeResolver.DisputeResolverWrongStage.selector, _case, IDisputeResolver.Stage.REVEALED
        );

        vm.expectRevert(refusal);
        this.demand(MSP);
        vm.expectRevert(refusal);
        resolver.lapse(_case);
        vm.expectRevert(refusal);
        resolver.reveal(_stated_.id, _placed.leaf);
    }

    function test_AfterAProofTheDemandIsOverAndTheBondBack() public {
        bytes memory record = _record(_payload(_reading("B", "1", "Wh"), _reading("E", "2", "Wh")));
        (_stated_, _placed) = _stating(_metered("metered", record), 50_000, 5, 1, 2);
        _case = _demand(_stated_, _placed, CPO);

        resolver.contestEnergy(abi.encode(_stated_), _placed, SALT, record);

        assertEq(_corrected(), -50_000, "once");
        assertEq(_reserved(CPO), 0, "the bond is back");
        vm.warp(block.timestamp + 365 days);
        vm.expectRevert(
            abi.encodeWithSelector(
                IDisputeResolver.DisputeResolverWrongStage.selector, _case, IDisputeResolver.Stage.STRUCK
            )
        );
        resolver.lapse(_case);
    }

    function demand(uint32 party) external {
        _demand(_stated_, _placed, party);
    }
}
