// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {DisputeResolver} from "./disputes/DisputeResolver.sol";
import {IArbiter} from "./interfaces/IArbiter.sol";
import {IDisputable} from "./interfaces/IDisputable.sol";
import {IMeterEvidence} from "./interfaces/IMeterEvidence.sol";
import {ISettlementBook} from "./interfaces/ISettlementBook.sol";
import {AgreementKey} from "./types/AgreementKey.sol";
import {PairFigures} from "./types/PairFigures.sol";
import {PairStatement, PairStatements, StatementRoots} from "./types/PairStatement.sol";
import {Place} from "./types/Place.sol";

/// @notice Resolves quarrels over statements of an open book, and challenges of those that one side did not sign; see
/// {IDisputeResolver}. A verdict is met with the agreement's next statement, or by the book's `fundCorrection`.
contract SettlementDisputes is DisputeResolver {
    /// @notice What opens a statement: `opening` is the encoding of one.
    /// @param statement As both signed it, or as one did and the other challenges it.
    /// @param roots What its `roots` stands for.
    /// @param place Its place in its batch.
    struct OpenedStatement {
        PairStatement statement;
        StatementRoots roots;
        Place place;
    }

    /// @notice The book whose resolver this is; it must have the book's RESOLVER_ROLE.
    ISettlementBook public immutable book;

    constructor(
        ISettlementBook book_,
        IMeterEvidence evidence_,
        IArbiter arbiter_,
        uint64 demandBondE4_,
        uint64 quarrelBondE4_
    ) DisputeResolver(book_.registry(), book_.vault(), evidence_, arbiter_, demandBondE4_, quarrelBondE4_) {
        book = book_;
    }

    /// @notice Decides a challenge that no proof decides. Only for the arbiter.
    /// @param isUpheld Whether the statement is taken out; else it counts as accepted.
    function ruleOnChallenge(PairStatement calldata statement, Place calldata place, bool isUpheld) external {
        if (msg.sender != address(arbiter)) revert DisputeResolverNotArbiter(msg.sender);
        book.decideChallenge(statement, place, isUpheld);
    }

    function _stated(bytes calldata opening) internal view override returns (Stated memory) {
        OpenedStatement memory opened = abi.decode(opening, (OpenedStatement));
        PairStatement memory statement = opened.statement;
        bytes32 id = keccak256(abi.encode(PairStatements.TYPEHASH, statement));
        // slither-disable-next-line unused-return (until when it can be challenged is the book's affair)
        (IDisputable.Stage stage,) = IDisputable(address(book)).statementStage(statement, opened.place);
        if (stage == IDisputable.Stage.NONE || keccak256(abi.encode(opened.roots)) != statement.roots) {
            revert DisputeResolverNotStated(id);
        }
        PairFigures figures = statement.figures;
        AgreementKey agreement = figures.agreement();
        return Stated({
            id: id,
            pair: AgreementKey.unwrap(agreement),
            cpo: agreement.cpo(),
            msp: agreement.msp(),
            evidenceRoot: opened.roots.evidence,
            sumRoot: opened.roots.sums,
            dueE4: figures.dueE4(),
            creditE4: figures.creditE4(),
            count: figures.count(),
            sequence: figures.sequence(),
            periodEnd: figures.periodEnd(),
            isFinal: stage == IDisputable.Stage.FINAL
        });
    }

    function _correct(uint64 pair, uint32, uint32, int64 amountE4) internal override {
        IDisputable(address(book)).correct(AgreementKey.wrap(pair), amountE4);
    }

    /// @dev Reverts with the book's error unless the statement is challenged.
    function _void(bytes calldata opening) internal override {
        OpenedStatement memory opened = abi.decode(opening, (OpenedStatement));
        book.decideChallenge(opened.statement, opened.place, true);
    }
}
