// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SealedStatement} from "../types/SealedStatement.sol";
import {Signature} from "../types/Signature.sol";
import {ICollateralVault} from "./ICollateralVault.sol";
import {IPartyRegistry} from "./IPartyRegistry.sol";

/// @title The settlement of one currency without amounts of pairs
/// @notice CPO and MSP sign statements off chain. A batch posts one salted hash per statement and each party's net over
/// all its statements, which it signs. A batch is final at once and whole, or it reverts: nets sum to zero, every party
/// signed and every payer is covered.
/// @dev No pair is named. Hashes are a power of two, filled up with random ones, so that their number tells the number of
/// pairs to a factor of two only, whatever proposer is at work.
/// Warning: the net of a party is public, and so is a pair's if its batch has no other way to explain the nets. See
/// docs/confidential-mode.md for what each observer learns.
/// Warning: the order of a pair's statements is not enforced here, for the book does not know whose a hash is. Both
/// parties refuse to sign a sequence twice; if both did, the two opened statements prove it.
interface IConfidentialBook {
    /// @notice One party's word on a batch.
    /// @param party Party number.
    /// @param netE4 What it gets on balance, in ten-thousandths of the currency unit; below zero it pays.
    /// @param signature By its signer, over `NetAcceptance(bytes32 batchId,bytes32 hashesHash,uint32 party,int64 netE4,
    /// uint64 nonce)` with the party's present nonce.
    struct PartyNet {
        uint32 party;
        int64 netE4;
        Signature signature;
    }

    /// @notice What shows that a hash stands for a statement that both parties signed.
    /// @param salt Of the posted hash.
    /// @param byCPO Signature of the CPO's signer over the statement's EIP-712 digest.
    /// @param byMSP The same by the MSP's signer.
    struct Opening {
        bytes32 salt;
        Signature byCPO;
        Signature byMSP;
    }

    /// @notice A hash's place in its batch.
    /// @param batchId The batch.
    /// @param index Its position.
    /// @param count Number of hashes in the batch.
    /// @param siblings Hashes beside its path in the tree over the batch's hashes, from the bottom up.
    /// @param signers Who signed for each party of the batch when it became final, ascending: party u32, address, in the
    /// lowest 192 bits of a word. Signers change; this is whom the statement's signatures are checked against.
    struct Place {
        bytes32 batchId;
        uint256 index;
        uint256 count;
        bytes32[] siblings;
        uint256[] signers;
    }

    /// @notice A batch became final. The hashes and nets are in the call.
    /// @param hashesHash keccak(Merkle root over the hashes || their number u256).
    event BatchSettled(bytes32 indexed batchId, bytes32 hashesHash, uint256 count);

    /// @notice A verdict on an opened statement was carried out.
    event Corrected(uint32 indexed from, uint32 indexed to, uint64 amountE4);

    /// @notice The batch is final already.
    error ConfidentialBookBatchExists(bytes32 batchId);

    /// @notice A batch holds 2, 4, 8 and so on up to 256 hashes.
    error ConfidentialBookUnsuitableCount(uint256 count);

    /// @notice A batch's parties stand in ascending order, each once, and there are at least two.
    error ConfidentialBookPartiesNotAscending(uint256 index);

    /// @notice The signature is not by the party's signer over these very bytes and the party's present nonce.
    error ConfidentialBookWrongSigner(uint32 party, uint64 nonce);

    /// @notice Makes a batch final, or reverts. Only for PROPOSER_ROLE, unless paused. Reverts with the vault's errors if
    /// the nets do not sum to zero or a payer lacks cover.
    /// @param batchId Chosen by the proposer, so that a repetition is recognised; used once.
    /// @param hashes Salted hashes of statements, and random ones; see {SealedStatement}.
    /// @param nets The parties, ascending.
    function settle(bytes32 batchId, bytes32[] calldata hashes, PartyNet[] calldata nets) external;

    /// @notice Moves what a verdict on an opened statement says. Only for RESOLVER_ROLE.
    /// @param from Number of the party that pays; reverts with the vault's error if it lacks cover.
    /// @param to Number of the party that is paid.
    function correct(uint32 from, uint32 to, uint64 amountE4) external;

    /// @notice Stops new batches and nothing else. Only for PAUSER_ROLE.
    function pause() external;

    /// @notice Allows batches again. Only for PAUSER_ROLE.
    function unpause() external;

    /// @notice Whether this very statement is final at this place, and both its parties signed it.
    function isStatementFinal(SealedStatement calldata statement, Opening calldata opening, Place calldata place)
        external
        view
        returns (bool);

    /// @notice Whether these are a statement's amounts, and `sumRoot` the hash of its sum tree's root.
    /// @param salt Of the amounts, not of the posted hash.
    function areAmounts(
        SealedStatement calldata statement,
        bytes32 salt,
        bytes32 sumRoot,
        uint64 dueE4,
        uint64 creditE4
    ) external pure returns (bool);

    /// @notice What a batch's record binds: keccak(hashesHash || keccak(signers)); 0 if there is no such batch.
    function batch(bytes32 batchId) external view returns (bytes32);

    /// @notice How many batches a party signed; its next signature names this number.
    function nonceOf(uint32 party) external view returns (uint64);

    /// @notice The book's currency, an ISO 4217 code.
    function currency() external view returns (bytes3);

    /// @notice Where parties are registered.
    function registry() external view returns (IPartyRegistry);

    /// @notice Where collateral lies.
    function vault() external view returns (ICollateralVault);
}
