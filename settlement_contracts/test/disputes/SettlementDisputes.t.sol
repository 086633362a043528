// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {SettlementDisputes} from "../../src/SettlementDisputes.sol";
import {DisputeResolver} from "../../src/disputes/DisputeResolver.sol";
import {IDisputeResolver} from "../../src/interfaces/IDisputeResolver.sol";
import {ISettlementBook} from "../../src/interfaces/ISettlementBook.sol";
import {AgreementKey} from "../../src/types/AgreementKey.sol";
import {packFigures} from "../../src/types/PairFigures.sol";
import {PairStatement, StatementRoots} from "../../src/types/PairStatement.sol";
import {Place} from "../../src/types/Place.sol";
import {Disputes} from "../base/Disputes.sol";
import {ReferenceTrees} from "../base/ReferenceTrees.sol";

/// @notice The resolver of a real book: a verdict changes what the pair settles next, and a proof voids a challenge.
contract SettlementDisputesTest is Disputes {
    SettlementDisputes private _disputes;
    AgreementKey private _agreement;
    bytes private _forged;

    function setUp() public override {
        super.setUp();
        _disputes = new SettlementDisputes(book, evidence, arbiter, DEMAND_BOND, QUARREL_BOND);
        book.grantRole(book.RESOLVER_ROLE(), address(_disputes));
        vault.grantRole(vault.BOOK_ROLE(), address(_disputes));
        _agreement = _openPrefunded(CPO, MSP);
        bytes memory payload = _payload(_reading("B", "1", "kWh"), _reading("E", "31.011", "kWh"));
        _forged = _pack(2, _publicKey(2, 7), payload, _sign(2, 8, payload));
    }

    function test_AVerdictIsMetWithTheNextStatement() public {
        (bytes memory opening, IDisputeResolver.PlacedLeaf memory leaf) = _proposed("first", 1, true);
        uint256 cpos = vault.balanceOf(CPO);

        _disputes.contestSignature(opening, leaf, SALT, _forged);
        assertEq(book.agreementState(_agreement).correctedE4, -120_000, "waits");
        PairStatement[] memory next = _batchOf(_statement(_agreement, 200_000, 0, 2));
        book.propose("next", next, _acceptances("next", next, CPO, MSP, 1));

        assertEq(vault.balanceOf(CPO), cpos + 80_000, "less what was struck");
        assertEq(book.agreementState(_agreement).correctedE4, 0, "met");
    }

    function test_AVerdictIsMetAloneByWhoeverFundsIt() public {
        (bytes memory opening, IDisputeResolver.PlacedLeaf memory leaf) = _proposed("first", 1, true);
        uint256 cpos = vault.balanceOf(CPO);

        _disputes.contestSignature(opening, leaf, SALT, _forged);
        book.fundCorrection(_agreement);

        assertEq(vault.balanceOf(CPO), cpos - 120_000, "paid back");
    }

    function test_WhatIsOnlyProposedMakesNothingADuplicate() public {
        (bytes memory opening, IDisputeResolver.PlacedLeaf memory leaf) = _proposed("first", 1, true);
        bytes32[] memory copied = _evidence(leaf.leaf, 9, 4, 1);
        StatementRoots memory roots = StatementRoots({evidence: ReferenceTrees.root(copied), sums: "anything"});
        PairStatement memory unsigned =
            PairStatement({figures: packFigures(_agreement, 0, 0, 9, 2, 0), roots: _rootsHash(roots)});
        book.propose("unsigned", _batchOf(unsigned), _nobody());
        Place memory place = Place({batchId: "unsigned", index: 0, count: 1, siblings: new bytes32[](0)});
        bytes memory other =
            abi.encode(SettlementDisputes.OpenedStatement({statement: unsigned, roots: roots, place: place}));
        bytes32[] memory siblings = ReferenceTrees.proof(copied, 4);
        PairStatement memory first = abi.decode(opening, (SettlementDisputes.OpenedStatement)).statement;
        bytes32 id = _disputes.caseId(_statementHash(first), leaf.leaf);

        vm.expectRevert(abi.encodeWithSelector(IDisputeResolver.DisputeResolverNoDuplicate.selector, id));
        _disputes.contestDuplicate(opening, leaf, other, leaf.leaf, 4, siblings);
    }

    function test_AStatementThatNobodyChallengedIsNotVoided() public {
        (bytes memory opening, IDisputeResolver.PlacedLeaf memory leaf) = _proposed("first", 1, false);

        vm.expectRevert(
            abi.encodeWithSelector(ISettlementBook.SettlementBookNotChallenged.selector, bytes32("first"), 0)
        );
        _disputes.contestSignature(opening, leaf, SALT, _forged);
    }

    function test_AProofVoidsAChallengedStatement() public {
        (bytes memory opening, IDisputeResolver.PlacedLeaf memory leaf) = _proposed("first", 1, false);
        SettlementDisputes.OpenedStatement memory opened = abi.decode(opening, (SettlementDisputes.OpenedStatement));
        vm.prank(_signer(MSP));
        book.challenge(opened.statement, opened.place);

        _disputes.contestSignature(opening, leaf, SALT, _forged);

        vm.expectRevert(
            abi.encodeWithSelector(IDisputeResolver.DisputeResolverNotStated.selector, _statementHash(opened.statement))
        );
        _disputes.contestSignature(opening, leaf, SALT, _forged);
        assertEq(vault.reservedBy(address(book), MSP), 0, "its bond is back");
    }

    function test_WhatNoProofDecidesTheArbiterDoes() public {
        (bytes memory opening,) = _proposed("first", 1, false);
        SettlementDisputes.OpenedStatement memory opened = abi.decode(opening, (SettlementDisputes.OpenedStatement));
        vm.prank(_signer(MSP));
        book.challenge(opened.statement, opened.place);

        vm.expectRevert(abi.encodeWithSelector(IDisputeResolver.DisputeResolverNotArbiter.selector, address(this)));
        _disputes.ruleOnChallenge(opened.statement, opened.place, false);
        bytes32 role = arbiter.ARBITER_ROLE();
        vm.prank(_signer(CPO));
        vm.expectRevert(
            abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, _signer(CPO), role)
        );
        arbiter.ruleOnChallenge(_disputes, opened.statement, opened.place, false);
        arbiter.ruleOnChallenge(_disputes, opened.statement, opened.place, false);

        assertEq(_finalAfterFund("first", opened.statement), 1, "it counts as accepted");
    }

    function testFuzz_OnlyWhatTheBookHoldsIsContested(uint256 change, bytes32 other) public {
        (bytes memory opening, IDisputeResolver.PlacedLeaf memory leaf) = _proposed("first", 1, true);
        SettlementDisputes.OpenedStatement memory opened = abi.decode(opening, (SettlementDisputes.OpenedStatement));
        if (change % 4 == 0) opened.roots.sums ^= other == 0 ? bytes32(uint256(1)) : other;
        if (change % 4 == 1) opened.roots.evidence ^= other == 0 ? bytes32(uint256(1)) : other;
        if (change % 4 == 2) opened.place.batchId = other;
        if (change % 4 == 3) opened.statement.roots = other;

        vm.expectRevert(
            abi.encodeWithSelector(IDisputeResolver.DisputeResolverNotStated.selector, _statementHash(opened.statement))
        );
        _disputes.contestSignature(abi.encode(opened), leaf, SALT, _forged);
    }

    /// @dev A statement of nine leaves, one of them forged; signed by both sides, or by the CPO alone.
    function _proposed(bytes32 batchId, uint24 sequence, bool byBoth)
        private
        returns (bytes memory opening, IDisputeResolver.PlacedLeaf memory leaf)
    {
        DisputeResolver.Stated memory stated;
        (stated, leaf) = _stating(_metered("cdr", _forged), 120_000, 9, 4, sequence);
        StatementRoots memory roots = StatementRoots({evidence: stated.evidenceRoot, sums: stated.sumRoot});
        PairStatement memory statement = PairStatement({
            figures: packFigures(
                _agreement, uint56(stated.dueE4), uint56(stated.creditE4), 9, sequence, uint32(stated.periodEnd)
            ),
            roots: _rootsHash(roots)
        });
        PairStatement[] memory statements = _batchOf(statement);
        book.propose(
            batchId,
            statements,
            byBoth ? _acceptances(batchId, statements, CPO, MSP, 1) : _only(_acceptance(batchId, statements, CPO, 1))
        );
        Place memory place = Place({batchId: batchId, index: 0, count: 1, siblings: new bytes32[](0)});
        opening = abi.encode(SettlementDisputes.OpenedStatement({statement: statement, roots: roots, place: place}));
    }

    function _finalAfterFund(bytes32 batchId, PairStatement memory statement) private returns (uint256) {
        book.fund(batchId, _batchOf(statement));
        return _finalPairs(batchId, 1);
    }
}
