// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EvidenceLeaf} from "../trees/EvidenceTree.sol";
import {Signature} from "../types/Signature.sol";
import {IArbiter} from "./IArbiter.sol";
import {ICollateralVault} from "./ICollateralVault.sol";
import {IMeterEvidence} from "./IMeterEvidence.sol";
import {IPartyRegistry} from "./IPartyRegistry.sol";

/// @title Quarrels over one CDR of a final statement
/// @notice Anyone who holds the proof has a CDR struck that stands in two statements of its pair, whose meter did not sign
/// it, or whose energy is not what the meter signed; and one that nobody shows when asked. Nobody judges these. What a
/// CDR should have cost, an arbiter decides, and the side that was farther off pays the other its bond. A verdict is met
/// with the pair's next statement or by the book at once; statements themselves never change.
/// A case goes NONE -> DEMANDED -> REVEALED -> QUARRELLED -> DEFENDED -> RULED -> STRUCK, skipping what it skips, never back.
/// @dev A case is one leaf of one statement; its id is keccak(statement's struct hash || evidence leaf's hash). Where a
/// statement stands is told by `opening`, whose form is the book's. Cases on a statement that is proposed and challenged
/// void the statement instead, and leave no trace here.
/// Warning: what is submitted is public for good. A meter's record that names its driver belongs before an arbiter.
/// Warning: a CDR that is struck and credited as well is taken back twice. Strike the credit: {contestCredit}.
interface IDisputeResolver {
    /// @notice How far a case is.
    /// DEMANDED: a party asks to be shown the leaf.
    /// REVEALED: it was shown.
    /// QUARRELLED: a party contests the amount.
    /// DEFENDED: the other put a bond on it, and an arbiter decides.
    /// RULED: it is decided; only a proof goes further.
    /// STRUCK: all of the leaf's amount is taken out.
    enum Stage {
        NONE,
        DEMANDED,
        REVEALED,
        QUARRELLED,
        DEFENDED,
        RULED,
        STRUCK
    }

    /// @notice Why a leaf was struck.
    enum Reason {
        DUPLICATE,
        SIGNATURE,
        ENERGY,
        CREDIT,
        WITHHELD
    }

    /// @notice A leaf with its amounts, and where it stands in a statement.
    /// @param leaf As the evidence tree has it.
    /// @param dueE4 What the MSP owes for it, in ten-thousandths.
    /// @param creditE4 What the CPO owes for it.
    /// @param index Its position.
    /// @param siblings Its proof in the sum tree, see {SumTree-verify}.
    struct PlacedLeaf {
        EvidenceLeaf leaf;
        uint64 dueE4;
        uint64 creditE4;
        uint256 index;
        bytes siblings;
    }

    /// @notice A leaf of which only hash and amounts are known.
    /// @param evidenceLeaf Its hash.
    /// @param dueE4 What the MSP owes for it, in ten-thousandths.
    /// @param creditE4 What the CPO owes for it.
    /// @param index Its position.
    /// @param siblings Its proof in the sum tree.
    struct HiddenLeaf {
        bytes32 evidenceLeaf;
        uint64 dueE4;
        uint64 creditE4;
        uint256 index;
        bytes siblings;
    }

    /// @notice A party's word.
    /// @param party Its number.
    /// @param deadline Until when the word counts (unix seconds).
    /// @param signature By the party's signer, over the EIP-712 struct that the function names.
    struct Word {
        uint32 party;
        uint40 deadline;
        Signature signature;
    }

    /// @notice Where a case stands.
    /// @param stage See {Stage}.
    /// @param reason Under STRUCK, why.
    /// @param deadline Until when the other side, or the arbiter, has its turn (unix seconds).
    /// @param claimant The party that demands or contests.
    /// @param defendant The other.
    /// @param isByMSP Whether the claimant is the MSP.
    /// @param pair The pair, as its book names it.
    /// @param netE4 What the statement says of the leaf, in ten-thousandths; below zero the CPO owes it.
    /// @param claimedE4 What the claimant says it is.
    /// @param correctedE4 What was added by a ruling.
    struct Case {
        Stage stage;
        Reason reason;
        uint40 deadline;
        uint32 claimant;
        uint32 defendant;
        bool isByMSP;
        uint64 pair;
        int64 netE4;
        int64 claimedE4;
        int64 correctedE4;
    }

    /// @notice A leaf's amount is taken out.
    /// @param amountE4 Added to what the MSP owes, in ten-thousandths; below zero taken off.
    event LeafStruck(bytes32 indexed id, Reason reason, int64 amountE4);

    /// @notice A challenged statement was voided, by a proof against one of its leaves.
    event StatementVoided(bytes32 indexed statement, bytes32 indexed id, Reason reason);

    /// @notice A party asks the other to show a leaf until `deadline`.
    event LeafDemanded(bytes32 indexed id, uint32 indexed party, uint40 deadline);

    /// @notice A leaf was shown; it is in the call.
    event LeafRevealed(bytes32 indexed id);

    /// @notice A party contests an amount; the other has until `deadline` to defend it.
    event AmountQuarrelled(bytes32 indexed id, uint32 indexed party, int64 statedE4, int64 claimedE4, uint40 deadline);

    /// @notice The other side defends it; the arbiter has until `deadline`.
    event AmountDefended(bytes32 indexed id, uint40 deadline);

    /// @notice An amount is decided.
    /// @param amountE4 Added to what the MSP owes, in ten-thousandths; below zero taken off.
    /// @param winner The party that got the other's bond; 0: each kept its own.
    event AmountRuled(bytes32 indexed id, int64 amountE4, uint32 winner);

    /// @notice The leaf is not at this place of the statement, or states other amounts.
    error DisputeResolverNotInStatement(bytes32 statement);

    /// @notice The statement is neither final nor proposed, or not at the place that was named.
    error DisputeResolverNotStated(bytes32 statement);

    /// @notice The time in which a statement's CDRs can be contested is over (unix seconds).
    error DisputeResolverTooLate(uint256 until);

    /// @notice The case is not at a stage where this can be done.
    error DisputeResolverWrongStage(bytes32 id, Stage stage);

    /// @notice The proof shows nothing wrong.
    error DisputeResolverNothingWrong(bytes32 id);

    /// @notice The leaf commits to another record, or to none.
    error DisputeResolverOtherRecord(bytes32 id);

    /// @notice Both leaves must be one CDR of one pair, and the statement that came first stands, if it is final.
    error DisputeResolverNoDuplicate(bytes32 id);

    /// @notice The word's deadline has passed, or the signature is not the party's over these very bytes.
    error DisputeResolverNoWord(uint32 party);

    /// @notice Only a party of the pair may; an amount is contested by the side that owes it.
    error DisputeResolverNotItsTurn(uint32 party);

    /// @notice The amount must lie between nothing and what is stated, and a ruling between the two that quarrel.
    error DisputeResolverUnsuitableAmount(int64 amountE4);

    /// @notice The deadline (unix seconds) is not over, or is over already.
    error DisputeResolverDeadline(uint40 deadline);

    /// @notice Only the arbiter may.
    error DisputeResolverNotArbiter(address caller);

    /// @notice Strikes a CDR that stands in an earlier, final statement of its pair, too. Anyone may.
    /// @param opening Where the statement stands.
    /// @param contested The leaf in it.
    /// @param otherOpening Where the earlier statement stands.
    /// @param other The leaf in that one, with `siblings` of its place in the evidence tree at `otherIndex`.
    function contestDuplicate(
        bytes calldata opening,
        PlacedLeaf calldata contested,
        bytes calldata otherOpening,
        EvidenceLeaf calldata other,
        uint256 otherIndex,
        bytes32[] calldata siblings
    ) external;

    /// @notice Strikes a CDR whose committed meter record is not signed by the committed key. Anyone may.
    /// @param salt Of the leaf's `meter`.
    /// @param record What it stands for, see {MeterRecord}.
    function contestSignature(
        bytes calldata opening,
        PlacedLeaf calldata contested,
        bytes32 salt,
        bytes calldata record
    ) external;

    /// @notice Strikes a charge whose energy is not what the registers in its committed meter record say. Anyone may.
    function contestEnergy(bytes calldata opening, PlacedLeaf calldata contested, bytes32 salt, bytes calldata record)
        external;

    /// @notice Strikes a credit whose charge is struck already, but not as a duplicate: of that an earlier copy stands,
    /// which the credit takes back. Anyone may.
    /// @param statement Struct hash of the charge's statement.
    /// @param charge The charge's leaf; the credit names its key.
    function contestCredit(
        bytes calldata opening,
        PlacedLeaf calldata contested,
        bytes32 statement,
        EvidenceLeaf calldata charge
    ) external;

    /// @notice Asks the other party to show a leaf of which only hash and amounts are known. The demander's bond is
    /// reserved, and goes to whoever has to answer.
    /// @param word Over `Demand(bytes32 id,uint32 party,uint40 deadline)`.
    function demand(bytes calldata opening, HiddenLeaf calldata hidden, Word calldata word) external;

    /// @notice Shows a leaf that was demanded. Anyone may.
    /// @param statement Struct hash of its statement.
    function reveal(bytes32 statement, EvidenceLeaf calldata leaf) external;

    /// @notice Contests what a CDR costs, by the side that owes it. Its bond is reserved.
    /// @param claimedE4 What it should cost: between 0 and what is stated, in ten-thousandths.
    /// @param word Over `Quarrel(bytes32 id,uint32 party,int64 claimedE4,uint40 deadline)`.
    function quarrel(bytes calldata opening, PlacedLeaf calldata contested, int64 claimedE4, Word calldata word)
        external;

    /// @notice Stands by an amount that is contested. Its bond is reserved, and the arbiter decides.
    /// @param word Over `Defence(bytes32 id,uint32 party,uint40 deadline)`.
    function defend(bytes32 id, Word calldata word) external;

    /// @notice Decides an amount. Only for the arbiter, until its deadline.
    /// @param ruledE4 Between what is stated and what is claimed; the bond of the side that is farther off goes to the
    /// other, and of two that are as far off each keeps its own.
    function rule(bytes32 id, int64 ruledE4) external;

    /// @notice Ends a case whose deadline is over. Anyone may. A leaf that nobody showed is struck; an amount that
    /// nobody defended is what was claimed; one on which the arbiter was silent stays as stated.
    function lapse(bytes32 id) external;

    /// @notice Where a case stands; all zero if there is none.
    function caseOf(bytes32 id) external view returns (Case memory);

    /// @notice The id of a case.
    function caseId(bytes32 statement, EvidenceLeaf calldata leaf) external pure returns (bytes32);

    /// @notice How long after its period's end a statement's CDRs can be contested, in seconds.
    function CONTEST_PERIOD() external view returns (uint256);

    /// @notice How long the other side has to show a leaf or to defend an amount, in seconds.
    function ANSWER_WINDOW() external view returns (uint40);

    /// @notice How long the arbiter has, in seconds.
    function RULING_WINDOW() external view returns (uint40);

    /// @notice What a demand puts at stake, in ten-thousandths.
    function demandBondE4() external view returns (uint64);

    /// @notice What each side of a quarrel puts at stake, in ten-thousandths.
    function quarrelBondE4() external view returns (uint64);

    /// @notice Where parties are registered.
    function registry() external view returns (IPartyRegistry);

    /// @notice Where bonds lie.
    function vault() external view returns (ICollateralVault);

    /// @notice Who judges meter records.
    function evidence() external view returns (IMeterEvidence);

    /// @notice Who decides quarrels.
    function arbiter() external view returns (IArbiter);
}
