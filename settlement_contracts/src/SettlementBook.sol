// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {ICollateralVault} from "./interfaces/ICollateralVault.sol";
import {IPartyRegistry} from "./interfaces/IPartyRegistry.sol";
import {ISettlementBook} from "./interfaces/ISettlementBook.sol";
import {EvidenceLeaf, EvidenceTree} from "./trees/EvidenceTree.sol";
import {MerkleTree} from "./trees/MerkleTree.sol";
import {SumNode, SumTree} from "./trees/SumTree.sol";
import {PairFigures} from "./types/PairFigures.sol";
import {PairSet} from "./types/PairSet.sol";
import {PairStatement, PairStatements} from "./types/PairStatement.sol";
import {Signature} from "./types/Signature.sol";
import {Transfer, packTransfer} from "./types/Transfer.sol";

/// @notice See {ISettlementBook}.
contract SettlementBook is ISettlementBook, AccessControl, Pausable, ReentrancyGuardTransient, EIP712 {
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

    mapping(bytes32 agreement => AgreementState) private _agreements;
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
        AgreementState storage state = _agreements[agreement];
        if (state.cpo != 0) revert SettlementBookKnownAgreement(agreement);
        bytes32 digest = _hashTypedDataV4(agreement);
        _requireSignature(terms.cpo, digest, byCPO);
        _requireSignature(terms.msp, digest, byMSP);
        state.cpo = terms.cpo;
        state.msp = terms.msp;
        state.mode = terms.mode;
        state.creditLimitE4 = terms.creditLimitE4;
        emit AgreementOpened(agreement, terms.cpo, terms.msp, terms.document, terms.mode, terms.creditLimitE4);
    }

    /// @inheritdoc ISettlementBook
    function discharge(bytes32 agreement, int64 amountE4, Signature calldata byCPO, Signature calldata byMSP) external {
        AgreementState storage state = _openAgreement(agreement);
        int64 owedE4 = state.owedE4;
        bool lowers = amountE4 > 0 ? amountE4 <= owedE4 : amountE4 < 0 && amountE4 >= owedE4;
        if (!lowers) revert SettlementBookDischargeExceedsOwed(agreement, amountE4, owedE4);
        uint24 number = state.discharges;
        bytes32 digest = _hashTypedDataV4(keccak256(abi.encode(DISCHARGE_TYPEHASH, agreement, number, amountE4)));
        _requireSignature(state.cpo, digest, byCPO);
        _requireSignature(state.msp, digest, byMSP);
        owedE4 -= amountE4;
        state.discharges = number + 1;
        state.owedE4 = owedE4;
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
        Batch storage batch_ = _batches[batchId];
        if (batch_.pairsHash != 0) revert SettlementBookBatchExists(batchId);
        if (statements.length == 0 || statements.length > MAX_STATEMENTS) {
            revert SettlementBookUnsuitableCount(statements.length);
        }
        _requireProposable(statements);
        bytes32 hash = PairStatements.hashAll(statements);
        batch_.pairsHash = hash;
        emit BatchProposed(batchId, hash, statements.length);
        _advance(batchId, hash, statements, acceptances);
    }

    /// @inheritdoc ISettlementBook
    function accept(bytes32 batchId, PairStatement[] calldata statements, Acceptance[] calldata acceptances)
        external
        nonReentrant
    {
        _advance(batchId, _requireStatements(batchId, statements), statements, acceptances);
    }

    /// @inheritdoc ISettlementBook
    function fund(bytes32 batchId, PairStatement[] calldata statements) external nonReentrant {
        Acceptance[] calldata none;
        assembly ("memory-safe") {
            none.offset := 0
            none.length := 0
        }
        _advance(batchId, _requireStatements(batchId, statements), statements, none);
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
        return _openAgreement(agreement);
    }

    /// @inheritdoc ISettlementBook
    function batch(bytes32 batchId) external view returns (Batch memory) {
        return _batches[batchId];
    }

    /// @inheritdoc ISettlementBook
    function isFinal(bytes32 agreement, uint32 sequence) external view returns (bool) {
        return sequence != 0 && sequence <= _agreements[agreement].lastSequence;
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
        SumNode[] calldata siblings
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

    /// @dev Takes up acceptances, then makes final what both sides accepted and what is covered.
    function _advance(
        bytes32 batchId,
        bytes32 hash,
        PairStatement[] calldata statements,
        Acceptance[] calldata acceptances
    ) private {
        Batch storage batch_ = _batches[batchId];
        PairSet byCPO = batch_.acceptedByCPO;
        PairSet byMSP = batch_.acceptedByMSP;
        for (uint256 i = 0; i < acceptances.length; ++i) {
            Acceptance calldata acceptance = acceptances[i];
            _requireAccepted(batchId, hash, acceptance);
            (PairSet asCPO, PairSet asMSP) = _sides(statements, acceptance.party, acceptance.pairs);
            byCPO = byCPO.or(asCPO);
            byMSP = byMSP.or(asMSP);
        }
        PairSet done = batch_.finalPairs;
        PairSet settled = _settle(batchId, statements, byCPO.and(byMSP).without(done));
        if (!settled.isEmpty()) {
            done = done.or(settled);
            batch_.finalPairs = done;
            emit PairsFinal(batchId, settled);
        }
        batch_.acceptedByCPO = byCPO.without(done);
        batch_.acceptedByMSP = byMSP.without(done);
    }

    /// @dev Parts the pairs that a party accepts into those where it is the CPO and those where it is the MSP.
    function _sides(PairStatement[] calldata statements, uint32 party, PairSet pairs)
        private
        view
        returns (PairSet asCPO, PairSet asMSP)
    {
        for (PairSet rest = pairs; !rest.isEmpty(); rest = rest.withoutLowest()) {
            uint256 index = rest.lowest();
            if (index >= statements.length) revert SettlementBookForeignPair(party, index);
            AgreementState storage state = _agreements[statements[index].agreement];
            if (party == state.cpo) asCPO = asCPO.with(index);
            else if (party == state.msp) asMSP = asMSP.with(index);
            else revert SettlementBookForeignPair(party, index);
        }
    }

    /// @dev Makes final those of `ready` whose turn it is and that are covered.
    function _settle(bytes32 batchId, PairStatement[] calldata statements, PairSet ready)
        private
        returns (PairSet settled)
    {
        Transfer[] memory transfers = new Transfer[](statements.length);
        uint256 count = 0;
        PairSet paying;
        PairSet unfunded;
        for (PairSet rest = ready; !rest.isEmpty(); rest = rest.withoutLowest()) {
            uint256 index = rest.lowest();
            PairFigures figures = statements[index].figures;
            AgreementState storage state = _agreements[statements[index].agreement];
            // Statements become final in their order; one that comes early waits.
            if (figures.sequence() != state.lastSequence + 1) continue;
            if (state.mode == Mode.PREFUNDED && figures.netE4() != 0) {
                transfers[count++] = _payment(state, figures.netE4());
                paying = paying.with(index);
            } else if (_isRecorded(state, figures.netE4())) {
                state.lastSequence = figures.sequence();
                settled = settled.with(index);
            } else {
                unfunded = unfunded.with(index);
            }
        }
        if (count != 0) {
            assembly ("memory-safe") {
                mstore(transfers, count)
            }
            PairSet paid = _pay(statements, transfers, paying);
            settled = settled.or(paid);
            unfunded = unfunded.or(paying.without(paid));
        }
        if (!unfunded.isEmpty()) emit PairsUnfunded(batchId, unfunded);
    }

    /// @dev Makes payments and returns the pairs whose payment was made; `transfers` stand in the order of `paying`.
    function _pay(PairStatement[] calldata statements, Transfer[] memory transfers, PairSet paying)
        private
        returns (PairSet paid)
    {
        PairSet made = vault.applyTransfers(transfers);
        uint256 place = 0;
        for (PairSet rest = paying; !rest.isEmpty(); rest = rest.withoutLowest()) {
            if (!made.contains(place++)) continue;
            uint256 index = rest.lowest();
            _agreements[statements[index].agreement].lastSequence = statements[index].figures.sequence();
            paid = paid.with(index);
        }
    }

    /// @dev The payment that meets a net amount other than zero.
    function _payment(AgreementState storage state, int256 netE4) private view returns (Transfer) {
        return netE4 > 0
            ? packTransfer(state.msp, state.cpo, uint64(uint256(netE4)))
            : packTransfer(state.cpo, state.msp, uint64(uint256(-netE4)));
    }

    /// @dev Adds a net amount to what is owed, unless that goes beyond the limit; zero always fits.
    function _isRecorded(AgreementState storage state, int256 netE4) private returns (bool) {
        if (netE4 == 0) return true;
        int256 owedE4 = state.owedE4 + netE4;
        if (owedE4 > int256(uint256(state.creditLimitE4)) || owedE4 < type(int64).min) return false;
        state.owedE4 = int64(owedE4);
        return true;
    }

    // CHECKS

    function _requireAccepted(bytes32 batchId, bytes32 hash, Acceptance calldata acceptance) private view {
        bytes32 structHash =
            keccak256(abi.encode(ACCEPTANCE_TYPEHASH, batchId, hash, acceptance.party, acceptance.pairs));
        _requireSignature(acceptance.party, _hashTypedDataV4(structHash), acceptance.signature);
    }

    function _requireProposable(PairStatement[] calldata statements) private view {
        bytes32 previous = 0;
        for (uint256 i = 0; i < statements.length; ++i) {
            bytes32 agreement = statements[i].agreement;
            PairFigures figures = statements[i].figures;
            // Once per batch, so that settling one pair never changes the turn of another.
            if (agreement <= previous) revert SettlementBookNotAscending(i);
            if (!figures.isWellFormed()) revert SettlementBookMalformedFigures(i);
            uint32 lastSequence = _openAgreement(agreement).lastSequence;
            if (figures.sequence() <= lastSequence) revert SettlementBookStaleSequence(i, lastSequence);
            previous = agreement;
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
        (address recovered,,) = ECDSA.tryRecover(digest, signature.r, signature.vs);
        if (recovered == address(0) || recovered != registry.signerOf(party)) {
            revert SettlementBookWrongSigner(party);
        }
    }

    function _openAgreement(bytes32 agreement) private view returns (AgreementState storage state) {
        state = _agreements[agreement];
        if (state.cpo == 0) revert SettlementBookUnknownAgreement(agreement);
    }
}
