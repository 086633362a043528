// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {PairStatement} from "../../src/types/PairStatement.sol";
import {Settlement} from "../base/Settlement.sol";

contract PauseTest is Settlement {
    function test_ProposalsGoOnAfterAPause() public {
        _registerParties(2);
        PairStatement[] memory statements = _batchOf(_statement(_openPrefunded(1, 2), 100, 0, 1));

        book.pause();
        assertTrue(book.paused(), "paused");
        book.unpause();
        book.propose("batch", statements, _nobody());

        assertEq(book.batch("batch").pairsHash, _pairsHash(statements), "proposed");
    }
}
