// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {TransientSlot} from "@openzeppelin/contracts/utils/TransientSlot.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ICollateralVault} from "./interfaces/ICollateralVault.sol";
import {IPartyRegistry} from "./interfaces/IPartyRegistry.sol";
import {ISettlementBook} from "./interfaces/ISettlementBook.sol";
import {EvidenceLeaf, EvidenceTree} from "./trees/EvidenceTree.sol";
import {MerkleTree} from "./trees/MerkleTree.sol";
import {SumNode, SumTree} from "./trees/SumTree.sol";
import {PairFigures} from "./types/PairFigures.sol";
import {PairSet, PairSets} from "./types/PairSet.sol";
import {PairStatement, PairStatements} from "./types/PairStatement.sol";
import {Signature} from "./types/Signature.sol";
import {Standing, packStanding} from "./types/Standing.sol";
import {Transfer, packTransfer} from "./types/Transfer.sol";

/// @notice See {ISettlementBook}.
contract SettlementBook is ISettlementBook, AccessControl, Pausable, ReentrancyGuardTransient, EIP712 {
    using TransientSlot for TransientSlot.Uint256Slot;

    /// @notice Who proposes batches.
    bytes32 public constant PROPOSER_ROLE = keccak256("PROPOSER_ROLE");
    /// @notice Who stops and allows proposals.
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");
    /// @notice Most statements in a batch: as many as a `PairSet` has places.
    uint256 public constant MAX_STATEMENTS = 256;

    bytes32 private constant AGREEMENT_TYPEHASH = keccak256(
        "Agreement(bytes32 document,uint32 cpo,uint32 msp,bytes3 currency,uint8 mode,uint64 creditLimitE4,uint64 deadline)"
    );
    bytes32 private constant ACCEPTANCE_TYPEHASH =
        keccak256("Acceptance(bytes32 batchId,bytes32 pairsHash,uint32 party,uint256 pairs)");
    bytes32 private constant DISCHARGE_TYPEHASH =
        keccak256("Discharge(bytes32 agreement,uint24 number,int64 amountE4)");

    /// @inheritdoc ISettlementBook
    bytes3 public immutable currency;
    /// @inheritdoc ISettlementBook
    IPartyRegistry public immutable registry;
    /// @inheritdoc ISettlementBook
    ICollateralVault public immutable vault;

    mapping(bytes32 agreement => Standing) private _standings;
    mapping(bytes32 batchId => Batch) private _batches;

    constructor(bytes3 currency_, IPartyRegistry registry_, ICollateralVault vault_, address admin)
        EIP712("SettlementBook", "1")
    {
        currency = currency_;
        registry = registry_;
        vault = vault_;
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    // AGREEMENTS

    /// @inheritdoc ISettlementBook
    function openAgreement(Agreement calldata terms, Signature calldata byCPO, Signature calldata byMSP)
        external
        returns (bytes32 agreement)
    {
        agreement = agreementId(terms);
        if (
            terms.cpo == terms.msp || terms.currency != currency
                || (terms.mode == Mode.PREFUNDED ? terms.creditLimitE4 != 0 : terms.creditLimitE4 == 0)
                || terms.creditLimitE4 > uint64(type(int64).max)
        ) revert SettlementBookUnsuitableTerms(agreement);
        if (block.timestamp > terms.deadline) revert SettlementBookExpired(terms.deadline);
        if (_standings[agreement].isOpen()) revert SettlementBookKnownAgreement(agreement);
        bytes32 digest = _hashTypedDataV4(agreement);
        _requireSignature(terms.cpo, digest, byCPO);
        _requireSignature(terms.msp, digest, byMSP);
        _standings[agreement] = packStanding(terms.cpo, terms.msp, terms.mode == Mode.CREDIT_LINE, terms.creditLimitE4);
        emit AgreementOpened(agreement, terms.cpo, terms.msp, terms.document, terms.mode, terms.creditLimitE4);
    }

    /// @inheritdoc ISettlementBook
    function discharge(bytes32 agreement, int64 amountE4, Signature calldata byCPO, Signature calldata byMSP) external {
        Standing standing = _openStanding(agreement);
        int64 owedE4 = standing.owedE4();
        bool lowers = amountE4 > 0 ? amountE4 <= owedE4 : amountE4 < 0 && amountE4 >= owedE4;
        if (!lowers) revert SettlementBookDischargeExceedsOwed(agreement, amountE4, owedE4);
        uint24 number = standing.discharges();
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(DISCHARGE_TYPEHASH, agreement, number, amountE4)));
        _requireSignature(standing.cpo(), digest, byCPO);
        _requireSignature(standing.msp(), digest, byMSP);
        owedE4 -= amountE4;
        _standings[agreement] = standing.discharged().owing(owedE4);
        emit ObligationDischarged(agreement, number, amountE4, owedE4);
    }

    // BATCHES

    /// @inheritdoc ISettlementBook
    function propose(bytes32 batchId, PairStatement[] calldata statements, Acceptance[] calldata acceptances)
        external
        onlyRole(PROPOSER_ROLE)
        whenNotPaused
        nonReentrant
    {
        if (_batches[batchId].pairsHash != 0) revert SettlementBookBatchExists(batchId);
        if (statements.length == 0 || statements.length > MAX_STATEMENTS) {
            revert SettlementBookUnsuitableCount(statements.length);
        }
        Standing[] memory standings = _readStandings(statements);
        _requireProposable(statements, standings);
        bytes32 hash = PairStatements.hashAll(statements);
        _batches[batchId].pairsHash = hash;
        emit BatchProposed(batchId, hash, statements.length);
        _hear(batchId, hash, acceptances);
        _advance(batchId, statements, standings);
        _forget(acceptances);
    }

    /// @inheritdoc ISettlementBook
    function accept(bytes32 batchId, PairStatement[] calldata statements, Acceptance[] calldata acceptances)
        external
        nonReentrant
    {
        _hear(batchId, _requireStatements(batchId, statements), acceptances);
        _advance(batchId, statements, _readStandings(statements));
        _forget(acceptances);
    }

    /// @inheritdoc ISettlementBook
    function fund(bytes32 batchId, PairStatement[] calldata statements) external nonReentrant {
        _requireStatements(batchId, statements);
        _advance(batchId, statements, _readStandings(statements));
    }

    /// @inheritdoc ISettlementBook
    function pause() external onlyRole(PAUSER_ROLE) {
        _pause();
    }

    /// @inheritdoc ISettlementBook
    function unpause() external onlyRole(PAUSER_ROLE) {
        _unpause();
    }

    // VIEWS

    /// @inheritdoc ISettlementBook
    function agreementState(bytes32 agreement) external view returns (AgreementState memory) {
        Standing standing = _openStanding(agreement);
        return AgreementState({
            cpo: standing.cpo(),
            msp: standing.msp(),
            mode: standing.isCreditLine() ? Mode.CREDIT_LINE : Mode.PREFUNDED,
            creditLimitE4: standing.creditLimitE4(),
            lastSequence: standing.lastSequence(),
            discharges: standing.discharges(),
            owedE4: standing.owedE4()
        });
    }

    /// @inheritdoc ISettlementBook
    function batch(bytes32 batchId) external view returns (Batch memory) {
        return _batches[batchId];
    }

    /// @inheritdoc ISettlementBook
    function isFinal(bytes32 agreement, uint32 sequence) external view returns (bool) {
        return sequence != 0 && sequence <= _standings[agreement].lastSequence();
    }

    /// @inheritdoc ISettlementBook
    function isStatementFinal(PairStatement calldata statement, Place calldata place) external view returns (bool) {
        Batch storage batch_ = _batches[place.batchId];
        (bool shaped, bytes32 root) =
            MerkleTree.climb(PairStatements.hash(statement), place.index, place.count, place.siblings);
        return
            shaped && PairStatements.bind(root, place.count) == batch_.pairsHash
                && batch_.finalPairs.contains(place.index);
    }

    /// @inheritdoc ISettlementBook
    function verifyEvidence(
        PairStatement calldata statement,
        EvidenceLeaf calldata leaf,
        uint256 index,
        bytes32[] calldata siblings
    ) external pure returns (bool) {
        return EvidenceTree.verify(
            statement.evidenceRoot, statement.figures.count(), EvidenceTree.hash(leaf), index, siblings
        );
    }

    /// @inheritdoc ISettlementBook
    function verifySum(
        PairStatement calldata statement,
        bytes32 evidenceLeaf,
        uint64 dueE4,
        uint64 creditE4,
        uint256 index,
        bytes calldata siblings
    ) external pure returns (bool) {
        PairFigures figures = statement.figures;
        SumNode memory root = SumNode({hash: statement.sumRoot, dueE4: figures.dueE4(), creditE4: figures.creditE4()});
        return SumTree.verify(root, figures.count(), SumTree.leafNode(evidenceLeaf, dueE4, creditE4), index, siblings);
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

    /// @dev What one call does to a batch.
    /// @param settled Pairs that it made final.
    /// @param paying Pairs that wait for the vault, in the order of `transfers`.
    /// @param unfunded Pairs without cover.
    /// @param transfers Payments for the vault; the first `payments` of them.
    struct Progress {
        PairSet settled;
        PairSet paying;
        PairSet unfunded;
        Transfer[] transfers;
        uint256 payments;
    }

    /// @dev Makes final what both sides accepted, if its turn has come and it is covered.
    function _advance(bytes32 batchId, PairStatement[] calldata statements, Standing[] memory standings) private {
        Batch storage batch_ = _batches[batchId];
        PairSet done = batch_.finalPairs;
        (PairSet byCPO, PairSet byMSP) = _accepted(standings);
        byCPO = byCPO.or(batch_.acceptedByCPO);
        byMSP = byMSP.or(batch_.acceptedByMSP);
        Progress memory progress = _settle(statements, standings, byCPO.and(byMSP).without(done));
        if (!progress.settled.isEmpty()) {
            done = done.or(progress.settled);
            batch_.finalPairs = done;
            emit PairsFinal(batchId, progress.settled);
        }
        if (!progress.unfunded.isEmpty()) emit PairsUnfunded(batchId, progress.unfunded);
        batch_.acceptedByCPO = byCPO.without(done);
        batch_.acceptedByMSP = byMSP.without(done);
    }

    function _settle(PairStatement[] calldata statements, Standing[] memory standings, PairSet ready)
        private
        returns (Progress memory progress)
    {
        progress = Progress({
            settled: PairSets.NONE,
            paying: PairSets.NONE,
            unfunded: PairSets.NONE,
            transfers: new Transfer[](statements.length),
            payments: 0
        });
        for (uint256 i = 0; i < statements.length; ++i) {
            if (ready.contains(i)) _settleOne(progress, i, statements[i], standings[i]);
        }
        if (progress.payments != 0) _pay(progress, statements, standings);
    }

    /// @dev Makes one accepted pair final, or has it wait for the vault, for cover, or for an earlier statement.
    function _settleOne(Progress memory progress, uint256 index, PairStatement calldata statement, Standing standing)
        private
    {
        PairFigures figures = statement.figures;
        if (figures.sequence() != uint256(standing.lastSequence()) + 1) return;
        int256 netE4 = figures.netE4();
        if (standing.isCreditLine()) {
            int256 owedE4 = standing.owedE4() + netE4;
            if (owedE4 > int256(uint256(standing.creditLimitE4())) || owedE4 < type(int64).min) {
                progress.unfunded = progress.unfunded.with(index);
                return;
            }
            standing = standing.owing(int64(owedE4));
        } else if (netE4 != 0) {
            progress.transfers[progress.payments++] = netE4 > 0
                ? packTransfer(standing.msp(), standing.cpo(), uint64(uint256(netE4)))
                : packTransfer(standing.cpo(), standing.msp(), uint64(uint256(-netE4)));
            progress.paying = progress.paying.with(index);
            return;
        }
        _standings[statement.agreement] = standing.advanced();
        progress.settled = progress.settled.with(index);
    }

    /// @dev Has the vault make the payments; the pairs that it paid are final. Standings that were read before the call
    /// still hold: no call re-enters, and an agreement stands once in a batch.
    function _pay(Progress memory progress, PairStatement[] calldata statements, Standing[] memory standings) private {
        Transfer[] memory transfers = progress.transfers;
        uint256 payments = progress.payments;
        assembly ("memory-safe") {
            mstore(transfers, payments)
        }
        PairSet made = vault.applyTransfers(transfers);
        uint256 place = 0;
        for (uint256 i = 0; i < statements.length; ++i) {
            if (!progress.paying.contains(i)) continue;
            if (made.contains(place++)) {
                _standings[statements[i].agreement] = standings[i].advanced();
                progress.settled = progress.settled.with(i);
            } else {
                progress.unfunded = progress.unfunded.with(i);
            }
        }
    }

    function _readStandings(PairStatement[] calldata statements) private view returns (Standing[] memory standings) {
        standings = new Standing[](statements.length);
        for (uint256 i = 0; i < statements.length; ++i) {
            standings[i] = _standings[statements[i].agreement];
        }
    }

    // ACCEPTANCES: kept in transient storage by party number, from `_hear` to `_forget`

    function _hear(bytes32 batchId, bytes32 hash, Acceptance[] calldata acceptances) private {
        for (uint256 i = 0; i < acceptances.length; ++i) {
            Acceptance calldata acceptance = acceptances[i];
            uint32 party = acceptance.party;
            PairSet pairs = acceptance.pairs;
            bytes32 structHash = keccak256(abi.encode(ACCEPTANCE_TYPEHASH, batchId, hash, party, pairs));
            _requireSignature(party, _hashTypedDataV4(structHash), acceptance.signature);
            _heardSlot(party).tstore(PairSet.unwrap(_heard(party).or(pairs)));
        }
    }

    /// @dev The pairs that this call's acceptances are about, by the side that accepts.
    function _accepted(Standing[] memory standings) private view returns (PairSet byCPO, PairSet byMSP) {
        for (uint256 i = 0; i < standings.length; ++i) {
            Standing standing = standings[i];
            if (_heard(standing.cpo()).contains(i)) byCPO = byCPO.with(i);
            if (_heard(standing.msp()).contains(i)) byMSP = byMSP.with(i);
        }
    }

    function _heard(uint32 party) private view returns (PairSet) {
        return PairSet.wrap(_heardSlot(party).tload());
    }

    function _forget(Acceptance[] calldata acceptances) private {
        for (uint256 i = 0; i < acceptances.length; ++i) {
            _heardSlot(acceptances[i].party).tstore(0);
        }
    }

    function _heardSlot(uint32 party) private pure returns (TransientSlot.Uint256Slot) {
        return TransientSlot.asUint256(bytes32(uint256(party)));
    }

    // CHECKS

    function _requireProposable(PairStatement[] calldata statements, Standing[] memory standings) private pure {
        bytes32 previous = 0;
        for (uint256 i = 0; i < statements.length; ++i) {
            PairStatement calldata statement = statements[i];
            bytes32 agreement = statement.agreement;
            PairFigures figures = statement.figures;
            Standing standing = standings[i];
            // Once per batch, so that settling one pair never changes the turn of another.
            if (agreement <= previous) revert SettlementBookNotAscending(i);
            previous = agreement;
            if (!figures.isWellFormed()) revert SettlementBookMalformedFigures(i);
            if (!standing.isOpen()) revert SettlementBookUnknownAgreement(agreement);
            uint32 lastSequence = standing.lastSequence();
            if (figures.sequence() <= lastSequence) revert SettlementBookStaleSequence(i, lastSequence);
        }
    }

    function _requireStatements(bytes32 batchId, PairStatement[] calldata statements)
        private
        view
        returns (bytes32 hash)
    {
        hash = PairStatements.hashAll(statements);
        if (hash != _batches[batchId].pairsHash) revert SettlementBookOtherStatements(batchId);
    }

    function _requireSignature(uint32 party, bytes32 digest, Signature calldata signature) private view {
        // slither-disable-next-line unused-return (what can't be recovered is address 0, which no party has)
        (address recovered,,) = ECDSA.tryRecover(digest, signature.r, signature.vs);
        if (recovered != registry.signerOf(party)) {
            revert SettlementBookWrongSigner(party);
        }
    }

    function _openStanding(bytes32 agreement) private view returns (Standing standing) {
        standing = _standings[agreement];
        if (!standing.isOpen()) revert SettlementBookUnknownAgreement(agreement);
    }
}
