// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EvidenceLeaf} from "../trees/EvidenceTree.sol";
import {AgreementKey} from "../types/AgreementKey.sol";
import {PairSet} from "../types/PairSet.sol";
import {PairStatement, StatementRoots} from "../types/PairStatement.sol";
import {Place} from "../types/Place.sol";
import {Signature} from "../types/Signature.sol";
import {ICollateralVault} from "./ICollateralVault.sol";
import {IPartyRegistry} from "./IPartyRegistry.sol";

/// @title The settlement of one currency
/// @notice CPO and MSP sign statements of what they owe each other; statements are proposed in batches and become final
/// pair by pair. A pair goes PROPOSED -> ACCEPTED -> FINAL (and paid or recorded), never back. It is accepted when both
/// sides signed, or when one had signed as it was proposed and the other was silent until the window ended. A challenge
/// takes out its pair alone. A pair that waits for a signature, for a verdict or for cover holds up no other.
/// @dev Statements are not stored. A batch keeps a hash that binds them; whoever continues a batch sends them again.
/// To learn from the chain that a CDR is settled, a verifier asks `isStatementFinal` with the statement's place in its
/// batch, and `verifyEvidence` with the CDR's place in the statement: two calls, no search for logs.
interface ISettlementBook {
    /// @notice What is settled, and who is paid on balance (`cpo`) by whom (`msp`).
    /// SESSION: charging; the CPO by the MSP.
    /// FLEX: delivered flexibility; who delivers it by the grid operator that ordered it.
    /// SWAP: battery swaps; the operator of the swap stations by the MSP.
    enum Kind {
        SESSION,
        FLEX,
        SWAP
    }

    /// @notice How obligations are met.
    /// PREFUNDED: out of the payer's free collateral, as the statement becomes final.
    /// CREDIT_LINE: added to what the MSP owes, up to a limit, and paid by bank.
    /// GUARANTEE: likewise, and the limit is reserved of the MSP's collateral; what is not paid within the payment term
    /// the CPO takes from there.
    enum Mode {
        PREFUNDED,
        CREDIT_LINE,
        GUARANTEE
    }

    /// @notice Terms under which two parties settle. Both sign them; their EIP-712 struct hash is the agreement's id.
    /// @param document Hash of the agreement that the two signed off chain.
    /// @param cpo Party number of who is paid on balance.
    /// @param msp Party number of who pays on balance.
    /// @param currency ISO 4217 code; must be the book's.
    /// @param kind What is settled.
    /// @param number Which of the pair's agreements of this kind, below 4,096; a number is used once.
    /// @param mode How obligations are met.
    /// @param creditLimitE4 Most that the MSP may owe, in ten-thousandths, at most 2^62; 0 under PREFUNDED.
    /// @param paymentTermS Under GUARANTEE: how long the MSP has to pay a statement, in seconds; else 0.
    /// @param deadline Until when it can be opened (unix seconds).
    struct Agreement {
        bytes32 document;
        uint32 cpo;
        uint32 msp;
        bytes3 currency;
        Kind kind;
        uint16 number;
        Mode mode;
        uint64 creditLimitE4;
        uint32 paymentTermS;
        uint64 deadline;
    }

    /// @notice Where an agreement stands.
    /// @param id Struct hash of its terms.
    /// @param cpo Party number of who is paid on balance.
    /// @param msp Party number of who pays on balance.
    /// @param mode How obligations are met.
    /// @param hasEnded Whether no statement becomes final any more.
    /// @param creditLimitE4 Most that the MSP may owe, in ten-thousandths; under GUARANTEE what is reserved.
    /// @param lastSequence Sequence of the last final statement, 0 before the first.
    /// @param discharges Number of discharges.
    /// @param owedE4 What the MSP owes on balance, in ten-thousandths; below zero the CPO owes. 0 under PREFUNDED.
    /// @param correctedE4 Verdicts that wait for the next statement or `fundCorrection`, likewise.
    /// @param paymentTermS Under GUARANTEE: how long the MSP has to pay, in seconds.
    /// @param endsAt From when either side can end it (unix seconds); 0: nobody gave notice.
    struct AgreementState {
        bytes32 id;
        uint32 cpo;
        uint32 msp;
        Mode mode;
        bool hasEnded;
        uint64 creditLimitE4;
        uint24 lastSequence;
        uint24 discharges;
        int64 owedE4;
        int64 correctedE4;
        uint32 paymentTermS;
        uint40 endsAt;
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

    /// @notice Where a batch stands. Its pairs that are in neither `open` nor `void` are final.
    /// @param pairsHash What binds its statements; 0 if there is no such batch.
    /// @param open Pairs that are not final yet.
    /// @param acceptedByCPO Pairs that their CPO accepted; means nothing of those that are not open.
    /// @param acceptedByMSP Pairs that their MSP accepted, likewise.
    /// @param ripening Open pairs that count as accepted by both from `dueAt`, unless they are challenged.
    /// @param challenged Open pairs that wait for a verdict.
    /// @param void Pairs that were taken out.
    /// @param dueAt When the window ends (unix seconds).
    struct Batch {
        bytes32 pairsHash;
        PairSet open;
        PairSet acceptedByCPO;
        PairSet acceptedByMSP;
        PairSet ripening;
        PairSet challenged;
        PairSet void;
        uint40 dueAt;
    }

    /// @notice An agreement was opened.
    event AgreementOpened(
        AgreementKey indexed agreement,
        bytes32 indexed id,
        bytes32 document,
        Mode mode,
        uint64 creditLimitE4,
        uint32 paymentTermS
    );

    /// @notice A party wants an agreement to end.
    event NoticeGiven(AgreementKey indexed agreement, uint32 indexed party, uint40 endsAt);

    /// @notice An agreement ended: none of its statements becomes final any more.
    event AgreementEnded(AgreementKey indexed agreement);

    /// @notice Statements were proposed together. They themselves are in the call.
    event BatchProposed(bytes32 indexed batchId, bytes32 pairsHash, uint256 count);

    /// @notice Pairs became final: nothing can change them any more.
    event PairsFinal(bytes32 indexed batchId, PairSet pairs);

    /// @notice Both sides accepted these pairs, but the payer lacks cover. They wait; `fund` tries again.
    event PairsUnfunded(bytes32 indexed batchId, PairSet pairs);

    /// @notice A silent side contests a pair, which waits for a verdict.
    event PairChallenged(bytes32 indexed batchId, uint32 indexed party, uint256 index);

    /// @notice A challenge is over.
    /// @param isVoid Whether the pair was taken out.
    event ChallengeEnded(bytes32 indexed batchId, uint256 index, bool isVoid);

    /// @notice Corrections were met, with a statement or alone.
    /// @param amountE4 What the MSP was charged, in ten-thousandths; below zero the CPO was.
    event CorrectionMet(AgreementKey indexed agreement, int64 amountE4);

    /// @notice What is owed under an agreement was paid outside the chain.
    /// @param amountE4 Paid by the MSP; below zero paid by the CPO.
    /// @param owedE4 What is still owed.
    event ObligationDischarged(AgreementKey indexed agreement, uint24 indexed number, int64 amountE4, int64 owedE4);

    /// @notice The CPO took what was not paid in time from the MSP's guarantee.
    event GuaranteeCalled(AgreementKey indexed agreement, uint64 amountE4, int64 owedE4);

    /// @notice The book takes no proposals and no agreements any more; it goes on settling.
    event BookClosed();

    /// @notice An agreement with this key was opened before.
    error SettlementBookKnownAgreement(AgreementKey agreement);

    /// @notice No such agreement is open in this book.
    error SettlementBookUnknownAgreement(AgreementKey agreement);

    /// @notice The terms contradict each other or this book: equal parties, a foreign currency, a limit or payment term
    /// that does not fit the mode, or a number beyond its field.
    error SettlementBookUnsuitableTerms(bytes32 id);

    /// @notice The agreement has ended.
    error SettlementBookEnded(AgreementKey agreement);

    /// @notice Without both signatures it ends from this moment on (unix seconds); 0: nobody gave notice.
    error SettlementBookNotEnding(AgreementKey agreement, uint40 endsAt);

    /// @notice The signatures' deadline (unix seconds) has passed.
    error SettlementBookExpired(uint64 deadline);

    /// @notice The signature is not by the party's signer over these very bytes.
    error SettlementBookWrongSigner(uint32 party);

    /// @notice Only the party's signer may do this.
    error SettlementBookNotParty(uint32 party, address caller);

    /// @notice The window or the bond lies outside its bounds, or the vault lets money out before the window ends.
    error SettlementBookUnsuitableWindow(uint40 windowS, uint64 bondE4);

    /// @notice The book is closed; its successor stands in the registry.
    error SettlementBookIsClosed();

    /// @notice The batch was proposed before.
    error SettlementBookBatchExists(bytes32 batchId);

    /// @notice A batch holds 1 to 256 statements.
    error SettlementBookUnsuitableCount(uint256 count);

    /// @notice A batch's statements stand in ascending order of agreement, each agreement once.
    error SettlementBookNotAscending(uint256 index);

    /// @notice The statement has no CDR.
    error SettlementBookMalformedFigures(uint256 index);

    /// @notice A statement with this sequence is final already.
    error SettlementBookStaleSequence(uint256 index, uint24 lastSequence);

    /// @notice These are not the batch's statements, or there is no such batch.
    error SettlementBookOtherStatements(bytes32 batchId);

    /// @notice The pair does not wait for the silence of a side, or the window is over.
    error SettlementBookNotRipening(bytes32 batchId, uint256 index);

    /// @notice The pair is not challenged.
    error SettlementBookNotChallenged(bytes32 batchId, uint256 index);

    /// @notice More would be discharged than is owed, nothing, or in the wrong direction.
    error SettlementBookDischargeExceedsOwed(AgreementKey agreement, int64 amountE4, int64 owedE4);

    /// @notice More would be taken from the guarantee than is overdue, or nothing.
    error SettlementBookCallExceedsOverdue(AgreementKey agreement, uint64 amountE4, int256 overdueE4);

    /// @notice No correction waits.
    error SettlementBookNotCorrected(AgreementKey agreement);

    /// @notice The payer of a correction lacks cover.
    error SettlementBookNotCovered(AgreementKey agreement);

    // AGREEMENTS

    /// @notice Opens an agreement, once. Anyone may submit it. Under GUARANTEE the limit is reserved.
    /// @param byCPO Signature of the CPO's signer over `Agreement(bytes32 document,uint32 cpo,uint32 msp,
    /// bytes3 currency,uint8 kind,uint16 number,uint8 mode,uint64 creditLimitE4,uint32 paymentTermS,uint64 deadline)`.
    /// @param byMSP The same by the MSP's signer.
    /// @return agreement Its key.
    function openAgreement(Agreement calldata terms, Signature calldata byCPO, Signature calldata byMSP)
        external
        returns (AgreementKey agreement);

    /// @notice Lowers what is owed under an agreement, as both sides say that it was paid. Anyone may submit it.
    /// @param amountE4 Paid by the MSP, in ten-thousandths; below zero paid by the CPO.
    /// @param byCPO Signature of the CPO's signer over `Discharge(uint64 agreement,uint24 number,int64 amountE4)`, with
    /// the agreement's number of discharges so far.
    /// @param byMSP The same by the MSP's signer.
    function discharge(AgreementKey agreement, int64 amountE4, Signature calldata byCPO, Signature calldata byMSP)
        external;

    /// @notice Takes what is overdue from the MSP's guarantee. Only for the CPO's signer. Payments and credits count for
    /// the oldest statements first.
    /// @param sequence A final statement whose payment term is over: it and those before it are overdue.
    /// @param amountE4 In ten-thousandths.
    function callGuarantee(AgreementKey agreement, uint24 sequence, uint64 amountE4) external;

    /// @notice Announces the end of an agreement, by the signer of either side, once: after `NOTICE_PERIOD` and the
    /// payment term, so that what is under way is settled and paid.
    function giveNotice(AgreementKey agreement) external;

    /// @notice Ends an agreement for which notice was given in time. Anyone may. Of a guarantee what is owed stays
    /// reserved, and what corrections that wait will add, as far as the limit goes.
    function endAfterNotice(AgreementKey agreement) external;

    /// @notice Ends an agreement at once, as both sides say. Anyone may submit it.
    /// @param byCPO Signature of the CPO's signer over `Ending(uint64 agreement)`.
    /// @param byMSP The same by the MSP's signer.
    function endAgreement(AgreementKey agreement, Signature calldata byCPO, Signature calldata byMSP) external;

    /// @notice Meets corrections without waiting for the next statement. Anyone may.
    function fundCorrection(AgreementKey agreement) external;

    // BATCHES

    /// @notice Proposes statements, with whatever acceptances there are. Only for PROPOSER_ROLE, unless paused or
    /// closed. A pair that one side accepts here counts as accepted by both when the window ends, unless the other side
    /// challenges it.
    /// @param batchId Chosen by the proposer, so that a repetition is recognised; used once.
    function propose(bytes32 batchId, PairStatement[] calldata statements, Acceptance[] calldata acceptances) external;

    /// @notice Adds acceptances to a batch. Anyone may submit them. Whoever accepts a pair that it challenged takes the
    /// challenge back.
    function accept(bytes32 batchId, PairStatement[] calldata statements, Acceptance[] calldata acceptances) external;

    /// @notice Tries again to make final what is accepted. Anyone may.
    function fund(bytes32 batchId, PairStatement[] calldata statements) external;

    /// @notice Contests a pair that the sender's side did not accept, before the window ends. It waits for a verdict.
    /// Only for that side's signer; `bondE4` is reserved of its collateral.
    function challenge(PairStatement calldata statement, Place calldata place) external;

    /// @notice Decides a challenge. Only for RESOLVER_ROLE. If it is upheld, the pair is void and the bond is released;
    /// its sequence can be stated again in another batch. Else the pair counts as accepted, and the bond goes to the
    /// other side.
    function decideChallenge(PairStatement calldata statement, Place calldata place, bool isUpheld) external;

    /// @notice Stops new proposals and nothing else. Only for PAUSER_ROLE.
    function pause() external;

    /// @notice Allows proposals again. Only for PAUSER_ROLE.
    function unpause() external;

    /// @notice Stops new proposals and agreements for good: the book drains. Only for DEFAULT_ADMIN_ROLE.
    function close() external;

    // VIEWS

    /// @notice Where an agreement stands; reverts if it was never opened.
    function agreementState(AgreementKey agreement) external view returns (AgreementState memory);

    /// @notice Where a batch stands; all zero if there is none.
    function batch(bytes32 batchId) external view returns (Batch memory);

    /// @notice Whether a statement with this sequence is final under the agreement. It does not say which one: with two
    /// batches, `isStatementFinal` does.
    function isFinal(AgreementKey agreement, uint24 sequence) external view returns (bool);

    /// @notice Whether this very statement is final, at this place.
    function isStatementFinal(PairStatement calldata statement, Place calldata place) external view returns (bool);

    /// @notice Whether a CDR's leaf stands at `index` under the statement's evidence root.
    function verifyEvidence(
        PairStatement calldata statement,
        StatementRoots calldata roots,
        EvidenceLeaf calldata leaf,
        uint256 index,
        bytes32[] calldata siblings
    ) external pure returns (bool);

    /// @notice Whether a CDR's amounts stand at `index` under the statement's sum root, which adds up to its figures.
    /// @param siblings Nodes beside the path, from the bottom up, packed: hash, due u64, credit u64 each.
    function verifySum(
        PairStatement calldata statement,
        StatementRoots calldata roots,
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

    /// @notice How long a silent side can challenge, in seconds.
    function windowS() external view returns (uint40);

    /// @notice What a challenge puts at stake, in ten-thousandths.
    function bondE4() external view returns (uint64);

    /// @notice Whether the book takes no proposals and agreements any more.
    function isClosed() external view returns (bool);

    /// @notice Where parties are registered.
    function registry() external view returns (IPartyRegistry);

    /// @notice Where collateral lies.
    function vault() external view returns (ICollateralVault);
}
