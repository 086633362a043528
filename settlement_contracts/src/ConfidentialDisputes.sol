// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DisputeResolver} from "./disputes/DisputeResolver.sol";
import {IArbiter} from "./interfaces/IArbiter.sol";
import {IConfidentialBook} from "./interfaces/IConfidentialBook.sol";
import {IMeterEvidence} from "./interfaces/IMeterEvidence.sol";
import {SealedStatement, SealedStatements} from "./types/SealedStatement.sol";

/// @notice Resolves quarrels over statements of a confidential book; see {IDisputeResolver}. Whoever opens a case shows
/// everybody the statement: its pair, its number of CDRs and its amounts. What a verdict moves must be covered, or the
/// call reverts and can be repeated.
contract ConfidentialDisputes is DisputeResolver {
    /// @notice What opens a statement: `opening` is the encoding of one.
    /// @param statement As both signed it.
    /// @param proof That its salted hash stands for it.
    /// @param place Where that hash stands.
    /// @param amountsSalt Of its amounts.
    /// @param sumRoot Hash of its sum tree's root.
    /// @param dueE4 What the MSP owes the CPO, in ten-thousandths.
    /// @param creditE4 What the CPO owes the MSP.
    struct OpenedStatement {
        SealedStatement statement;
        IConfidentialBook.Opening proof;
        IConfidentialBook.Place place;
        bytes32 amountsSalt;
        bytes32 sumRoot;
        uint64 dueE4;
        uint64 creditE4;
    }

    /// @notice The book whose resolver this is; it must have the book's RESOLVER_ROLE.
    IConfidentialBook public immutable book;

    constructor(
        IConfidentialBook book_,
        IMeterEvidence evidence_,
        IArbiter arbiter_,
        uint64 demandBondE4_,
        uint64 quarrelBondE4_
    ) DisputeResolver(book_.registry(), book_.vault(), evidence_, arbiter_, demandBondE4_, quarrelBondE4_) {
        book = book_;
    }

    function _stated(bytes calldata opening) internal view override returns (Stated memory) {
        OpenedStatement memory opened = abi.decode(opening, (OpenedStatement));
        SealedStatement memory statement = opened.statement;
        bytes32 id = keccak256(abi.encode(SealedStatements.TYPEHASH, statement));
        bool isStated = book.isStatementFinal(statement, opened.proof, opened.place)
            && book.areAmounts(statement, opened.amountsSalt, opened.sumRoot, opened.dueE4, opened.creditE4);
        if (!isStated) revert DisputeResolverNotStated(id);
        return Stated({
            id: id,
            pair: 0,
            cpo: statement.cpo,
            msp: statement.msp,
            evidenceRoot: statement.evidenceRoot,
            sumRoot: opened.sumRoot,
            dueE4: opened.dueE4,
            creditE4: opened.creditE4,
            count: statement.count,
            sequence: statement.sequence,
            periodEnd: statement.periodEnd,
            isFinal: true
        });
    }

    function _correct(uint64, uint32 cpo, uint32 msp, int64 amountE4) internal override {
        if (amountE4 > 0) book.correct(msp, cpo, uint64(amountE4));
        if (amountE4 < 0) book.correct(cpo, msp, uint64(-amountE4));
    }

    /// @dev Never called: a batch of the confidential book is final at once, and nothing of it can be challenged.
    function _void(bytes calldata) internal pure override {}
}
