// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DisputeResolver} from "../../src/disputes/DisputeResolver.sol";
import {IArbiter} from "../../src/interfaces/IArbiter.sol";
import {IDisputeResolver} from "../../src/interfaces/IDisputeResolver.sol";
import {Disputes} from "../base/Disputes.sol";

/// @notice What a CDR should have cost: conceded by silence, or decided by the arbiter between the two positions.
contract QuarrelsTest is Disputes {
    int64 private constant STATED = 120_000;
    int64 private constant CLAIMED = 80_000;
    DisputeResolver.Stated private _stated_;
    IDisputeResolver.PlacedLeaf private _placed;
    bytes32 private _case;

    function setUp() public override {
        super.setUp();
        (_stated_, _placed) = _stating(_leaf("cdr"), STATED, 9, 3, 1);
    }

    function test_WhatNobodyDefendsIsWhatWasClaimed() public {
        _case = _quarrel(_stated_, _placed, MSP, CLAIMED);
        assertEq(_reserved(MSP), QUARREL_BOND, "at stake");

        vm.warp(resolver.caseOf(_case).deadline + 1);
        resolver.lapse(_case);

        assertEq(_corrected(), CLAIMED - STATED, "as claimed");
        _over(BONDS, BONDS);
    }

    function test_WhatTheArbiterIsSilentOnStaysAsStated() public {
        _defended();

        vm.warp(resolver.caseOf(_case).deadline + 1);
        resolver.lapse(_case);

        assertEq(_corrected(), 0, "as stated");
        _over(BONDS, BONDS);
    }

    function testFuzz_TheSideThatIsFartherOffPaysTheOtherItsBond(int64 ruledE4) public {
        _defended();
        ruledE4 = int64(int256(bound(uint64(ruledE4), uint64(CLAIMED), uint64(STATED))));

        arbiter.rule(resolver, _case, ruledE4);

        assertEq(_corrected(), ruledE4 - STATED, "as ruled");
        int64 middle = (CLAIMED + STATED) / 2;
        if (ruledE4 < middle) _over(BONDS - QUARREL_BOND, BONDS + QUARREL_BOND);
        if (ruledE4 > middle) _over(BONDS + QUARREL_BOND, BONDS - QUARREL_BOND);
        if (ruledE4 == middle) _over(BONDS, BONDS);
    }

    function testFuzz_ARulingLiesBetweenTheTwo(int64 ruledE4) public {
        _defended();
        vm.assume(ruledE4 < CLAIMED || ruledE4 > STATED);

        vm.expectRevert(abi.encodeWithSelector(IDisputeResolver.DisputeResolverUnsuitableAmount.selector, ruledE4));
        arbiter.rule(resolver, _case, ruledE4);
    }

    function test_TheSideThatOwesACreditContestsIt() public {
        (_stated_, _placed) = _stating(_leaf("credit"), -STATED, 9, 3, 1);

        vm.expectRevert(abi.encodeWithSelector(IDisputeResolver.DisputeResolverNotItsTurn.selector, MSP));
        this.quarrel(MSP, -CLAIMED);
        _case = _quarrel(_stated_, _placed, CPO, -CLAIMED);
        vm.warp(resolver.caseOf(_case).deadline + 1);
        resolver.lapse(_case);

        assertEq(_corrected(), STATED - CLAIMED, "the CPO owes less");
    }

    function test_AfterARulingAProofTakesOutTheRestAndNoMore() public {
        bytes memory record = _record(_payload(_reading("B", "1", "Wh"), _reading("E", "2", "Wh")));
        (_stated_, _placed) = _stating(_metered("metered", record), STATED, 9, 3, 1);
        _defended();
        arbiter.rule(resolver, _case, CLAIMED);

        resolver.contestEnergy(abi.encode(_stated_), _placed, SALT, record);

        assertEq(_corrected(), -STATED, "the whole, once");
    }

    function test_AProofEndsAQuarrelAndGivesBothBondsBack() public {
        bytes memory record = _record(_payload(_reading("B", "1", "Wh"), _reading("E", "2", "Wh")));
        (_stated_, _placed) = _stating(_metered("metered", record), STATED, 9, 3, 1);
        _defended();

        resolver.contestEnergy(abi.encode(_stated_), _placed, SALT, record);

        assertEq(_corrected(), -STATED, "taken out");
        assertEq(_reserved(CPO) + _reserved(MSP), 0, "bonds are back");
        _wrong(IDisputeResolver.Stage.STRUCK);
        arbiter.rule(resolver, _case, CLAIMED);
    }

    function test_EachStepIsMadeOnceAndInTime() public {
        _case = _quarrel(_stated_, _placed, MSP, CLAIMED);
        _wrong(IDisputeResolver.Stage.QUARRELLED);
        this.quarrel(MSP, CLAIMED);
        _wrong(IDisputeResolver.Stage.QUARRELLED);
        arbiter.rule(resolver, _case, CLAIMED);
        vm.expectRevert(
            abi.encodeWithSelector(IDisputeResolver.DisputeResolverDeadline.selector, resolver.caseOf(_case).deadline)
        );
        resolver.lapse(_case);

        IDisputeResolver.Word memory word = _defence(_case, CPO);
        resolver.defend(_case, word);
        _wrong(IDisputeResolver.Stage.DEFENDED);
        resolver.defend(_case, word);
        _wrong(IDisputeResolver.Stage.DEFENDED);
        resolver.reveal(_stated_.id, _placed.leaf);

        arbiter.rule(resolver, _case, CLAIMED);
        _wrong(IDisputeResolver.Stage.RULED);
        arbiter.rule(resolver, _case, CLAIMED);
        _wrong(IDisputeResolver.Stage.RULED);
        resolver.lapse(_case);
        _wrong(IDisputeResolver.Stage.RULED);
        this.quarrel(MSP, CLAIMED);
    }

    function test_WhoIsLateIsNotHeard() public {
        _case = _quarrel(_stated_, _placed, MSP, CLAIMED);
        uint40 deadline = resolver.caseOf(_case).deadline;
        vm.warp(deadline + 1);
        IDisputeResolver.Word memory word = _defence(_case, CPO);
        vm.expectRevert(abi.encodeWithSelector(IDisputeResolver.DisputeResolverDeadline.selector, deadline));
        resolver.defend(_case, word);

        vm.warp(deadline);
        resolver.defend(_case, word);
        deadline = resolver.caseOf(_case).deadline;
        vm.warp(deadline + 1);
        vm.expectRevert(abi.encodeWithSelector(IDisputeResolver.DisputeResolverDeadline.selector, deadline));
        arbiter.rule(resolver, _case, CLAIMED);
    }

    function test_TheArbiterIsTold() public {
        _case = _quarrel(_stated_, _placed, MSP, CLAIMED);
        IDisputeResolver.Word memory word = _defence(_case, CPO);

        vm.expectEmit(address(arbiter));
        emit IArbiter.QuarrelTaken(
            address(resolver), _case, STATED, CLAIMED, uint40(block.timestamp) + resolver.RULING_WINDOW()
        );
        resolver.defend(_case, word);
    }

    function quarrel(uint32 party, int64 claimedE4) external {
        _quarrel(_stated_, _placed, party, claimedE4);
    }

    function _defended() private {
        _case = _quarrel(_stated_, _placed, MSP, CLAIMED);
        resolver.defend(_case, _defence(_case, CPO));
        assertEq(_reserved(CPO), QUARREL_BOND, "both at stake");
        assertEq(_reserved(MSP), QUARREL_BOND, "both at stake");
    }

    function _over(uint256 msps, uint256 cpos) private view {
        assertEq(_stage(_case), uint256(IDisputeResolver.Stage.RULED), "ruled");
        assertEq(_reserved(CPO) + _reserved(MSP), 0, "nothing at stake");
        assertEq(vault.balanceOf(CPO), msps, "the CPO's");
        assertEq(vault.balanceOf(MSP), cpos, "the MSP's");
    }

    function _wrong(IDisputeResolver.Stage stage) private {
        vm.expectRevert(abi.encodeWithSelector(IDisputeResolver.DisputeResolverWrongStage.selector, _case, stage));
    }
}
