// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DisputeResolver} from "../../src/disputes/DisputeResolver.sol";
import {IDisputeResolver} from "../../src/interfaces/IDisputeResolver.sol";
import {Disputes} from "../base/Disputes.sol";

/// @notice Two parties and an arbiter that demand, show, contest, defend, rule and prove in any order. It keeps its own
/// books: what each leaf may still lose, and whose bonds are where.
contract Quarrelling is Disputes {
    uint256 public constant LEAVES = 6;
    bytes private _record_;
    DisputeResolver.Stated[] private _statements;
    IDisputeResolver.PlacedLeaf[] private _leaves;
    int64[] public netE4;
    bytes32[] public ids;
    mapping(bytes32 id => uint256) public highest;
    mapping(bytes32 id => uint256) public timesStruck;
    mapping(bytes32 id => uint256) public timesRuled;
    mapping(bytes32 id => int256) public takenE4;
    bool public wentBack;

    function setUp() public override {
        super.setUp();
        _record_ = _record(_payload(_reading("B", "1", "Wh"), _reading("E", "2", "Wh")));
        for (uint256 i = 0; i < LEAVES; ++i) {
            int64 net = i % 3 == 2 ? -int64(int256(9_000 * i)) : int64(int256(11_000 * (i + 1)));
            (DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory placed) =
                _stating(_metered(bytes32(i + 1), _record_), net, 4, i % 4, uint32(i + 1));
            _statements.push(stated);
            _leaves.push(placed);
            netE4.push(net);
            ids.push(_id(stated, placed));
        }
    }

    function demand(uint256 which, bool byMSP) external {
        which %= LEAVES;
        if (_stage(ids[which]) != 0 || _tooLate(which)) return;
        _demand(_statements[which], _leaves[which], byMSP ? MSP : CPO);
        _note(which);
    }

    function reveal(uint256 which) external {
        which %= LEAVES;
        if (_stage(ids[which]) != uint256(IDisputeResolver.Stage.DEMANDED)) return;
        resolver.reveal(_statements[which].id, _leaves[which].leaf);
        _note(which);
    }

    function quarrel(uint256 which, uint64 dice) external {
        which %= LEAVES;
        uint256 stage = _stage(ids[which]);
        bool isOpen = stage == 0 || stage == uint256(IDisputeResolver.Stage.REVEALED);
        if (!isOpen || _tooLate(which)) return;
        uint64 size = uint64(netE4[which] > 0 ? netE4[which] : -netE4[which]);
        int64 claimedE4 = int64(uint64(dice % size));
        _quarrel(
            _statements[which], _leaves[which], netE4[which] > 0 ? MSP : CPO, netE4[which] > 0 ? claimedE4 : -claimedE4
        );
        _note(which);
    }

    function defend(uint256 which) external {
        bytes32 id = ids[which % LEAVES];
        IDisputeResolver.Case memory case_ = resolver.caseOf(id);
        if (case_.stage != IDisputeResolver.Stage.QUARRELLED || block.timestamp > case_.deadline) return;
        resolver.defend(id, _defence(id, case_.defendant));
        _note(which % LEAVES);
    }

    function rule(uint256 which, uint64 dice) external {
        bytes32 id = ids[which % LEAVES];
        IDisputeResolver.Case memory case_ = resolver.caseOf(id);
        if (case_.stage != IDisputeResolver.Stage.DEFENDED || block.timestamp > case_.deadline) return;
        int64 span = case_.netE4 - case_.claimedE4;
        arbiter.rule(resolver, id, case_.claimedE4 + span * int64(uint64(dice % 5)) / 4);
        ++timesRuled[id];
        _note(which % LEAVES);
    }

    function lapse(uint256 which) external {
        bytes32 id = ids[which % LEAVES];
        IDisputeResolver.Case memory case_ = resolver.caseOf(id);
        uint256 stage = uint256(case_.stage);
        if (stage != 1 && stage != 3 && stage != 4) return;
        if (block.timestamp <= case_.deadline) vm.warp(case_.deadline + 1);
        resolver.lapse(id);
        ++(stage == 1 ? timesStruck : timesRuled)[id];
        _note(which % LEAVES);
    }

    function prove(uint256 which) external {
        which %= LEAVES;
        if (_stage(ids[which]) == uint256(IDisputeResolver.Stage.STRUCK) || _tooLate(which)) return;
        resolver.contestEnergy(abi.encode(_statements[which]), _leaves[which], SALT, _record_);
        ++timesStruck[ids[which]];
        _note(which);
    }

    function _tooLate(uint256 which) private view returns (bool) {
        return block.timestamp > _statements[which].periodEnd + resolver.CONTEST_PERIOD();
    }

    /// @dev What all corrections should add up to, and each party's bonds.
    function expected() external view returns (int256 correctedE4, uint256 bondsOfCPO, uint256 bondsOfMSP) {
        for (uint256 i = 0; i < LEAVES; ++i) {
            IDisputeResolver.Case memory case_ = resolver.caseOf(ids[i]);
            if (case_.stage == IDisputeResolver.Stage.STRUCK) correctedE4 -= netE4[i];
            else correctedE4 += case_.correctedE4;
            uint256 claimant = case_.stage == IDisputeResolver.Stage.DEMANDED ? DEMAND_BOND : 0;
            uint256 defendant = case_.stage == IDisputeResolver.Stage.DEFENDED ? QUARREL_BOND : 0;
            if (case_.stage == IDisputeResolver.Stage.QUARRELLED || defendant != 0) claimant = QUARREL_BOND;
            bondsOfCPO += case_.isByMSP ? defendant : claimant;
            bondsOfMSP += case_.isByMSP ? claimant : defendant;
        }
    }

    function corrected() external view returns (int256) {
        return _corrected();
    }

    function bonds(uint32 party) external view returns (uint256) {
        return _reserved(party);
    }

    function collateral() external view returns (uint256) {
        return vault.balanceOf(CPO) + vault.balanceOf(MSP);
    }

    function _note(uint256 which) private {
        uint256 stage = _stage(ids[which]);
        if (stage < highest[ids[which]]) wentBack = true;
        highest[ids[which]] = stage;
    }
}

contract DisputeInvariantsTest is Disputes {
    /// @dev As forge reads it.
    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    Quarrelling private _quarrelling;

    function setUp() public override {
        _quarrelling = new Quarrelling();
        _quarrelling.setUp();
    }

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_quarrelling);
    }

    function targetSelectors() external view returns (FuzzSelector[] memory selectors) {
        selectors = new FuzzSelector[](1);
        bytes4[] memory steps = new bytes4[](7);
        steps[0] = Quarrelling.demand.selector;
        steps[1] = Quarrelling.reveal.selector;
        steps[2] = Quarrelling.quarrel.selector;
        steps[3] = Quarrelling.defend.selector;
        steps[4] = Quarrelling.rule.selector;
        steps[5] = Quarrelling.lapse.selector;
        steps[6] = Quarrelling.prove.selector;
        selectors[0] = FuzzSelector(address(_quarrelling), steps);
    }

    function invariant_NothingIsDecidedTwice() external view {
        for (uint256 i = 0; i < _quarrelling.LEAVES(); ++i) {
            bytes32 id = _quarrelling.ids(i);
            assertTrue(_quarrelling.timesStruck(id) <= 1, "struck once");
            assertTrue(_quarrelling.timesRuled(id) <= 1, "ruled once");
        }
        assertFalse(_quarrelling.wentBack(), "forward only");
    }

    function invariant_BondsAreConserved() external view {
        (, uint256 ofCPO, uint256 ofMSP) = _quarrelling.expected();
        assertEq(_quarrelling.bonds(CPO), ofCPO, "the CPO's");
        assertEq(_quarrelling.bonds(MSP), ofMSP, "the MSP's");
        assertEq(_quarrelling.collateral(), 2 * BONDS, "nothing is lost");
    }

    function invariant_NoLeafLosesMoreThanItsAmount() external view {
        (int256 correctedE4,,) = _quarrelling.expected();
        assertEq(_quarrelling.corrected(), correctedE4, "as decided");
    }
}
