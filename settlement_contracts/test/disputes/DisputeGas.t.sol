// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DisputeResolver} from "../../src/disputes/DisputeResolver.sol";
import {IDisputeResolver} from "../../src/interfaces/IDisputeResolver.sol";
import {SettlementDisputes} from "../../src/SettlementDisputes.sol";
import {EvidenceLeaf} from "../../src/trees/EvidenceTree.sol";
import {AgreementKey} from "../../src/types/AgreementKey.sol";
import {packFigures} from "../../src/types/PairFigures.sol";
import {PairStatement, StatementRoots} from "../../src/types/PairStatement.sol";
import {Place} from "../../src/types/Place.sol";
import {Disputes} from "../base/Disputes.sol";
import {ReferenceTrees} from "../base/ReferenceTrees.sol";

/// @notice What a dispute over one of 10,000 CDRs costs, in a batch of 100 pairs, as a whole transaction on a chain with the
/// precompile.
/// forge-config: default.isolate = true
/// forge-config: default.evm_version = "osaka"
contract DisputeGasTest is Disputes {
    uint256 private constant COUNT = 10_000;
    uint256 private constant INDEX = 4_321;
    uint32 private constant SIDE = 10;
    uint256 private constant PAIRS = 100;

    SettlementDisputes private _disputes;
    AgreementKey[] private _agreements;
    bytes32 private _struck;

    /// @dev Ten CPOs (party 1, and 3 to 11) with ten MSPs (party 2, and 12 to 20).
    function setUp() public override {
        super.setUp();
        _disputes = new SettlementDisputes(book, evidence, arbiter, DEMAND_BOND, QUARREL_BOND);
        _speakTo(_disputes);
        book.grantRole(book.RESOLVER_ROLE(), address(_disputes));
        vault.grantRole(vault.BOOK_ROLE(), address(_disputes));
        for (uint32 party = 4; party <= 2 * SIDE; ++party) {
            _register(_partyId(party), party);
        }
        _deposit(MSP, 1e15);
        for (uint32 cpo = 0; cpo < SIDE; ++cpo) {
            for (uint32 msp = 0; msp < SIDE; ++msp) {
                _agreements.push(_openPrefunded(cpo == 0 ? CPO : cpo + 2, msp == 0 ? MSP : msp + 11));
            }
        }
    }

    function test_Proofs() public {
        bytes memory payload = _payload(_reading("B", "2935.600", "kWh"), _reading("E", "2965.610", "kWh"));
        bytes memory record = _pack(1, _publicKey(1, 7), payload, _sign(1, 8, payload));
        (IDisputeResolver.PlacedLeaf memory leaf, bytes memory opening) = _final(_metered("cdr", record), 1);
        assertEq(leaf.siblings.length, 672, "bytes of a proof");
        _disputes.contestSignature(opening, leaf, SALT, record);
        _snap("contestSignature");
        (leaf, opening) = _final(_metered("another", record), 2);
        _disputes.contestEnergy(opening, leaf, SALT, record);
        _snap("contestEnergy");
        bytes32 charge = _struck;
        EvidenceLeaf memory struck = leaf.leaf;
        (IDisputeResolver.PlacedLeaf memory again, bytes memory later) = _final(_metered("another", record), 3);
        _disputes.contestDuplicate(later, again, opening, struck, INDEX, _evidenceProof(2));
        _snap("contestDuplicate");
        EvidenceLeaf memory credit = _leaf("credit");
        (credit.kind, credit.meter) = (1, struck.cdrKey);
        (again, later) = _final(credit, 4);
        _disputes.contestCredit(later, again, charge, struck);
        _snap("contestCredit");
    }

    function test_Quarrels() public {
        (IDisputeResolver.PlacedLeaf memory leaf, bytes memory opening) = _final(_leaf("cdr"), 1);
        bytes32 id = keccak256(abi.encode(_struck, _hashOf(leaf.leaf)));
        _disputes.demand(opening, _hidden(leaf), _demandWord(id, MSP));
        _snap("demand");
        _disputes.reveal(_struck, leaf.leaf);
        _snap("reveal");
        _disputes.quarrel(opening, leaf, 80_000, _quarrelWord(id, MSP, 80_000));
        _snap("quarrel");
        _disputes.defend(id, _defence(id, CPO));
        _snap("defend");
        arbiter.rule(_disputes, id, 80_000);
        _snap("rule");
        (leaf, opening) = _final(_leaf("hidden"), 2);
        id = keccak256(abi.encode(_struck, _hashOf(leaf.leaf)));
        _disputes.demand(opening, _hidden(leaf), _demandWord(id, MSP));
        vm.warp(_disputes.caseOf(id).deadline + 1);
        _disputes.lapse(id);
        _snap("lapse: a leaf that nobody showed");
    }

    function _snap(string memory name) private {
        vm.snapshotGasLastCall("Disputes", name);
    }

    function _hidden(IDisputeResolver.PlacedLeaf memory leaf)
        private
        pure
        returns (IDisputeResolver.HiddenLeaf memory)
    {
        return IDisputeResolver.HiddenLeaf({
            evidenceLeaf: _hashOf(leaf.leaf),
            dueE4: leaf.dueE4,
            creditE4: leaf.creditE4,
            index: leaf.index,
            siblings: leaf.siblings
        });
    }

    /// @dev Makes final a batch of `PAIRS` statements, the first with this leaf among `COUNT`; `_struck` is its hash.
    function _final(EvidenceLeaf memory leaf, uint24 sequence)
        private
        returns (IDisputeResolver.PlacedLeaf memory placed, bytes memory opening)
    {
        DisputeResolver.Stated memory stated;
        (stated, placed) = _chain(leaf, leaf.kind == 0 ? int64(120_000) : int64(-120_000), sequence);
        StatementRoots memory roots = StatementRoots({evidence: stated.evidenceRoot, sums: stated.sumRoot});
        PairStatement[] memory statements = new PairStatement[](PAIRS);
        for (uint256 i = 0; i < PAIRS; ++i) {
            statements[i] = _statement(_agreements[i], 1_000, 0, sequence);
        }
        statements[0] = PairStatement({
            figures: packFigures(
                _agreements[0],
                uint56(stated.dueE4),
                uint56(stated.creditE4),
                uint24(COUNT),
                sequence,
                uint32(stated.periodEnd)
            ),
            roots: _rootsHash(roots)
        });
        _struck = _statementHash(statements[0]);
        bytes32 batchId = bytes32(uint256(sequence));
        book.propose(batchId, statements, _acceptances(batchId, statements, CPO, MSP, 1));
        Place memory place = Place({
            batchId: batchId, index: 0, count: PAIRS, siblings: ReferenceTrees.proof(_statementHashes(statements), 0)
        });
        opening = abi.encode(SettlementDisputes.OpenedStatement({statement: statements[0], roots: roots, place: place}));
    }

    /// @dev A statement of `COUNT` leaves of which only the path to the root is made: siblings are what they are.
    function _chain(EvidenceLeaf memory leaf, int64 netE4, uint32 sequence)
        private
        pure
        returns (DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory placed)
    {
        (stated, placed) = _stating(leaf, netE4, 1, 0, sequence);
        bytes32 hash = stated.sumRoot;
        bytes32 evidenceHash = _hashOf(leaf);
        (uint256 index, uint256 width) = (INDEX, COUNT);
        while (width > 1) {
            bytes32 sibling = keccak256(abi.encode(sequence, width));
            bytes memory own = abi.encodePacked(hash, stated.dueE4, stated.creditE4);
            bytes memory other = abi.encodePacked(sibling, uint64(width * 15_000), uint64(width));
            hash = keccak256(index % 2 == 0 ? bytes.concat(hex"01", own, other) : bytes.concat(hex"01", other, own));
            evidenceHash = index % 2 == 0
                ? keccak256(bytes.concat(hex"01", evidenceHash, sibling))
                : keccak256(bytes.concat(hex"01", sibling, evidenceHash));
            stated.dueE4 += uint64(width * 15_000);
            stated.creditE4 += uint64(width);
            placed.siblings = bytes.concat(placed.siblings, other);
            (index, width) = (index / 2, width / 2 + width % 2);
        }
        (stated.sumRoot, stated.evidenceRoot, stated.count, placed.index) = (hash, evidenceHash, uint32(COUNT), INDEX);
    }

    function _evidenceProof(uint32 sequence) private pure returns (bytes32[] memory siblings) {
        siblings = new bytes32[](14);
        uint256 width = COUNT;
        for (uint256 i = 0; i < 14; ++i) {
            siblings[i] = keccak256(abi.encode(sequence, width));
            width = width / 2 + width % 2;
        }
    }
}
