// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {IArbiter} from "../interfaces/IArbiter.sol";
import {ICollateralVault} from "../interfaces/ICollateralVault.sol";
import {IDisputeResolver} from "../interfaces/IDisputeResolver.sol";
import {IMeterEvidence} from "../interfaces/IMeterEvidence.sol";
import {IPartyRegistry} from "../interfaces/IPartyRegistry.sol";
import {MeterRecord} from "../meter/MeterRecord.sol";
import {EvidenceLeaf, EvidenceTree} from "../trees/EvidenceTree.sol";
import {SumNode, SumTree} from "../trees/SumTree.sol";

/// @notice See {IDisputeResolver}. What a statement says and how its pair is corrected, a book's own resolver knows.
abstract contract DisputeResolver is IDisputeResolver, ReentrancyGuardTransient, EIP712 {
    /// @inheritdoc IDisputeResolver
    uint256 public constant CONTEST_PERIOD = 180 days;
    /// @inheritdoc IDisputeResolver
    uint40 public constant ANSWER_WINDOW = 7 days;
    /// @inheritdoc IDisputeResolver
    uint40 public constant RULING_WINDOW = 60 days;

    bytes32 private constant DEMAND_TYPEHASH = keccak256("Demand(bytes32 id,uint32 party,uint40 deadline)");
    bytes32 private constant QUARREL_TYPEHASH =
        keccak256("Quarrel(bytes32 id,uint32 party,int64 claimedE4,uint40 deadline)");
    bytes32 private constant DEFENCE_TYPEHASH = keccak256("Defence(bytes32 id,uint32 party,uint40 deadline)");
    uint8 private constant CHARGE = 0;
    uint8 private constant CREDIT = 1;

    /// @inheritdoc IDisputeResolver
    IPartyRegistry public immutable registry;
    /// @inheritdoc IDisputeResolver
    ICollateralVault public immutable vault;
    /// @inheritdoc IDisputeResolver
    IMeterEvidence public immutable evidence;
    /// @inheritdoc IDisputeResolver
    IArbiter public immutable arbiter;
    /// @inheritdoc IDisputeResolver
    uint64 public immutable demandBondE4;
    /// @inheritdoc IDisputeResolver
    uint64 public immutable quarrelBondE4;

    mapping(bytes32 id => Case) private _cases;

    /// @dev What a book says of a statement.
    /// @param id Its struct hash.
    /// @param pair What the book calls its pair.
    /// @param isFinal Whether it is final; else it is proposed, and only if it is challenged a proof voids it.
    struct Stated {
        bytes32 id;
        uint64 pair;
        uint32 cpo;
        uint32 msp;
        bytes32 evidenceRoot;
        bytes32 sumRoot;
        uint64 dueE4;
        uint64 creditE4;
        uint32 count;
        uint32 sequence;
        uint40 periodEnd;
        bool isFinal;
    }

    constructor(
        IPartyRegistry registry_,
        ICollateralVault vault_,
        IMeterEvidence evidence_,
        IArbiter arbiter_,
        uint64 demandBondE4_,
        uint64 quarrelBondE4_
    ) EIP712("DisputeResolver", "1") {
        registry = registry_;
        vault = vault_;
        evidence = evidence_;
        arbiter = arbiter_;
        demandBondE4 = demandBondE4_;
        quarrelBondE4 = quarrelBondE4_;
    }

    // WHAT A BOOK'S RESOLVER KNOWS

    /// @dev What the book says of the statement that `opening` names. Reverts unless it is final or proposed.
    function _stated(bytes calldata opening) internal view virtual returns (Stated memory);

    /// @dev Has the book change what the pair's MSP owes.
    function _correct(uint64 pair, uint32 cpo, uint32 msp, int64 amountE4) internal virtual;

    /// @dev Has the book take the challenged statement out.
    function _void(bytes calldata opening) internal virtual;

    // PROOFS

    /// @inheritdoc IDisputeResolver
    function contestDuplicate(
        bytes calldata opening,
        PlacedLeaf calldata contested,
        bytes calldata otherOpening,
        EvidenceLeaf calldata other,
        uint256 otherIndex,
        bytes32[] calldata siblings
    ) external nonReentrant {
        (Stated memory stated, bytes32 id) = _placed(opening, contested);
        Stated memory earlier = _stated(otherOpening);
        if (!EvidenceTree.verify(earlier.evidenceRoot, earlier.count, EvidenceTree.hash(other), otherIndex, siblings)) {
            revert DisputeResolverNotInStatement(earlier.id);
        }
        bool isOne = contested.leaf.cdrKey == other.cdrKey && stated.cpo == earlier.cpo && stated.msp == earlier.msp;
        if (!isOne || !earlier.isFinal || !_isBefore(earlier, stated)) revert DisputeResolverNoDuplicate(id);
        _strike(opening, stated, id, contested, Reason.DUPLICATE);
    }

    /// @inheritdoc IDisputeResolver
    function contestSignature(
        bytes calldata opening,
        PlacedLeaf calldata contested,
        bytes32 salt,
        bytes calldata record
    ) external nonReentrant {
        (Stated memory stated, bytes32 id) = _placed(opening, contested);
        _requireRecord(id, contested.leaf, salt, record);
        if (evidence.isSigned(record)) revert DisputeResolverNothingWrong(id);
        _strike(opening, stated, id, contested, Reason.SIGNATURE);
    }

    /// @inheritdoc IDisputeResolver
    function contestEnergy(bytes calldata opening, PlacedLeaf calldata contested, bytes32 salt, bytes calldata record)
        external
        nonReentrant
    {
        (Stated memory stated, bytes32 id) = _placed(opening, contested);
        _requireRecord(id, contested.leaf, salt, record);
        IMeterEvidence.Energy memory energy = evidence.energy(record);
        bool isWrong = (energy.hasImport && energy.importWh != contested.leaf.importWh)
            || (energy.hasExport && energy.exportWh != contested.leaf.exportWh);
        if (!isWrong) revert DisputeResolverNothingWrong(id);
        _strike(opening, stated, id, contested, Reason.ENERGY);
    }

    /// @inheritdoc IDisputeResolver
    function contestCredit(
        bytes calldata opening,
        PlacedLeaf calldata contested,
        bytes32 statement,
        EvidenceLeaf calldata charge
    ) external nonReentrant {
        (Stated memory stated, bytes32 id) = _placed(opening, contested);
        Case storage ofCharge = _cases[_id(statement, EvidenceTree.hash(charge))];
        bool takesBack = contested.leaf.kind == CREDIT && charge.kind == CHARGE && contested.leaf.meter == charge.cdrKey;
        // Of a duplicate the earlier copy stands, and the credit takes back that one.
        bool isGone = ofCharge.stage == Stage.STRUCK && ofCharge.reason != Reason.DUPLICATE;
        if (!takesBack || !isGone) revert DisputeResolverNothingWrong(id);
        _strike(opening, stated, id, contested, Reason.CREDIT);
    }

    // DEMANDS

    /// @inheritdoc IDisputeResolver
    function demand(bytes calldata opening, HiddenLeaf calldata hidden, Word calldata word) external nonReentrant {
        Stated memory stated = _inTime(opening);
        SumNode memory leaf = SumTree.leafNode(hidden.evidenceLeaf, hidden.dueE4, hidden.creditE4);
        _requireInSums(stated, leaf, hidden.index, hidden.siblings);
        bytes32 id = _id(stated.id, hidden.evidenceLeaf);
        Case storage case_ = _cases[id];
        if (!stated.isFinal || case_.stage != Stage.NONE) revert DisputeResolverWrongStage(id, case_.stage);
        _requireWord(word, keccak256(abi.encode(DEMAND_TYPEHASH, id, word.party, word.deadline)));
        uint40 deadline = uint40(block.timestamp) + ANSWER_WINDOW;
        _open(case_, Stage.DEMANDED, deadline, stated, word.party, _netE4(hidden.dueE4, hidden.creditE4));
        emit LeafDemanded(id, word.party, deadline);
        vault.reserve(word.party, demandBondE4);
    }

    /// @inheritdoc IDisputeResolver
    function reveal(bytes32 statement, EvidenceLeaf calldata leaf) external nonReentrant {
        bytes32 id = caseId(statement, leaf);
        Case storage case_ = _cases[id];
        if (case_.stage != Stage.DEMANDED) revert DisputeResolverWrongStage(id, case_.stage);
        case_.stage = Stage.REVEALED;
        emit LeafRevealed(id);
        vault.takeReserved(case_.claimant, case_.defendant, demandBondE4);
    }

    // QUARRELS

    /// @inheritdoc IDisputeResolver
    function quarrel(bytes calldata opening, PlacedLeaf calldata contested, int64 claimedE4, Word calldata word)
        external
        nonReentrant
    {
        (Stated memory stated, bytes32 id) = _placed(opening, contested);
        Case storage case_ = _cases[id];
        Stage stage = case_.stage;
        if (!stated.isFinal || (stage != Stage.NONE && stage != Stage.REVEALED)) {
            revert DisputeResolverWrongStage(id, stage);
        }
        int64 netE4 = _netE4(contested.dueE4, contested.creditE4);
        if (word.party != (netE4 > 0 ? stated.msp : stated.cpo)) revert DisputeResolverNotItsTurn(word.party);
        if (claimedE4 == netE4 || !_isBetween(claimedE4, 0, netE4)) revert DisputeResolverUnsuitableAmount(claimedE4);
        _requireWord(word, keccak256(abi.encode(QUARREL_TYPEHASH, id, word.party, claimedE4, word.deadline)));
        uint40 deadline = uint40(block.timestamp) + ANSWER_WINDOW;
        _open(case_, Stage.QUARRELLED, deadline, stated, word.party, netE4);
        case_.claimedE4 = claimedE4;
        emit AmountQuarrelled(id, word.party, netE4, claimedE4, deadline);
        vault.reserve(word.party, quarrelBondE4);
    }

    /// @inheritdoc IDisputeResolver
    function defend(bytes32 id, Word calldata word) external nonReentrant {
        Case storage case_ = _cases[id];
        if (case_.stage != Stage.QUARRELLED) revert DisputeResolverWrongStage(id, case_.stage);
        if (block.timestamp > case_.deadline) revert DisputeResolverDeadline(case_.deadline);
        if (word.party != case_.defendant) revert DisputeResolverNotItsTurn(word.party);
        _requireWord(word, keccak256(abi.encode(DEFENCE_TYPEHASH, id, word.party, word.deadline)));
        uint40 deadline = uint40(block.timestamp) + RULING_WINDOW;
        case_.stage = Stage.DEFENDED;
        case_.deadline = deadline;
        emit AmountDefended(id, deadline);
        vault.reserve(word.party, quarrelBondE4);
        arbiter.take(id, case_.netE4, case_.claimedE4, deadline);
    }

    /// @inheritdoc IDisputeResolver
    function rule(bytes32 id, int64 ruledE4) external nonReentrant {
        if (msg.sender != address(arbiter)) revert DisputeResolverNotArbiter(msg.sender);
        Case memory case_ = _cases[id];
        if (case_.stage != Stage.DEFENDED) revert DisputeResolverWrongStage(id, case_.stage);
        if (block.timestamp > case_.deadline) revert DisputeResolverDeadline(case_.deadline);
        if (!_isBetween(ruledE4, case_.claimedE4, case_.netE4)) revert DisputeResolverUnsuitableAmount(ruledE4);
        uint64 fromClaimed = _distance(ruledE4, case_.claimedE4);
        uint64 fromStated = _distance(ruledE4, case_.netE4);
        uint32 winner = fromClaimed == fromStated ? 0 : fromClaimed < fromStated ? case_.claimant : case_.defendant;
        _rule(id, case_, ruledE4 - case_.netE4, winner);
        if (winner == 0) {
            vault.release(case_.claimant, quarrelBondE4);
            vault.release(case_.defendant, quarrelBondE4);
        } else {
            vault.release(winner, quarrelBondE4);
            vault.takeReserved(winner == case_.claimant ? case_.defendant : case_.claimant, winner, quarrelBondE4);
        }
    }

    /// @inheritdoc IDisputeResolver
    function lapse(bytes32 id) external nonReentrant {
        Case memory case_ = _cases[id];
        Stage stage = case_.stage;
        if (stage != Stage.DEMANDED && stage != Stage.QUARRELLED && stage != Stage.DEFENDED) {
            revert DisputeResolverWrongStage(id, stage);
        }
        if (block.timestamp <= case_.deadline) revert DisputeResolverDeadline(case_.deadline);
        if (stage == Stage.DEMANDED) {
            _cases[id].stage = Stage.STRUCK;
            _cases[id].reason = Reason.WITHHELD;
            emit LeafStruck(id, Reason.WITHHELD, -case_.netE4);
            _correctParties(case_, -case_.netE4);
        } else {
            _rule(id, case_, stage == Stage.QUARRELLED ? case_.claimedE4 - case_.netE4 : int64(0), 0);
        }
        _releaseBonds(case_);
    }

    // VIEWS

    /// @inheritdoc IDisputeResolver
    function caseOf(bytes32 id) external view returns (Case memory) {
        return _cases[id];
    }

    /// @inheritdoc IDisputeResolver
    function caseId(bytes32 statement, EvidenceLeaf calldata leaf) public pure returns (bytes32) {
        return _id(statement, EvidenceTree.hash(leaf));
    }

    // VERDICTS

    function _strike(
        bytes calldata opening,
        Stated memory stated,
        bytes32 id,
        PlacedLeaf calldata contested,
        Reason reason
    ) private {
        if (!stated.isFinal) {
            emit StatementVoided(stated.id, id, reason);
            _void(opening);
            return;
        }
        Case storage stored = _cases[id];
        Stage stage = stored.stage;
        if (stage == Stage.STRUCK) revert DisputeResolverWrongStage(id, stage);
        int64 amountE4 = -_netE4(contested.dueE4, contested.creditE4);
        stored.stage = Stage.STRUCK;
        stored.reason = reason;
        if (stage != Stage.NONE) {
            Case memory case_ = stored;
            case_.stage = stage;
            amountE4 -= case_.correctedE4;
            _releaseBonds(case_);
        }
        emit LeafStruck(id, reason, amountE4);
        _correct(stated.pair, stated.cpo, stated.msp, amountE4);
    }

    function _rule(bytes32 id, Case memory case_, int64 amountE4, uint32 winner) private {
        _cases[id].stage = Stage.RULED;
        _cases[id].correctedE4 = amountE4;
        emit AmountRuled(id, amountE4, winner);
        if (amountE4 != 0) _correctParties(case_, amountE4);
    }

    function _correctParties(Case memory case_, int64 amountE4) private {
        (uint32 msp, uint32 cpo) = case_.isByMSP ? (case_.claimant, case_.defendant) : (case_.defendant, case_.claimant);
        _correct(case_.pair, cpo, msp, amountE4);
    }

    function _releaseBonds(Case memory case_) private {
        if (case_.stage == Stage.DEMANDED) vault.release(case_.claimant, demandBondE4);
        if (case_.stage == Stage.QUARRELLED || case_.stage == Stage.DEFENDED) {
            vault.release(case_.claimant, quarrelBondE4);
        }
        if (case_.stage == Stage.DEFENDED) vault.release(case_.defendant, quarrelBondE4);
    }

    // CHECKS

    function _inTime(bytes calldata opening) private view returns (Stated memory stated) {
        stated = _stated(opening);
        uint256 until = uint256(stated.periodEnd) + CONTEST_PERIOD;
        if (block.timestamp > until) revert DisputeResolverTooLate(until);
    }

    function _placed(bytes calldata opening, PlacedLeaf calldata contested)
        private
        view
        returns (Stated memory stated, bytes32 id)
    {
        stated = _inTime(opening);
        bytes32 evidenceLeaf = EvidenceTree.hash(contested.leaf);
        SumNode memory leaf = SumTree.leafNode(evidenceLeaf, contested.dueE4, contested.creditE4);
        _requireInSums(stated, leaf, contested.index, contested.siblings);
        id = _id(stated.id, evidenceLeaf);
    }

    function _requireInSums(Stated memory stated, SumNode memory leaf, uint256 index, bytes calldata siblings)
        private
        pure
    {
        SumNode memory root = SumNode({hash: stated.sumRoot, dueE4: stated.dueE4, creditE4: stated.creditE4});
        if (!SumTree.verify(root, stated.count, leaf, index, siblings)) {
            revert DisputeResolverNotInStatement(stated.id);
        }
    }

    function _requireRecord(bytes32 id, EvidenceLeaf calldata leaf, bytes32 salt, bytes calldata record) private pure {
        if (leaf.kind != CHARGE || leaf.meter != MeterRecord.commitment(salt, record)) {
            revert DisputeResolverOtherRecord(id);
        }
    }

    function _requireWord(Word calldata word, bytes32 structHash) private view {
        bytes32 digest = _hashTypedDataV4(structHash);
        // slither-disable-next-line unused-return (what can't be recovered is address 0, which no party has)
        (address recovered,,) = ECDSA.tryRecover(digest, word.signature.r, word.signature.vs);
        if (block.timestamp > word.deadline || recovered != registry.signerOf(word.party)) {
            revert DisputeResolverNoWord(word.party);
        }
    }

    /// @dev By the periods' ends, which go up with each statement of a pair; else by their numbers and hashes, so that of
    /// two statements never both come first.
    function _isBefore(Stated memory one, Stated memory other) private pure returns (bool) {
        if (one.periodEnd != other.periodEnd) return one.periodEnd < other.periodEnd;
        if (one.sequence != other.sequence) return one.sequence < other.sequence;
        return one.id < other.id;
    }

    function _open(Case storage case_, Stage stage, uint40 deadline, Stated memory stated, uint32 party, int64 netE4)
        private
    {
        if (party != stated.cpo && party != stated.msp) revert DisputeResolverNotItsTurn(party);
        case_.stage = stage;
        case_.deadline = deadline;
        case_.claimant = party;
        case_.defendant = party == stated.cpo ? stated.msp : stated.cpo;
        case_.isByMSP = party == stated.msp;
        case_.pair = stated.pair;
        case_.netE4 = netE4;
    }

    function _netE4(uint64 dueE4, uint64 creditE4) private pure returns (int64) {
        if ((dueE4 | creditE4) >> 63 != 0) revert DisputeResolverUnsuitableAmount(type(int64).max);
        return int64(dueE4) - int64(creditE4);
    }

    function _isBetween(int64 amountE4, int64 one, int64 other) private pure returns (bool) {
        return one < other ? one <= amountE4 && amountE4 <= other : other <= amountE4 && amountE4 <= one;
    }

    function _distance(int64 one, int64 other) private pure returns (uint64) {
        return uint64(one < other ? other - one : one - other);
    }

    function _id(bytes32 statement, bytes32 evidenceLeaf) private pure returns (bytes32) {
        return keccak256(abi.encode(statement, evidenceLeaf));
    }
}
