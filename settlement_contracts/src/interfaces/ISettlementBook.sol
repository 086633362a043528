// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EvidenceLeaf} from "../trees/EvidenceTree.sol";
import {PairSet} from "../types/PairSet.sol";
import {PairStatement} from "../types/PairStatement.sol";
import {Signature} from "../types/Signature.sol";
import {ICollateralVault} from "./ICollateralVault.sol";
import {IPartyRegistry} from "./IPartyRegistry.sol";

/// @title The settlement of one currency
/// @notice CPO and MSP sign statements of what they owe each other; statements are proposed in batches and become final
/// pair by pair. A pair goes PROPOSED -> ACCEPTED (both signed) -> FINAL (and paid or recorded), never back. A pair that
/// waits for a signature or for cover holds up no other.
/// @dev Statements are not stored. A batch keeps a hash that binds them; whoever continues a batch sends them again.
/// To learn from the chain that a CDR is settled, a verifier asks `isStatementFinal` with the statement's place in its
/// batch, and `verifyEvidence` with the CDR's place in the statement: two calls, no search for logs.
interface ISettlementBook {
    /// @notice How obligations are met.
    /// PREFUNDED: out of the payer's collateral, as the statement becomes final.
    /// CREDIT_LINE: added to what the MSP owes, up to a limit, and paid by bank.
    enum Mode {
        PREFUNDED,
        CREDIT_LINE
    }

    /// @notice Terms under which a CPO and an MSP settle; the EIP-712 struct hash of them is the agreement's id.
    /// @param document Hash of the agreement that the two signed off chain.
    /// @param cpo Party number of the CPO.
    /// @param msp Party number of the MSP.
    /// @param currency ISO 4217 code; must be the book's.
    /// @param mode How obligations are met.
    /// @param creditLimitE4 Most that the MSP may owe under CREDIT_LINE, in ten-thousandths; 0 under PREFUNDED.
    /// @param deadline Until when it can be opened (unix seconds).
    struct Agreement {
        bytes32 document;
        uint32 cpo;
        uint32 msp;
        bytes3 currency;
        Mode mode;
        uint64 creditLimitE4;
        uint64 deadline;
    }

    /// @notice Where an open agreement stands.
    /// @param cpo Party number of the CPO.
    /// @param msp Party number of the MSP.
    /// @param mode How obligations are met.
    /// @param creditLimitE4 Most that the MSP may owe, in ten-thousandths.
    /// @param lastSequence Sequence of the last final statement, 0 before the first.
    /// @param discharges Number of discharges.
    /// @param owedE4 What the MSP owes on balance, in ten-thousandths; below zero the CPO owes. 0 under PREFUNDED.
    struct AgreementState {
        uint32 cpo;
        uint32 msp;
        Mode mode;
        uint64 creditLimitE4;
        uint32 lastSequence;
        uint24 discharges;
        int64 owedE4;
    }

    /// @notice One party's word on a batch.
    /// @param party Party number.
    /// @param pairs The pairs that it accepts; of these only its own count.
    /// @param signature By its signer, over `Acceptance(bytes32 batchId,bytes32 pairsHash,uint32 party,uint256 pairs)`.
    struct Acceptance {
        uint32 party;
        PairSet pairs;
        Signature signature;
    }

    /// @notice Where a batch stands.
    /// @param pairsHash What binds its statements; 0 if there is no such batch.
    /// @param finalPairs Pairs that are final.
    /// @param acceptedByCPO Pairs accepted by their CPO that are not final yet.
    /// @param acceptedByMSP Pairs accepted by their MSP that are not final yet.
    struct Batch {
        bytes32 pairsHash;
        PairSet finalPairs;
        PairSet acceptedByCPO;
        PairSet acceptedByMSP;
    }

    /// @notice A statement's place in its batch.
    /// @param batchId The batch.
    /// @param index Its position.
    /// @param count Number of statements in the batch.
    /// @param siblings Hashes beside its path in the tree over the batch's statement hashes, from the bottom up.
    struct Place {
        bytes32 batchId;
        uint256 index;
        uint256 count;
        bytes32[] siblings;
    }

    /// @notice An agreement was opened.
    event AgreementOpened(
        bytes32 indexed agreement,
        uint32 indexed cpo,
        uint32 indexed msp,
        bytes32 document,
        Mode mode,
        uint64 creditLimitE4
    );

    /// @notice Statements were proposed together. They themselves are in the call.
    event BatchProposed(bytes32 indexed batchId, bytes32 pairsHash, uint256 count);

    /// @notice Pairs became final: nothing can change them any more.
    event PairsFinal(bytes32 indexed batchId, PairSet pairs);

    /// @notice Both sides accepted these pairs, but the payer lacks cover. They wait; `fund` tries again.
    event PairsUnfunded(bytes32 indexed batchId, PairSet pairs);

    /// @notice What is owed under an agreement was paid outside the chain.
    /// @param amountE4 Paid by the MSP; below zero paid by the CPO.
    /// @param owedE4 What is still owed.
    event ObligationDischarged(bytes32 indexed agreement, uint24 indexed number, int64 amountE4, int64 owedE4);

    /// @notice The agreement was opened before.
    error SettlementBookKnownAgreement(bytes32 agreement);

    /// @notice No such agreement is open in this book.
    error SettlementBookUnknownAgreement(bytes32 agreement);

    /// @notice The terms contradict each other or this book: equal parties, a foreign currency, or a limit that does not
    /// fit the mode.
    error SettlementBookUnsuitableTerms(bytes32 agreement);

    /// @notice The signatures' deadline (unix seconds) has passed.
    error SettlementBookExpired(uint64 deadline);

    /// @notice The signature is not by the party's signer over these very bytes.
    error SettlementBookWrongSigner(uint32 party);

    /// @notice The batch was proposed before.
    error SettlementBookBatchExists(bytes32 batchId);

    /// @notice A batch holds 1 to 256 statements.
    error SettlementBookUnsuitableCount(uint256 count);

    /// @notice A batch's statements stand in ascending order of agreement, each agreement once.
    error SettlementBookNotAscending(uint256 index);

    /// @notice The statement has no CDR, or bits set that mean nothing.
    error SettlementBookMalformedFigures(uint256 index);

    /// @notice A statement with this sequence is final already.
    error SettlementBookStaleSequence(uint256 index, uint32 lastSequence);

    /// @notice These are not the batch's statements, or there is no such batch.
    error SettlementBookOtherStatements(bytes32 batchId);

    /// @notice More would be discharged than is owed, nothing, or in the wrong direction.
    error SettlementBookDischargeExceedsOwed(bytes32 agreement, int64 amountE4, int64 owedE4);

    /// @notice Opens an agreement, once. Anyone may submit it.
    /// @param byCPO Signature of the CPO's signer over `Agreement(bytes32 document,uint32 cpo,uint32 msp,
    /// bytes3 currency,uint8 mode,uint64 creditLimitE4,uint64 deadline)`.
    /// @param byMSP The same by the MSP's signer.
    /// @return agreement Its id.
    function openAgreement(Agreement calldata terms, Signature calldata byCPO, Signature calldata byMSP)
        external
        returns (bytes32 agreement);

    /// @notice Proposes statements, with whatever acceptances there are. Only for PROPOSER_ROLE, unless paused.
    /// @param batchId Chosen by the proposer, so that a repetition is recognised; used once.
    function propose(bytes32 batchId, PairStatement[] calldata statements, Acceptance[] calldata acceptances) external;

    /// @notice Adds acceptances to a batch. Anyone may submit them.
    function accept(bytes32 batchId, PairStatement[] calldata statements, Acceptance[] calldata acceptances) external;

    /// @notice Tries again to make final what both sides accepted. Anyone may.
    function fund(bytes32 batchId, PairStatement[] calldata statements) external;

    /// @notice Lowers what is owed under an agreement, as both sides say that it was paid. Anyone may submit it.
    /// @param amountE4 Paid by the MSP, in ten-thousandths; below zero paid by the CPO.
    /// @param byCPO Signature of the CPO's signer over `Discharge(bytes32 agreement,uint24 number,int64 amountE4)`, with
    /// the agreement's number of discharges so far.
    /// @param byMSP The same by the MSP's signer.
    function discharge(bytes32 agreement, int64 amountE4, Signature calldata byCPO, Signature calldata byMSP) external;

    /// @notice Stops new proposals and nothing else. Only for PAUSER_ROLE.
    function pause() external;

    /// @notice Allows proposals again. Only for PAUSER_ROLE.
    function unpause() external;

    /// @notice Where an agreement stands; reverts if it is not open.
    function agreementState(bytes32 agreement) external view returns (AgreementState memory);

    /// @notice Where a batch stands; all zero if there is none.
    function batch(bytes32 batchId) external view returns (Batch memory);

    /// @notice Whether a statement with this sequence is final under the agreement. It does not say which one: with two
    /// batches, `isStatementFinal` does.
    function isFinal(bytes32 agreement, uint32 sequence) external view returns (bool);

    /// @notice Whether this very statement is final, at this place.
    function isStatementFinal(PairStatement calldata statement, Place calldata place) external view returns (bool);

    /// @notice Whether a CDR's leaf stands at `index` under the statement's evidence root.
    function verifyEvidence(
        PairStatement calldata statement,
        EvidenceLeaf calldata leaf,
        uint256 index,
        bytes32[] calldata siblings
    ) external pure returns (bool);

    /// @notice Whether a CDR's amounts stand at `index` under the statement's sum root, which adds up to its figures.
    /// @param siblings Nodes beside the path, from the bottom up, packed: hash, due u64, credit u64 each.
    function verifySum(
        PairStatement calldata statement,
        bytes32 evidenceLeaf,
        uint64 dueE4,
        uint64 creditE4,
        uint256 index,
        bytes calldata siblings
    ) external pure returns (bool);

    /// @notice The id of an agreement with these terms: their EIP-712 struct hash.
    function agreementId(Agreement calldata terms) external pure returns (bytes32);

    /// @notice What binds these statements: keccak(Merkle root over their EIP-712 struct hashes || count u256).
    function pairsHash(PairStatement[] calldata statements) external pure returns (bytes32);

    /// @notice The book's currency, an ISO 4217 code.
    function currency() external view returns (bytes3);

    /// @notice Where parties are registered.
    function registry() external view returns (IPartyRegistry);

    /// @notice Where collateral lies.
    function vault() external view returns (ICollateralVault);
}
