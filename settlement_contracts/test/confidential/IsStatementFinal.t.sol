// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IConfidentialBook} from "../../src/interfaces/IConfidentialBook.sol";
import {SealedStatement} from "../../src/types/SealedStatement.sol";
import {Confidential} from "../base/Confidential.sol";
import {ReferenceTrees} from "../base/ReferenceTrees.sol";

contract IsConfidentialStatementFinalTest is Confidential {
    bytes32 private constant SALT = "a salt";
    SealedStatement private _stated;
    bytes32[] private _hashes;

    function setUp() public override {
        super.setUp();
        _registerParties(4);
        _deposit(1, 1_000);
        _stated = _sealed(2, 1, 7);
        _hashes = _noise(8);
        _hashes[5] = _posted(_stated, SALT);
        hidden.settle("b", _hashes, _signedNets("b", _hashes, _three(-600, 600, 0)));
    }

    function test_AnOpenedStatementIsFinal() public view {
        assertTrue(_isFinal(_stated, _opening(_stated, SALT), _place()), "final");
    }

    function test_ItStaysFinalWhenASignerIsReplaced() public {
        IConfidentialBook.Opening memory opening = _opening(_stated, SALT);
        _rotate(1, 9, 0);

        assertTrue(_isFinal(_stated, opening, _place()), "signed by who signed then");
    }

    function test_AHashThatItsPartiesNeverSignedOpensNothing() public view {
        IConfidentialBook.Opening memory opening = _opening(_stated, SALT);
        opening.byMSP = opening.byCPO;
        assertFalse(_isFinal(_stated, opening, _place()), "only the CPO signed");
        opening = _opening(_stated, SALT);
        opening.byCPO = opening.byMSP;
        assertFalse(_isFinal(_stated, opening, _place()), "only the MSP signed");
        opening = _opening(_stated, SALT);
        opening.byCPO.r = 0;
        assertFalse(_isFinal(_stated, opening, _place()), "nobody signed");
    }

    function test_ASignerOfTodayDoesNotOpenABatchOfYesterday() public {
        _rotate(1, 9, 0);
        IConfidentialBook.Opening memory opening = _opening(_stated, SALT);
        bytes32 digest = _digest(address(hidden), "ConfidentialBook", _structHash(_stated));
        opening.byMSP = _sign(_key(9), digest);

        assertFalse(_isFinal(_stated, opening, _place()), "it had not signed");
    }

    function test_NothingElseIsFinal() public view {
        IConfidentialBook.Opening memory opening = _opening(_stated, SALT);
        assertFalse(_isFinal(_stated, _opening(_stated, "other"), _place()), "another salt");
        SealedStatement memory other = _sealed(2, 1, 8);
        assertFalse(_isFinal(other, _opening(other, SALT), _place()), "another sequence");
        other = _stated;
        other.amounts = "other";
        assertFalse(_isFinal(other, _opening(other, SALT), _place()), "other amounts");
        other = _stated;
        other.evidenceRoot = "other";
        assertFalse(_isFinal(other, _opening(other, SALT), _place()), "another root");
        IConfidentialBook.Place memory place = _place();
        place.index = 4;
        assertFalse(_isFinal(_stated, opening, place), "another place");
        place = _place();
        place.batchId = "other";
        assertFalse(_isFinal(_stated, opening, place), "another batch");
        place = _place();
        place.count = 7;
        assertFalse(_isFinal(_stated, opening, place), "another count");
        place = _place();
        place.siblings[1] = "other";
        assertFalse(_isFinal(_stated, opening, place), "another path");
    }

    function test_SignersCantBeMadeUp() public view {
        IConfidentialBook.Place memory place = _place();
        place.signers[0] = (uint256(1) << 160) | uint160(_signer(9));
        bytes32 digest = _digest(address(hidden), "ConfidentialBook", _structHash(_stated));
        IConfidentialBook.Opening memory opening = _opening(_stated, SALT);
        opening.byMSP = _sign(_key(9), digest);

        assertFalse(_isFinal(_stated, opening, place), "the batch knows who signed");
    }

    function test_AmountsOpenWithASaltOfTheirOwn() public view {
        assertTrue(hidden.areAmounts(_stated, "salt", "sums", 700, 200), "these");
        assertFalse(hidden.areAmounts(_stated, SALT, "sums", 700, 200), "not with the receipt's salt");
        assertFalse(hidden.areAmounts(_stated, "salt", "sums", 701, 200), "not more");
        assertFalse(hidden.areAmounts(_stated, "salt", "sums", 700, 199), "nor less");
        assertFalse(hidden.areAmounts(_stated, "salt", "other", 700, 200), "nor of other CDRs");
    }

    function _isFinal(
        SealedStatement memory statement,
        IConfidentialBook.Opening memory opening,
        IConfidentialBook.Place memory place
    ) private view returns (bool) {
        return hidden.isStatementFinal(statement, opening, place);
    }

    function _place() private view returns (IConfidentialBook.Place memory place) {
        uint256[] memory signers = new uint256[](3);
        for (uint32 i = 0; i < 3; ++i) {
            signers[i] = _signerWord(i + 1);
        }
        place = IConfidentialBook.Place("b", 5, 8, ReferenceTrees.proof(_hashes, 5), signers);
    }
}
