// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AgreementKey} from "../types/AgreementKey.sol";
import {PairStatement} from "../types/PairStatement.sol";
import {Place} from "../types/Place.sol";

/// @title What a resolver of disputes asks of a book
interface IDisputable {
    /// @notice How far a statement is.
    /// NONE: it is not at this place of any batch, or was taken out by a challenge.
    /// PROPOSED: it is, and is not final.
    /// FINAL: nothing changes it any more.
    enum Stage {
        NONE,
        PROPOSED,
        FINAL
    }

    /// @notice What is owed beside statements was changed by a verdict.
    /// @param amountE4 Added to what the MSP owes the CPO, in ten-thousandths; below zero taken off.
    event AgreementCorrected(AgreementKey indexed agreement, int64 amountE4);

    /// @notice The corrections that wait add up to more than 2^62 ten-thousandths.
    error DisputableTooMuch(AgreementKey agreement);

    /// @notice How far this very statement is, at this place.
    /// @return stage See {Stage}.
    /// @return deadline Under PROPOSED, until when the side that is silent can challenge it (unix seconds); 0 if it
    /// waits for that side's word. Else 0.
    function statementStage(PairStatement calldata statement, Place calldata place)
        external
        view
        returns (Stage stage, uint64 deadline);

    /// @notice Changes what the MSP owes the CPO, beside all statements. Only for RESOLVER_ROLE. It is met together with
    /// the agreement's next statement, or by `fundCorrection`.
    /// @param amountE4 In ten-thousandths; below zero the CPO owes it.
    function correct(AgreementKey agreement, int64 amountE4) external;
}
