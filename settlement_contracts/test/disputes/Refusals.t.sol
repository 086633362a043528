// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {DisputeResolver} from "../../src/disputes/DisputeResolver.sol";
import {ICollateralVault} from "../../src/interfaces/ICollateralVault.sol";
import {IDisputeResolver} from "../../src/interfaces/IDisputeResolver.sol";
import {Disputes} from "../base/Disputes.sol";

/// @notice Whose word counts, and for what: each change of a good call is refused with the words that fit it.
contract RefusalsTest is Disputes {
    DisputeResolver.Stated private _stated_;
    IDisputeResolver.PlacedLeaf private _placed;
    bytes32 private _case;

    function setUp() public override {
        super.setUp();
        (_stated_, _placed) = _stating(_leaf("cdr"), 120_000, 9, 3, 1);
        _case = _id(_stated_, _placed);
    }

    function test_OnlyTheArbiterRules() public {
        vm.expectRevert(abi.encodeWithSelector(IDisputeResolver.DisputeResolverNotArbiter.selector, address(this)));
        resolver.rule(_case, 0);
        bytes32 role = arbiter.ARBITER_ROLE();
        vm.prank(_signer(MSP));
        vm.expectRevert(
            abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, _signer(MSP), role)
        );
        arbiter.rule(resolver, _case, 0);
    }

    function testFuzz_AnAmountLiesBetweenNothingAndWhatIsStated(int64 claimedE4) public {
        vm.assume(claimedE4 < 0 || claimedE4 >= 120_000);
        IDisputeResolver.Word memory word = _quarrelWord(_case, MSP, claimedE4);

        vm.expectRevert(abi.encodeWithSelector(IDisputeResolver.DisputeResolverUnsuitableAmount.selector, claimedE4));
        resolver.quarrel(abi.encode(_stated_), _placed, claimedE4, word);
    }

    function test_WhatCostsNothingIsNotContested() public {
        (_stated_, _placed) = _stating(_leaf("free"), 0, 9, 3, 1);
        IDisputeResolver.Word memory word = _quarrelWord(_id(_stated_, _placed), CPO, 0);

        vm.expectRevert(abi.encodeWithSelector(IDisputeResolver.DisputeResolverUnsuitableAmount.selector, int64(0)));
        resolver.quarrel(abi.encode(_stated_), _placed, 0, word);
    }

    function test_OnlyTheSideThatOwesContests() public {
        for (uint32 party = 0; party <= STRANGER; ++party) {
            if (party == MSP) continue;
            IDisputeResolver.Word memory word = _quarrelWord(_case, party, 1);
            vm.expectRevert(abi.encodeWithSelector(IDisputeResolver.DisputeResolverNotItsTurn.selector, party));
            resolver.quarrel(abi.encode(_stated_), _placed, 1, word);
        }
    }

    function test_AStrangerDemandsNothing() public {
        vm.expectRevert(abi.encodeWithSelector(IDisputeResolver.DisputeResolverNotItsTurn.selector, STRANGER));
        this.demand(STRANGER);
    }

    function test_OnlyTheOtherSideDefends() public {
        _quarrel(_stated_, _placed, MSP, 1);
        for (uint32 party = 1; party <= STRANGER; ++party) {
            if (party == CPO) continue;
            IDisputeResolver.Word memory word = _defence(_case, party);
            vm.expectRevert(abi.encodeWithSelector(IDisputeResolver.DisputeResolverNotItsTurn.selector, party));
            resolver.defend(_case, word);
        }
    }

    function test_AWordIsItsSignersOverTheseVeryBytesAndInTime() public {
        bytes memory refusal = abi.encodeWithSelector(IDisputeResolver.DisputeResolverNoWord.selector, MSP);
        IDisputeResolver.Word memory word = _quarrelWord(_case, MSP, 1);
        // another amount
        vm.expectRevert(refusal);
        resolver.quarrel(abi.encode(_stated_), _placed, 2, word);
        // another leaf
        (DisputeResolver.Stated memory other, IDisputeResolver.PlacedLeaf memory leaf) =
            _stating(_leaf("another"), 120_000, 9, 3, 1);
        vm.expectRevert(refusal);
        resolver.quarrel(abi.encode(other), leaf, 1, word);
        // a longer deadline
        ++word.deadline;
        vm.expectRevert(refusal);
        resolver.quarrel(abi.encode(_stated_), _placed, 1, word);
        --word.deadline;
        // somebody else's signature
        IDisputeResolver.Word memory others = _quarrelWord(_case, CPO, 1);
        others.party = MSP;
        vm.expectRevert(refusal);
        resolver.quarrel(abi.encode(_stated_), _placed, 1, others);
        // a word for something else
        vm.expectRevert(refusal);
        resolver.quarrel(abi.encode(_stated_), _placed, 1, _demandWord(_case, MSP));
        // too late
        vm.warp(word.deadline + 1);
        vm.expectRevert(refusal);
        resolver.quarrel(abi.encode(_stated_), _placed, 1, word);
        vm.warp(word.deadline);
        resolver.quarrel(abi.encode(_stated_), _placed, 1, word);
    }

    function test_WithoutABondThereIsNoQuarrel() public {
        vm.prank(_signer(MSP));
        vault.requestWithdrawal(MSP, uint128(BONDS - 1));
        vm.warp(NOW + DELAY);
        vm.prank(_payout(MSP));
        vault.withdraw(MSP);

        vm.expectRevert(abi.encodeWithSelector(ICollateralVault.CollateralVaultShort.selector, MSP, QUARREL_BOND, 1));
        this.quarrel(1);
        vm.expectRevert(abi.encodeWithSelector(ICollateralVault.CollateralVaultShort.selector, MSP, DEMAND_BOND, 1));
        this.demand(MSP);
    }

    function test_AStatementThatIsNotFinalIsNeitherQuarrelledWithNorAskedAbout() public {
        _stated_.isFinal = false;
        bytes memory refusal = abi.encodeWithSelector(
            IDisputeResolver.DisputeResolverWrongStage.selector, _case, IDisputeResolver.Stage.NONE
        );

        vm.expectRevert(refusal);
        this.quarrel(1);
        vm.expectRevert(refusal);
        this.demand(MSP);
    }

    function test_AnAmountBeyondEveryBookIsRefused() public {
        _placed.dueE4 = 1 << 63;
        (_stated_, _placed) = _stating(_leaf("cdr"), 1, 1, 0, 1);
        bytes32 hash = _hashOf(_placed.leaf);
        _placed.dueE4 = 1 << 63;
        _stated_.dueE4 = 1 << 63;
        _stated_.sumRoot = keccak256(bytes.concat(hex"00", hash, bytes8(_placed.dueE4), bytes8(0)));

        vm.expectRevert(
            abi.encodeWithSelector(IDisputeResolver.DisputeResolverUnsuitableAmount.selector, type(int64).max)
        );
        this.quarrel(1);
    }

    function test_NothingLapsesThatWasNeverOpened() public {
        vm.expectRevert(
            abi.encodeWithSelector(
                IDisputeResolver.DisputeResolverWrongStage.selector, _case, IDisputeResolver.Stage.NONE
            )
        );
        resolver.lapse(_case);
    }

    function demand(uint32 party) external {
        _demand(_stated_, _placed, party);
    }

    function quarrel(int64 claimedE4) external {
        _quarrel(_stated_, _placed, MSP, claimedE4);
    }
}
