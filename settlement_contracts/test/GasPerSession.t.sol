// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {AgreementKey} from "../src/types/AgreementKey.sol";
import {ISettlementBook} from "../src/interfaces/ISettlementBook.sol";
import {PairFigures, packFigures} from "../src/types/PairFigures.sol";
import {PairStatement} from "../src/types/PairStatement.sol";
import {Settlement} from "./base/Settlement.sol";

/// @notice The rival: what a contract costs that stores a session in two packed slots.
contract SessionStore {
    struct Session {
        uint64 importWh;
        uint64 exportWh;
        uint64 dueE4;
        uint32 cpo;
        uint32 msp;
        bytes32 commitment;
    }

    mapping(bytes32 cdrKey => Session) private _sessions;

    function store(bytes32 cdrKey, Session calldata session) external {
        _sessions[cdrKey] = session;
    }
}

/// @notice 10,000 sessions of 100 pairs between 20 parties, from proposal to finality, acceptances included. Each call
/// is a transaction of its own, with its intrinsic gas. Statements are not the agreements' first.
/// forge-config: default.isolate = true
contract GasPerSessionTest is Settlement {
    uint32 private constant CPOS = 10;
    uint32 private constant MSPS = 10;
    uint256 private constant PAIRS = 100;
    uint32 private constant SESSIONS_PER_PAIR = 100;

    AgreementKey[] private _agreements;
    mapping(AgreementKey agreement => ISettlementBook.Agreement) private _termsOf;

    function setUp() public override {
        super.setUp();
        _registerParties(CPOS + MSPS);
        for (uint32 i = 1; i <= CPOS + MSPS; ++i) {
            _deposit(i, 1e12);
        }
    }

    function test_PrefundedInOneCall() public {
        _run(ISettlementBook.Mode.PREFUNDED, "prefunded");
    }

    function test_CreditLineInOneCall() public {
        _run(ISettlementBook.Mode.CREDIT_LINE, "credit line");
    }

    function test_OnePackedStorePerSession() public {
        SessionStore store = new SessionStore();
        store.store(
            keccak256("cdr"),
            SessionStore.Session({
                importWh: 23_000, exportWh: 100, dueE4: 113_400, cpo: 1, msp: 2, commitment: keccak256("commitment")
            })
        );
        vm.snapshotGasLastCall("GasPerSession", "rival: two packed slots, per session");
    }

    function _run(ISettlementBook.Mode mode, string memory name) private {
        _openAll(mode);
        _settle("first", 1);
        _settle("second", 2);
        uint256 gasUsed = vm.snapshotGasLastCall("GasPerSession", string.concat(name, ": propose, accept and settle"));
        assertEq(_finalPairs("second", PAIRS), (1 << PAIRS) - 1, "all pairs are final");
        uint256 perSession = Math.ceilDiv(gasUsed, PAIRS * SESSIONS_PER_PAIR);
        vm.snapshotValue("GasPerSession", string.concat(name, ": per session"), perSession);
    }

    function _settle(bytes32 batchId, uint24 sequence) private {
        PairStatement[] memory statements = new PairStatement[](PAIRS);
        for (uint256 i = 0; i < PAIRS; ++i) {
            statements[i] = _statement(_agreements[i], uint64(1_134_000 + i * 7919), uint64(i % 3 * 4321), sequence);
        }
        ISettlementBook.Acceptance[] memory acceptances = new ISettlementBook.Acceptance[](CPOS + MSPS);
        for (uint32 party = 1; party <= CPOS + MSPS; ++party) {
            uint256 pairs = 0;
            for (uint256 i = 0; i < PAIRS; ++i) {
                ISettlementBook.Agreement storage terms = _termsOf[_agreements[i]];
                if (terms.cpo == party || terms.msp == party) pairs |= 1 << i;
            }
            acceptances[party - 1] = _acceptance(batchId, statements, party, pairs);
        }
        book.propose(batchId, statements, acceptances);
    }

    function _openAll(ISettlementBook.Mode mode) private {
        for (uint32 cpo = 1; cpo <= CPOS; ++cpo) {
            for (uint32 msp = CPOS + 1; msp <= CPOS + MSPS; ++msp) {
                ISettlementBook.Agreement memory terms =
                    _terms(cpo, msp, mode, mode == ISettlementBook.Mode.PREFUNDED ? 0 : 1e12);
                AgreementKey agreement = _open(terms);
                _termsOf[agreement] = terms;
                _agreements.push(agreement);
            }
        }
        for (uint256 i = 1; i < PAIRS; ++i) {
            for (uint256 j = i; j > 0 && _isBefore(_agreements[j], _agreements[j - 1]); --j) {
                (_agreements[j], _agreements[j - 1]) = (_agreements[j - 1], _agreements[j]);
            }
        }
    }
}
