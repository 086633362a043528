// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {TransientSlot} from "@openzeppelin/contracts/utils/TransientSlot.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ICollateralVault} from "./interfaces/ICollateralVault.sol";
import {IDisputable} from "./interfaces/IDisputable.sol";
import {IPartyRegistry} from "./interfaces/IPartyRegistry.sol";
import {ISettlementBook} from "./interfaces/ISettlementBook.sol";
import {EvidenceLeaf, EvidenceTree} from "./trees/EvidenceTree.sol";
import {MerkleTree} from "./trees/MerkleTree.sol";
import {SumNode, SumTree} from "./trees/SumTree.sol";
import {AgreementKey, packAgreementKey} from "./types/AgreementKey.sol";
import {Lane, Lanes, packLane} from "./types/Lane.sol";
import {PairFigures} from "./types/PairFigures.sol";
import {PairSet, PairSets} from "./types/PairSet.sol";
import {PairStatement, PairStatements, StatementRoots} from "./types/PairStatement.sol";
import {Place} from "./types/Place.sol";
import {Rooms} from "./types/Rooms.sol";
import {Signature} from "./types/Signature.sol";
import {Transfer, packTransfer} from "./types/Transfer.sol";

/// @notice See {ISettlementBook}.
contract SettlementBook is ISettlementBook, IDisputable, AccessControl, Pausable, ReentrancyGuardTransient, EIP712 {
    using PairStatements for PairStatement;
    using TransientSlot for TransientSlot.Uint256Slot;

    /// @notice Who proposes batches.
    bytes32 public constant PROPOSER_ROLE = keccak256("PROPOSER_ROLE");
    /// @notice Who stops and allows proposals.
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");
    /// @notice Who decides challenges and disputes.
    bytes32 public constant RESOLVER_ROLE = keccak256("RESOLVER_ROLE");
    /// @notice Most statements in a batch: as many as a `PairSet` has places.
    uint256 public constant MAX_STATEMENTS = 256;
    /// @notice Shortest window: a silent side must have a working day to look.
    uint40 public constant MIN_WINDOW = 1 days;
    /// @notice Longest window: nobody waits longer for a side that is silent.
    uint40 public constant MAX_WINDOW = 3 days;
    /// @notice Highest bond of a challenge, in ten-thousandths: a thousand.
    uint64 public constant MAX_BOND = 10_000_000;
    /// @notice How long an agreement goes on after a notice, beside its payment term.
    uint40 public constant NOTICE_PERIOD = 30 days;
    /// @notice Longest payment term under a guarantee.
    uint32 public constant MAX_PAYMENT_TERM = 365 days;
    /// @notice Highest limit and highest sum of corrections, in ten-thousandths.
    uint64 public constant MAX_AMOUNT = 1 << 62;

    bytes32 private constant AGREEMENT_TYPEHASH = keccak256(
        "Agreement(bytes32 document,uint32 cpo,uint32 msp,bytes3 currency,uint8 kind,uint16 number,uint8 mode,uint64 creditLimitE4,uint32 paymentTermS,uint64 deadline)"
    );
    bytes32 private constant ACCEPTANCE_TYPEHASH =
        keccak256("Acceptance(bytes32 batchId,bytes32 pairsHash,uint32 party,uint256 pairs)");
    bytes32 private constant DISCHARGE_TYPEHASH = keccak256("Discharge(uint64 agreement,uint24 number,int64 amountE4)");
    bytes32 private constant ENDING_TYPEHASH = keccak256("Ending(uint64 agreement)");
    /// @dev Most room, so that what is owed fits an i64 either way.
    uint256 private constant MAX_ROOM = uint64(type(int64).max);

    /// @dev What statements don't need to become final.
    struct Details {
        uint64 creditLimitE4;
        int64 correctedE4;
        uint32 paymentTermS;
        uint24 discharges;
        uint40 endsAt;
        bytes32 id;
    }

    /// @dev Under GUARANTEE: all that the MSP was charged up to a statement, paid or not, and since when.
    struct Owing {
        int128 billedE4;
        uint40 since;
    }

    /// @inheritdoc ISettlementBook
    bytes3 public immutable currency;
    /// @inheritdoc ISettlementBook
    uint40 public immutable windowS;
    /// @inheritdoc ISettlementBook
    uint64 public immutable bondE4;
    /// @inheritdoc ISettlementBook
    IPartyRegistry public immutable registry;
    /// @inheritdoc ISettlementBook
    ICollateralVault public immutable vault;

    /// @inheritdoc ISettlementBook
    bool public isClosed;
    mapping(uint256 group => Lanes) private _lanes;
    mapping(uint256 group => Rooms) private _rooms;
    mapping(AgreementKey agreement => Details) private _details;
    // Written through references only, which slither does not follow.
    // slither-disable-next-line uninitialized-state
    mapping(AgreementKey agreement => mapping(uint24 sequence => Owing)) private _owings;
    // slither-disable-next-line uninitialized-state
    mapping(bytes32 batchId => Batch) private _batches;

    constructor(
        bytes3 currency_,
        uint40 windowS_,
        uint64 bondE4_,
        IPartyRegistry registry_,
        ICollateralVault vault_,
        address admin
    ) EIP712("SettlementBook", "1") {
        if (windowS_ < MIN_WINDOW || windowS_ > MAX_WINDOW || bondE4_ > MAX_BOND || vault_.delay() <= windowS_) {
            revert SettlementBookUnsuitableWindow(windowS_, bondE4_);
        }
        currency = currency_;
        windowS = windowS_;
        bondE4 = bondE4_;
        registry = registry_;
        vault = vault_;
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    // AGREEMENTS

    /// @inheritdoc ISettlementBook
    function openAgreement(Agreement calldata terms, Signature calldata byCPO, Signature calldata byMSP)
        external
        nonReentrant
        returns (AgreementKey agreement)
    {
        _requireOpen();
        bytes32 id = agreementId(terms);
        _requireSuitable(terms, id);
        if (block.timestamp > terms.deadline) revert SettlementBookExpired(terms.deadline);
        agreement = packAgreementKey(terms.cpo, uint8(terms.kind), terms.number, terms.msp);
        if (_laneOf(agreement).isOpen()) revert SettlementBookKnownAgreement(agreement);
        bytes32 digest = _hashTypedDataV4(id);
        _requireSignature(terms.cpo, digest, byCPO);
        _requireSignature(terms.msp, digest, byMSP);
        _setLane(agreement, packLane(uint8(terms.mode)));
        Details storage details = _details[agreement];
        details.creditLimitE4 = terms.creditLimitE4;
        details.paymentTermS = terms.paymentTermS;
        details.id = id;
        if (terms.mode != Mode.PREFUNDED) _setRoom(agreement, terms.creditLimitE4);
        emit AgreementOpened(agreement, id, terms.document, terms.mode, terms.creditLimitE4, terms.paymentTermS);
        if (terms.mode == Mode.GUARANTEE) vault.reserve(terms.msp, terms.creditLimitE4);
    }

    /// @inheritdoc ISettlementBook
    function discharge(AgreementKey agreement, int64 amountE4, Signature calldata byCPO, Signature calldata byMSP)
        external
        nonReentrant
    {
        Lane lane = _openLane(agreement);
        Details storage details = _details[agreement];
        int64 owedE4 = _owedE4(agreement, lane, details);
        bool lowers = amountE4 > 0 ? amountE4 <= owedE4 : amountE4 < 0 && amountE4 >= owedE4;
        if (!lowers) revert SettlementBookDischargeExceedsOwed(agreement, amountE4, owedE4);
        uint24 number = details.discharges;
        _requireBoth(
            agreement,
            keccak256(abi.encode(DISCHARGE_TYPEHASH, AgreementKey.unwrap(agreement), number, amountE4)),
            byCPO,
            byMSP
        );
        details.discharges = number + 1;
        emit ObligationDischarged(agreement, number, amountE4, owedE4 - amountE4);
        _setRoom(agreement, uint64(uint256(int256(uint256(_roomOf(agreement))) + amountE4)));
        _releaseAfterEnd(agreement, lane);
    }

    /// @inheritdoc ISettlementBook
    function callGuarantee(AgreementKey agreement, uint24 sequence, uint64 amountE4) external nonReentrant {
        Lane lane = _openLane(agreement);
        _requireSender(agreement.cpo());
        Details storage details = _details[agreement];
        int64 owedE4 = _owedE4(agreement, lane, details);
        Owing memory until = _owings[agreement][sequence];
        int256 overdueE4 = 0;
        if (
            Mode(lane.mode()) == Mode.GUARANTEE && until.since != 0
                && block.timestamp >= until.since + details.paymentTermS
        ) {
            overdueE4 = owedE4 - (int256(_owings[agreement][lane.lastSequence()].billedE4) - until.billedE4);
        }
        if (amountE4 == 0 || int256(uint256(amountE4)) > overdueE4 || amountE4 > details.creditLimitE4) {
            revert SettlementBookCallExceedsOverdue(agreement, amountE4, overdueE4);
        }
        details.creditLimitE4 -= amountE4;
        emit GuaranteeCalled(agreement, amountE4, owedE4 - int64(amountE4));
        vault.takeReserved(agreement.msp(), agreement.cpo(), amountE4);
    }

    /// @inheritdoc ISettlementBook
    function giveNotice(AgreementKey agreement) external {
        Lane lane = _openLane(agreement);
        if (lane.hasEnded()) revert SettlementBookEnded(agreement);
        bool byCPO = msg.sender == registry.signerOf(agreement.cpo());
        if (!byCPO) _requireSender(agreement.msp());
        Details storage details = _details[agreement];
        if (details.endsAt == 0) {
            uint40 endsAt = uint40(block.timestamp) + NOTICE_PERIOD + details.paymentTermS;
            details.endsAt = endsAt;
            emit NoticeGiven(agreement, byCPO ? agreement.cpo() : agreement.msp(), endsAt);
        }
    }

    /// @inheritdoc ISettlementBook
    function endAfterNotice(AgreementKey agreement) external nonReentrant {
        uint40 endsAt = _details[agreement].endsAt;
        if (endsAt == 0 || block.timestamp < endsAt) revert SettlementBookNotEnding(agreement, endsAt);
        _end(agreement);
    }

    /// @inheritdoc ISettlementBook
    function endAgreement(AgreementKey agreement, Signature calldata byCPO, Signature calldata byMSP)
        external
        nonReentrant
    {
        _requireBoth(agreement, keccak256(abi.encode(ENDING_TYPEHASH, AgreementKey.unwrap(agreement))), byCPO, byMSP);
        _end(agreement);
    }

    /// @inheritdoc IDisputable
    function correct(AgreementKey agreement, int64 amountE4) external onlyRole(RESOLVER_ROLE) {
        Lane lane = _openLane(agreement);
        int256 correctedE4 = int256(_details[agreement].correctedE4) + amountE4;
        int256 most = int256(uint256(MAX_AMOUNT));
        if (correctedE4 > most || correctedE4 < -most) revert DisputableTooMuch(agreement);
        _details[agreement].correctedE4 = int64(correctedE4);
        _setLane(agreement, lane.corrected(correctedE4 != 0));
        emit AgreementCorrected(agreement, amountE4);
        _releaseAfterEnd(agreement, lane);
    }

    /// @inheritdoc ISettlementBook
    function fundCorrection(AgreementKey agreement) external nonReentrant {
        Lane lane = _openLane(agreement);
        if (!lane.isCorrected()) revert SettlementBookNotCorrected(agreement);
        int256 netE4 = _meetCorrection(agreement);
        _setLane(agreement, lane.corrected(false));
        if (Mode(lane.mode()) != Mode.PREFUNDED) {
            if (!_owe(agreement, lane, netE4, lane.lastSequence())) revert SettlementBookNotCovered(agreement);
            _releaseAfterEnd(agreement, lane);
        } else {
            Transfer[] memory transfers = new Transfer[](1);
            transfers[0] = _payment(agreement, netE4);
            if (vault.applyTransfers(transfers).isEmpty()) revert SettlementBookNotCovered(agreement);
        }
    }

    // BATCHES

    /// @inheritdoc ISettlementBook
    function propose(bytes32 batchId, PairStatement[] calldata statements, Acceptance[] calldata acceptances)
        external
        onlyRole(PROPOSER_ROLE)
        whenNotPaused
        nonReentrant
    {
        _requireOpen();
        Batch storage batch_ = _batches[batchId];
        if (batch_.pairsHash != 0) revert SettlementBookBatchExists(batchId);
        if (statements.length == 0 || statements.length > MAX_STATEMENTS) {
            revert SettlementBookUnsuitableCount(statements.length);
        }
        Lane[] memory lanes = _readLanes(statements, true);
        bytes32 hash = PairStatements.hashAll(statements);
        batch_.pairsHash = hash;
        emit BatchProposed(batchId, hash, statements.length);
        Progress memory progress = Progress(PairSets.first(statements.length), PairSets.NONE, PairSets.NONE);
        _hear(batchId, hash, statements, acceptances, progress);
        _settle(batchId, statements, lanes, progress);
        // What is final at once leaves nothing behind but the hash.
        if (progress.open.isEmpty()) return;
        batch_.open = progress.open;
        _keepAccepted(batch_, progress);
        PairSet ripening = progress.byCPO.xor(progress.byMSP).and(progress.open);
        if (ripening.isEmpty()) return;
        batch_.ripening = ripening;
        batch_.dueAt = uint40(block.timestamp) + windowS;
    }

    /// @inheritdoc ISettlementBook
    function accept(bytes32 batchId, PairStatement[] calldata statements, Acceptance[] calldata acceptances)
        external
        nonReentrant
    {
        _continue(batchId, statements, acceptances);
    }

    /// @inheritdoc ISettlementBook
    function fund(bytes32 batchId, PairStatement[] calldata statements) external nonReentrant {
        _continue(batchId, statements, _nobody());
    }

    /// @inheritdoc ISettlementBook
    function challenge(PairStatement calldata statement, Place calldata place) external nonReentrant {
        Batch storage batch_ = _requirePlace(statement, place);
        uint256 index = place.index;
        if (!batch_.ripening.contains(index) || block.timestamp >= batch_.dueAt) {
            revert SettlementBookNotRipening(place.batchId, index);
        }
        uint32 party = _silentSide(batch_, statement.figures.agreement(), index);
        _requireSender(party);
        PairSet pair = PairSets.NONE.with(index);
        batch_.ripening = batch_.ripening.without(pair);
        batch_.challenged = batch_.challenged.or(pair);
        emit PairChallenged(place.batchId, party, index);
        vault.reserve(party, bondE4);
    }

    /// @inheritdoc ISettlementBook
    function decideChallenge(PairStatement calldata statement, Place calldata place, bool isUpheld)
        external
        onlyRole(RESOLVER_ROLE)
        nonReentrant
    {
        Batch storage batch_ = _requirePlace(statement, place);
        uint256 index = place.index;
        if (!batch_.challenged.contains(index)) revert SettlementBookNotChallenged(place.batchId, index);
        AgreementKey agreement = statement.figures.agreement();
        uint32 party = _silentSide(batch_, agreement, index);
        PairSet pair = PairSets.NONE.with(index);
        batch_.challenged = batch_.challenged.without(pair);
        if (isUpheld) {
            batch_.open = batch_.open.without(pair);
            batch_.void = batch_.void.or(pair);
        } else if (party == agreement.cpo()) {
            batch_.acceptedByCPO = batch_.acceptedByCPO.or(pair);
        } else {
            batch_.acceptedByMSP = batch_.acceptedByMSP.or(pair);
        }
        emit ChallengeEnded(place.batchId, index, isUpheld);
        if (isUpheld) vault.release(party, bondE4);
        else vault.takeReserved(party, party == agreement.cpo() ? agreement.msp() : agreement.cpo(), bondE4);
    }

    /// @inheritdoc ISettlementBook
    function pause() external onlyRole(PAUSER_ROLE) {
        _pause();
    }

    /// @inheritdoc ISettlementBook
    function unpause() external onlyRole(PAUSER_ROLE) {
        _unpause();
    }

    /// @inheritdoc ISettlementBook
    function close() external onlyRole(DEFAULT_ADMIN_ROLE) {
        _requireOpen();
        isClosed = true;
        emit BookClosed();
    }

    // VIEWS

    /// @inheritdoc ISettlementBook
    function agreementState(AgreementKey agreement) external view returns (AgreementState memory) {
        Lane lane = _openLane(agreement);
        Details storage details = _details[agreement];
        return AgreementState({
            id: details.id,
            cpo: agreement.cpo(),
            msp: agreement.msp(),
            mode: Mode(lane.mode()),
            hasEnded: lane.hasEnded(),
            creditLimitE4: details.creditLimitE4,
            lastSequence: lane.lastSequence(),
            discharges: details.discharges,
            owedE4: _owedE4(agreement, lane, details),
            correctedE4: details.correctedE4,
            paymentTermS: details.paymentTermS,
            endsAt: details.endsAt
        });
    }

    /// @inheritdoc ISettlementBook
    function batch(bytes32 batchId) external view returns (Batch memory) {
        return _batches[batchId];
    }

    /// @inheritdoc ISettlementBook
    function isFinal(AgreementKey agreement, uint24 sequence) external view returns (bool) {
        return sequence != 0 && sequence <= _laneOf(agreement).lastSequence();
    }

    /// @inheritdoc ISettlementBook
    function isStatementFinal(PairStatement calldata statement, Place calldata place) external view returns (bool) {
        (Stage stage,) = statementStage(statement, place);
        return stage == Stage.FINAL;
    }

    /// @inheritdoc IDisputable
    function statementStage(PairStatement calldata statement, Place calldata place)
        public
        view
        returns (Stage stage, uint64 deadline)
    {
        Batch storage batch_ = _batches[place.batchId];
        if (!_isAt(batch_, statement, place) || batch_.void.contains(place.index)) return (Stage.NONE, 0);
        if (!batch_.open.contains(place.index)) return (Stage.FINAL, 0);
        return (Stage.PROPOSED, batch_.ripening.contains(place.index) ? batch_.dueAt : 0);
    }

    /// @inheritdoc ISettlementBook
    function verifyEvidence(
        PairStatement calldata statement,
        StatementRoots calldata roots,
        EvidenceLeaf calldata leaf,
        uint256 index,
        bytes32[] calldata siblings
    ) external pure returns (bool) {
        return statement.areRoots(roots)
            && EvidenceTree.verify(roots.evidence, statement.figures.count(), EvidenceTree.hash(leaf), index, siblings);
    }

    /// @inheritdoc ISettlementBook
    function verifySum(
        PairStatement calldata statement,
        StatementRoots calldata roots,
        bytes32 evidenceLeaf,
        uint64 dueE4,
        uint64 creditE4,
        uint256 index,
        bytes calldata siblings
    ) external pure returns (bool) {
        PairFigures figures = statement.figures;
        SumNode memory root = SumNode({hash: roots.sums, dueE4: figures.dueE4(), creditE4: figures.creditE4()});
        return statement.areRoots(roots)
            && SumTree.verify(root, figures.count(), SumTree.leafNode(evidenceLeaf, dueE4, creditE4), index, siblings);
    }

    /// @inheritdoc ISettlementBook
    function agreementId(Agreement calldata terms) public pure returns (bytes32) {
        return keccak256(abi.encode(AGREEMENT_TYPEHASH, terms));
    }

    /// @inheritdoc ISettlementBook
    function pairsHash(PairStatement[] calldata statements) external pure returns (bytes32) {
        return PairStatements.hashAll(statements);
    }

    // HOW A BATCH ADVANCES

    /// @dev What one call knows of a batch.
    /// @param open Pairs that are not final.
    /// @param byCPO Open pairs that their CPO accepted.
    /// @param byMSP Open pairs that their MSP accepted.
    struct Progress {
        PairSet open;
        PairSet byCPO;
        PairSet byMSP;
    }

    /// @dev Goes on with a batch that was proposed before. Who calls it is `nonReentrant`.
    // slither-disable-next-line reentrancy-no-eth
    function _continue(bytes32 batchId, PairStatement[] calldata statements, Acceptance[] calldata acceptances)
        private
    {
        Batch storage batch_ = _batches[batchId];
        bytes32 hash = PairStatements.hashAll(statements);
        if (hash != batch_.pairsHash) revert SettlementBookOtherStatements(batchId);
        PairSet open = batch_.open;
        if (open.isEmpty()) return;
        Progress memory progress = Progress(open, batch_.acceptedByCPO, batch_.acceptedByMSP);
        _hear(batchId, hash, statements, acceptances, progress);
        Lane[] memory lanes = _readLanes(statements, false);
        if (!batch_.challenged.isEmpty()) _endChallenges(batchId, statements, lanes, progress);
        if (!batch_.ripening.isEmpty() && block.timestamp >= batch_.dueAt) {
            PairSet ripe = batch_.ripening.and(progress.open);
            progress.byCPO = progress.byCPO.or(ripe);
            progress.byMSP = progress.byMSP.or(ripe);
        }
        _settle(batchId, statements, lanes, progress);
        if (!progress.open.equals(open)) batch_.open = progress.open;
        // Who has accepted, or is taken to have, can't challenge any more.
        batch_.ripening = batch_.ripening.and(progress.open).and(progress.byCPO.xor(progress.byMSP));
        _keepAccepted(batch_, progress);
    }

    function _keepAccepted(Batch storage batch_, Progress memory progress) private {
        batch_.acceptedByCPO = progress.byCPO.and(progress.open);
        batch_.acceptedByMSP = progress.byMSP.and(progress.open);
    }

    /// @dev Ends challenges that were taken back by an acceptance, or that another statement of the agreement overtook.
    function _endChallenges(
        bytes32 batchId,
        PairStatement[] calldata statements,
        Lane[] memory lanes,
        Progress memory progress
    ) private {
        Batch storage batch_ = _batches[batchId];
        PairSet challenged = batch_.challenged;
        for (uint256 i = 0; i < statements.length; ++i) {
            if (!challenged.contains(i)) continue;
            PairFigures figures = PairStatements.figuresAt(statements, i);
            bool isVoid = figures.sequence() <= lanes[i].lastSequence();
            if (!isVoid && !progress.byCPO.and(progress.byMSP).contains(i)) continue;
            PairSet pair = PairSets.NONE.with(i);
            uint32 party = _silentSide(batch_, figures.agreement(), i);
            batch_.challenged = batch_.challenged.without(pair);
            if (isVoid) {
                progress.open = progress.open.without(pair);
                batch_.void = batch_.void.or(pair);
            }
            emit ChallengeEnded(batchId, i, isVoid);
            vault.release(party, bondE4);
        }
    }

    /// @dev Makes final what both sides accepted, if its turn has come and it is covered.
    function _settle(
        bytes32 batchId,
        PairStatement[] calldata statements,
        Lane[] memory lanes,
        Progress memory progress
    ) private {
        PairSet ready = progress.byCPO.and(progress.byMSP).and(progress.open);
        if (ready.isEmpty()) return;
        Transfer[] memory transfers = new Transfer[](statements.length);
        uint256 payments = 0;
        PairSet settled = PairSets.NONE;
        PairSet paying = PairSets.NONE;
        PairSet unfunded = PairSets.NONE;
        for (uint256 i = 0; i < statements.length; ++i) {
            if (!ready.contains(i)) continue;
            Lane lane = lanes[i];
            PairFigures figures = PairStatements.figuresAt(statements, i);
            if (figures.sequence() != uint256(lane.lastSequence()) + 1 || lane.hasEnded()) continue;
            AgreementKey agreement = figures.agreement();
            int256 netE4 = figures.netE4();
            if (lane.isCorrected()) netE4 += _details[agreement].correctedE4;
            if (Mode(lane.mode()) != Mode.PREFUNDED) {
                if (_owe(agreement, lane, netE4, figures.sequence())) settled = settled.with(i);
                else unfunded = unfunded.with(i);
            } else if (netE4 == 0) {
                settled = settled.with(i);
            } else {
                transfers[payments++] = _payment(agreement, netE4);
                paying = paying.with(i);
            }
        }
        if (payments != 0) {
            PairSet paid = _pay(statements, transfers, payments, paying);
            settled = settled.or(paid);
            unfunded = unfunded.or(paying.without(paid));
        }
        if (!settled.isEmpty()) {
            _advanceLanes(statements, lanes, settled);
            progress.open = progress.open.without(settled);
            emit PairsFinal(batchId, settled);
        }
        if (!unfunded.isEmpty()) emit PairsUnfunded(batchId, unfunded);
    }

    /// @dev Has the vault make the payments; returns the pairs that it paid. Lanes that were read before the call still
    /// hold: no call re-enters, and an agreement stands once in a batch.
    function _pay(PairStatement[] calldata statements, Transfer[] memory transfers, uint256 payments, PairSet paying)
        private
        returns (PairSet paid)
    {
        assembly ("memory-safe") {
            mstore(transfers, payments)
        }
        PairSet made = vault.applyTransfers(transfers);
        uint256 place = 0;
        for (uint256 i = 0; i < statements.length; ++i) {
            if (paying.contains(i) && made.contains(place++)) paid = paid.with(i);
        }
    }

    function _advanceLanes(PairStatement[] calldata statements, Lane[] memory lanes, PairSet settled) private {
        uint256 group = type(uint256).max;
        Lanes word = Lanes.wrap(0);
        for (uint256 i = 0; i < statements.length; ++i) {
            if (!settled.contains(i)) continue;
            AgreementKey agreement = PairStatements.figuresAt(statements, i).agreement();
            if (_laneGroup(agreement) != group) {
                if (group != type(uint256).max) _lanes[group] = word;
                group = _laneGroup(agreement);
                word = _lanes[group];
            }
            word = word.with(agreement, lanes[i].advanced());
            if (lanes[i].isCorrected()) _meetCorrection(agreement);
        }
        _lanes[group] = word;
    }

    /// @dev Records what is owed, if that stays within the limit.
    function _owe(AgreementKey agreement, Lane lane, int256 netE4, uint24 sequence) private returns (bool) {
        uint256 group = _roomGroup(agreement);
        Rooms rooms = _rooms[group];
        int256 roomE4 = int256(uint256(rooms.roomOf(agreement))) - netE4;
        if (roomE4 < 0 || roomE4 > int256(MAX_ROOM)) return false;
        _rooms[group] = rooms.with(agreement, uint64(uint256(roomE4)));
        if (Mode(lane.mode()) == Mode.GUARANTEE) {
            mapping(uint24 sequence => Owing) storage owings = _owings[agreement];
            // A credit counts like a payment: for the oldest.
            int128 billedE4 = owings[lane.lastSequence()].billedE4 + int128(netE4 > 0 ? netE4 : int256(0));
            uint40 since = owings[sequence].since;
            // A correction that is met alone is due with the statement before it.
            owings[sequence] = Owing({billedE4: billedE4, since: since == 0 ? uint40(block.timestamp) : since});
        }
        return true;
    }

    /// @dev Takes note that corrections are met; returns them.
    function _meetCorrection(AgreementKey agreement) private returns (int256 amountE4) {
        Details storage details = _details[agreement];
        amountE4 = details.correctedE4;
        details.correctedE4 = 0;
        emit CorrectionMet(agreement, int64(amountE4));
    }

    function _end(AgreementKey agreement) private {
        Lane lane = _openLane(agreement);
        if (lane.hasEnded()) revert SettlementBookEnded(agreement);
        lane = lane.ended();
        _setLane(agreement, lane);
        emit AgreementEnded(agreement);
        _releaseAfterEnd(agreement, lane);
    }

    /// @dev Of a guarantee that ended, releases what is neither owed nor will be once corrections are met.
    function _releaseAfterEnd(AgreementKey agreement, Lane lane) private {
        if (!lane.hasEnded() || Mode(lane.mode()) != Mode.GUARANTEE) return;
        Details storage details = _details[agreement];
        int256 keptE4 = _owedE4(agreement, lane, details);
        if (details.correctedE4 > 0) keptE4 += details.correctedE4;
        int256 releasedE4 = int256(uint256(details.creditLimitE4)) - (keptE4 > 0 ? keptE4 : int256(0));
        if (releasedE4 <= 0) return;
        uint64 released = uint64(uint256(releasedE4));
        details.creditLimitE4 -= released;
        _setRoom(agreement, _roomOf(agreement) - released);
        vault.release(agreement.msp(), released);
    }

    // ACCEPTANCES: kept in transient storage by party number while they are sorted by pair

    function _hear(
        bytes32 batchId,
        bytes32 hash,
        PairStatement[] calldata statements,
        Acceptance[] calldata acceptances,
        Progress memory progress
    ) private {
        if (acceptances.length == 0) return;
        uint32[] memory parties = new uint32[](acceptances.length);
        for (uint256 i = 0; i < acceptances.length; ++i) {
            parties[i] = acceptances[i].party;
        }
        address[] memory signers = registry.signersOf(parties);
        bytes32 domain = _domainSeparatorV4();
        for (uint256 i = 0; i < acceptances.length; ++i) {
            Acceptance calldata acceptance = acceptances[i];
            uint32 party = acceptance.party;
            PairSet pairs = acceptance.pairs;
            bytes32 structHash = keccak256(abi.encode(ACCEPTANCE_TYPEHASH, batchId, hash, party, pairs));
            bytes32 digest = MessageHashUtils.toTypedDataHash(domain, structHash);
            _requireSigner(party, signers[i], digest, acceptance.signature);
            _heardSlot(party).tstore(PairSet.unwrap(_heard(party).or(pairs)));
        }
        PairSet byCPO = progress.byCPO;
        PairSet byMSP = progress.byMSP;
        uint32 cpo = 0;
        PairSet ofCPO = PairSets.NONE;
        for (uint256 i = 0; i < statements.length; ++i) {
            AgreementKey agreement = PairStatements.figuresAt(statements, i).agreement();
            if (agreement.cpo() != cpo) {
                cpo = agreement.cpo();
                ofCPO = _heard(cpo);
            }
            if (ofCPO.contains(i)) byCPO = byCPO.with(i);
            if (_heard(agreement.msp()).contains(i)) byMSP = byMSP.with(i);
        }
        progress.byCPO = byCPO.and(progress.open);
        progress.byMSP = byMSP.and(progress.open);
        for (uint256 i = 0; i < parties.length; ++i) {
            _heardSlot(parties[i]).tstore(0);
        }
    }

    function _nobody() private pure returns (Acceptance[] calldata none) {
        assembly ("memory-safe") {
            none.offset := 0
            none.length := 0
        }
    }

    function _heard(uint32 party) private view returns (PairSet) {
        return PairSet.wrap(_heardSlot(party).tload());
    }

    function _heardSlot(uint32 party) private pure returns (TransientSlot.Uint256Slot) {
        return TransientSlot.asUint256(bytes32(uint256(party)));
    }

    // CHECKS

    function _requireOpen() private view {
        if (isClosed) revert SettlementBookIsClosed();
    }

    function _requireSuitable(Agreement calldata terms, bytes32 id) private view {
        bool isSuitable = terms.cpo != terms.msp && terms.currency == currency
            && (terms.mode == Mode.PREFUNDED) == (terms.creditLimitE4 == 0) && terms.creditLimitE4 <= MAX_AMOUNT
            && (terms.mode == Mode.GUARANTEE) == (terms.paymentTermS != 0) && terms.paymentTermS <= MAX_PAYMENT_TERM
            && terms.cpo < 1 << 24 && terms.msp < 1 << 24 && terms.number < 1 << 12;
        if (!isSuitable) revert SettlementBookUnsuitableTerms(id);
    }

    function _requirePlace(PairStatement calldata statement, Place calldata place)
        private
        view
        returns (Batch storage batch_)
    {
        batch_ = _batches[place.batchId];
        if (!_isAt(batch_, statement, place)) revert SettlementBookOtherStatements(place.batchId);
    }

    function _isAt(Batch storage batch_, PairStatement calldata statement, Place calldata place)
        private
        view
        returns (bool)
    {
        (bool shaped, bytes32 root) = MerkleTree.climb(statement.hash(), place.index, place.count, place.siblings);
        return shaped && PairStatements.bind(root, place.count) == batch_.pairsHash;
    }

    /// @dev Of a pair that one side accepted: the number of the other.
    function _silentSide(Batch storage batch_, AgreementKey agreement, uint256 index) private view returns (uint32) {
        return batch_.acceptedByCPO.contains(index) ? agreement.msp() : agreement.cpo();
    }

    function _requireSender(uint32 party) private view {
        if (msg.sender != registry.signerOf(party)) revert SettlementBookNotParty(party, msg.sender);
    }

    function _requireBoth(
        AgreementKey agreement,
        bytes32 structHash,
        Signature calldata byCPO,
        Signature calldata byMSP
    ) private view {
        bytes32 digest = _hashTypedDataV4(structHash);
        _requireSignature(agreement.cpo(), digest, byCPO);
        _requireSignature(agreement.msp(), digest, byMSP);
    }

    function _requireSignature(uint32 party, bytes32 digest, Signature memory signature) private view {
        _requireSigner(party, registry.signerOf(party), digest, signature);
    }

    function _requireSigner(uint32 party, address signer, bytes32 digest, Signature memory signature) private pure {
        // slither-disable-next-line unused-return (what can't be recovered is address 0, which no party has)
        (address recovered,,) = ECDSA.tryRecover(digest, signature.r, signature.vs);
        if (recovered != signer) revert SettlementBookWrongSigner(party);
    }

    // STORAGE

    /// @dev Reads the lanes of a batch's statements; of new ones it refuses what can't become final.
    function _readLanes(PairStatement[] calldata statements, bool areNew) private view returns (Lane[] memory lanes) {
        lanes = new Lane[](statements.length);
        AgreementKey previous = AgreementKey.wrap(0);
        uint256 group = type(uint256).max;
        Lanes word = Lanes.wrap(0);
        for (uint256 i = 0; i < statements.length; ++i) {
            PairFigures figures = PairStatements.figuresAt(statements, i);
            AgreementKey agreement = figures.agreement();
            if (_laneGroup(agreement) != group) {
                group = _laneGroup(agreement);
                word = _lanes[group];
            }
            Lane lane = word.laneOf(agreement);
            lanes[i] = lane;
            if (!areNew) continue;
            // Once per batch, so that settling one pair never changes the turn of another.
            if (AgreementKey.unwrap(agreement) <= AgreementKey.unwrap(previous)) revert SettlementBookNotAscending(i);
            previous = agreement;
            if (figures.count() == 0) revert SettlementBookMalformedFigures(i);
            if (!lane.isOpen()) revert SettlementBookUnknownAgreement(agreement);
            if (lane.hasEnded()) revert SettlementBookEnded(agreement);
            uint24 lastSequence = lane.lastSequence();
            if (figures.sequence() <= lastSequence) revert SettlementBookStaleSequence(i, lastSequence);
        }
    }

    function _laneGroup(AgreementKey agreement) private pure returns (uint256) {
        return AgreementKey.unwrap(agreement) >> 3;
    }

    function _laneOf(AgreementKey agreement) private view returns (Lane) {
        return _lanes[_laneGroup(agreement)].laneOf(agreement);
    }

    function _openLane(AgreementKey agreement) private view returns (Lane lane) {
        lane = _laneOf(agreement);
        if (!lane.isOpen()) revert SettlementBookUnknownAgreement(agreement);
    }

    function _setLane(AgreementKey agreement, Lane lane) private {
        uint256 group = _laneGroup(agreement);
        _lanes[group] = _lanes[group].with(agreement, lane);
    }

    function _roomGroup(AgreementKey agreement) private pure returns (uint256) {
        return AgreementKey.unwrap(agreement) >> 2;
    }

    function _roomOf(AgreementKey agreement) private view returns (uint64) {
        return _rooms[_roomGroup(agreement)].roomOf(agreement);
    }

    function _setRoom(AgreementKey agreement, uint64 roomE4) private {
        uint256 group = _roomGroup(agreement);
        _rooms[group] = _rooms[group].with(agreement, roomE4);
    }

    function _owedE4(AgreementKey agreement, Lane lane, Details storage details) private view returns (int64) {
        if (Mode(lane.mode()) == Mode.PREFUNDED) return 0;
        return int64(uint64(details.creditLimitE4)) - int64(_roomOf(agreement));
    }

    /// @dev A payment that is not zero: by the MSP, or below zero by the CPO.
    function _payment(AgreementKey agreement, int256 netE4) private pure returns (Transfer) {
        return netE4 > 0
            ? packTransfer(agreement.msp(), agreement.cpo(), uint64(uint256(netE4)))
            : packTransfer(agreement.cpo(), agreement.msp(), uint64(uint256(-netE4)));
    }
}
