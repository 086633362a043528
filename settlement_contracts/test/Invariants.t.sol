// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AgreementKey} from "../src/types/AgreementKey.sol";
import {CollateralVault} from "../src/CollateralVault.sol";
import {EmbeddedCurrency} from "../src/EmbeddedCurrency.sol";
import {SettlementBook} from "../src/SettlementBook.sol";
import {ISettlementBook} from "../src/interfaces/ISettlementBook.sol";
import {PairFigures} from "../src/types/PairFigures.sol";
import {PairSet} from "../src/types/PairSet.sol";
import {PairStatement} from "../src/types/PairStatement.sol";
import {Place} from "../src/types/Place.sol";
import {ReferenceTrees} from "./base/ReferenceTrees.sol";
import {Settlement} from "./base/Settlement.sol";

/// @notice Four parties that propose, accept, fund, challenge, pay in and out, discharge, call guarantees and end
/// agreements in any order, and a resolver that decides and corrects. It keeps its own books, from what became final,
/// and compares after each step what may only go forward.
contract Traffic is Settlement {
    uint32 internal constant PARTIES = 4;
    uint256 internal constant MAX_BATCHES = 24;
    uint64 internal constant GUARANTEE = 4_000;
    uint64 internal constant TERM = 30 days;

    AgreementKey[] public agreements;
    bytes32[] public batches;
    mapping(bytes32 batchId => PairStatement[]) private _statementsOf;
    mapping(bytes32 batchId => uint256) public finalSeen;
    mapping(AgreementKey agreement => mapping(uint24 sequence => uint256)) public timesFinal;
    mapping(AgreementKey agreement => int256) public netFinal;
    mapping(AgreementKey agreement => int256) public discharged;
    mapping(AgreementKey agreement => int256) public corrected;
    mapping(AgreementKey agreement => int256) public called;
    mapping(uint32 party => int256) public bondsWon;
    mapping(uint32 party => uint256) public paidIn;
    mapping(uint32 party => uint256) public paidOut;
    bool public wentBack;
    bool public calledTooMuch;

    function setUp() public override {
        super.setUp();
        _registerParties(PARTIES);
        book.grantRole(book.RESOLVER_ROLE(), address(this));
        _payIn(3, 3 * GUARANTEE);
        for (uint32 cpo = 1; cpo <= 2; ++cpo) {
            for (uint32 msp = 3; msp <= 4; ++msp) {
                agreements.push(_openPrefunded(cpo, msp));
                agreements.push(_openCreditLine(cpo, msp, 5_000));
                if (msp == 3) agreements.push(_openGuarantee(cpo, msp, GUARANTEE));
            }
        }
        for (uint256 i = 1; i < agreements.length; ++i) {
            for (uint256 j = i; j > 0 && _isBefore(agreements[j], agreements[j - 1]); --j) {
                (agreements[j], agreements[j - 1]) = (agreements[j - 1], agreements[j]);
            }
        }
    }

    function propose(uint256 dice, uint256 chosen) external {
        if (batches.length == MAX_BATCHES) return;
        bytes32 batchId = bytes32(batches.length + 1);
        for (uint256 i = 0; i < agreements.length; ++i) {
            if ((chosen >> i) & 1 == 0 || book.agreementState(agreements[i]).hasEnded) continue;
            uint256 roll = uint256(keccak256(abi.encode(dice, i)));
            uint24 next = book.agreementState(agreements[i]).lastSequence + 1 + uint24(roll % 4 / 3);
            _statementsOf[batchId].push(
                _statement(agreements[i], uint64((roll >> 8) % 2_000), uint64((roll >> 72) % 1_000), next)
            );
        }
        if (_statementsOf[batchId].length == 0) return;
        batches.push(batchId);
        book.propose(batchId, _statementsOf[batchId], _words(batchId, dice));
        _note(batchId);
    }

    function accept(uint256 which, uint256 dice) external {
        if (batches.length == 0) return;
        bytes32 batchId = batches[which % batches.length];
        book.accept(batchId, _statementsOf[batchId], _words(batchId, dice));
        _note(batchId);
    }

    function fund(uint256 which) external {
        if (batches.length == 0) return;
        bytes32 batchId = batches[which % batches.length];
        book.fund(batchId, _statementsOf[batchId]);
        _note(batchId);
    }

    function deposit(uint32 party, uint256 amount) external {
        party = 1 + party % PARTIES;
        _payIn(party, bound(amount, 1, 3_000));
    }

    /// @dev Whatever of a party's is not reserved, it can withdraw after the delay.
    function withdraw(uint32 party, uint128 amount) external {
        party = 1 + party % PARTIES;
        uint256 free = vault.freeOf(party);
        if (free == 0) return;
        amount = uint128(bound(amount, 1, free));
        vm.prank(_signer(party));
        vault.requestWithdrawal(party, amount);
        vm.warp(block.timestamp + DELAY);
        uint256 before = token.balanceOf(_payout(party));
        vm.prank(_payout(party));
        vault.withdraw(party);
        assertEq(token.balanceOf(_payout(party)) - before, amount, "withdrawn in full");
        paidOut[party] += amount;
    }

    function discharge(uint256 which, uint256 amount) external {
        AgreementKey agreement = agreements[which % agreements.length];
        ISettlementBook.AgreementState memory state = book.agreementState(agreement);
        if (state.owedE4 == 0) return;
        uint256 most = uint64(state.owedE4 > 0 ? state.owedE4 : -state.owedE4);
        int64 amountE4 = int64(uint64(bound(amount, 1, most)));
        if (state.owedE4 < 0) amountE4 = -amountE4;
        bytes32 digest = _dischargeDigest(agreement, state.discharges, amountE4);
        book.discharge(agreement, amountE4, _sign(_key(state.cpo), digest), _sign(_key(state.msp), digest));
        discharged[agreement] += amountE4;
    }

    /// @dev The CPO takes what is overdue, or part of it: never more than is owed.
    function callGuarantee(uint256 which, uint256 amount, uint24 sequence) external {
        AgreementKey agreement = _likely(which, false);
        ISettlementBook.AgreementState memory state = book.agreementState(agreement);
        if (state.mode != ISettlementBook.Mode.GUARANTEE || state.owedE4 <= 0 || state.lastSequence == 0) return;
        vm.warp(block.timestamp + (amount >> 128) % (2 * TERM));
        uint64 amountE4 = uint64(bound(amount, 1, 2 * uint64(state.owedE4)));
        vm.prank(_signer(state.cpo));
        try book.callGuarantee(agreement, 1 + sequence % state.lastSequence, amountE4) {
            called[agreement] += int64(amountE4);
            if (book.agreementState(agreement).owedE4 < 0) calledTooMuch = true;
        } catch {}
    }

    function correct(uint256 which, int256 amount) external {
        AgreementKey agreement = _likely(which, false);
        int64 amountE4 = int64(amount % 300);
        book.correct(agreement, amountE4);
        corrected[agreement] += amountE4;
    }

    function fundCorrection(uint256 which) external {
        try book.fundCorrection(_likely(which, true)) {} catch {}
    }

    /// @dev The silent side of a pair that ripens contests it.
    function challenge(uint256 which, uint256 index) external {
        if (batches.length == 0) return;
        bytes32 batchId = batches[which % batches.length];
        index = _oneOf(book.batch(batchId).ripening, index);
        if (index == 256 || block.timestamp >= book.batch(batchId).dueAt) return;
        uint32 party = silentSide(batchId, index);
        if (vault.freeOf(party) < BOND) return;
        vm.prank(_signer(party));
        book.challenge(_statementsOf[batchId][index], _place(batchId, index));
    }

    function decide(uint256 which, uint256 index, bool isUpheld) external {
        if (batches.length == 0) return;
        bytes32 batchId = batches[which % batches.length];
        index = _oneOf(book.batch(batchId).challenged, index);
        if (index == 256) return;
        AgreementKey agreement = _statementsOf[batchId][index].figures.agreement();
        uint32 party = silentSide(batchId, index);
        book.decideChallenge(_statementsOf[batchId][index], _place(batchId, index), isUpheld);
        if (isUpheld) return;
        bondsWon[party] -= int64(BOND);
        bondsWon[party == agreement.cpo() ? agreement.msp() : agreement.cpo()] += int64(BOND);
    }

    /// @dev By notice, or by both; seldom, so that there is traffic left.
    function end(uint256 which, uint256 dice) external {
        AgreementKey agreement = _likely(which, false);
        ISettlementBook.AgreementState memory state = book.agreementState(agreement);
        if (state.hasEnded || dice % 4 != 0) return;
        if (dice % 8 == 0) {
            bytes32 digest = _endingDigest(agreement);
            book.endAgreement(agreement, _sign(_key(state.cpo), digest), _sign(_key(state.msp), digest));
        } else if (state.endsAt == 0) {
            vm.prank(_signer(dice % 16 < 8 ? state.cpo : state.msp));
            book.giveNotice(agreement);
        } else {
            if (block.timestamp < state.endsAt) vm.warp(state.endsAt);
            book.endAfterNotice(agreement);
        }
    }

    function batchCount() external view returns (uint256) {
        return batches.length;
    }

    /// @dev Of a pair that one side accepted: the number of the other.
    function silentSide(bytes32 batchId, uint256 index) public view returns (uint32) {
        AgreementKey agreement = _statementsOf[batchId][index].figures.agreement();
        return book.batch(batchId).acceptedByCPO.contains(index) ? agreement.msp() : agreement.cpo();
    }

    function agreementCount() external view returns (uint256) {
        return agreements.length;
    }

    function contracts() external view returns (SettlementBook, CollateralVault, EmbeddedCurrency) {
        return (book, vault, token);
    }

    function _payIn(uint32 party, uint256 amount) private {
        _deposit(party, amount);
        paidIn[party] += amount;
    }

    /// @dev Any agreement, but a guarantee as often as all others together; if so asked, one with corrections.
    function _likely(uint256 which, bool isCorrected) private view returns (AgreementKey) {
        uint256 count = agreements.length;
        for (uint256 i = 0; i < count; ++i) {
            AgreementKey agreement = agreements[(which % count + i) % count];
            ISettlementBook.AgreementState memory state = book.agreementState(agreement);
            if ((which >> 128) % 2 == 0 && state.mode != ISettlementBook.Mode.GUARANTEE) continue;
            if (!isCorrected || state.correctedE4 != 0) return agreement;
        }
        return agreements[which % count];
    }

    /// @dev One of these pairs; 256: there is none.
    function _oneOf(PairSet pairs, uint256 from) private pure returns (uint256) {
        for (uint256 i = 0; i < 16; ++i) {
            if (pairs.contains((from % 16 + i) % 16)) return (from % 16 + i) % 16;
        }
        return 256;
    }

    function _place(bytes32 batchId, uint256 index) private view returns (Place memory) {
        bytes32[] memory hashes = _statementHashes(_statementsOf[batchId]);
        return Place(batchId, index, hashes.length, ReferenceTrees.proof(hashes, index));
    }

    /// @dev Acceptances of the parties that `dice` chooses.
    function _words(bytes32 batchId, uint256 dice) private view returns (ISettlementBook.Acceptance[] memory words) {
        uint256 speaking = (dice | (dice >> 200)) % 16;
        uint256 count = 0;
        words = new ISettlementBook.Acceptance[](PARTIES);
        for (uint32 party = 1; party <= PARTIES; ++party) {
            if ((speaking >> (party - 1)) & 1 == 0) continue;
            words[count++] = _acceptance(batchId, _statementsOf[batchId], party, (dice >> 4) | (dice >> 100));
        }
        assembly ("memory-safe") {
            mstore(words, count)
        }
    }

    function _note(bytes32 batchId) private {
        uint256 done = _finalPairs(batchId, _statementsOf[batchId].length);
        uint256 seen = finalSeen[batchId];
        if (done & seen != seen) wentBack = true;
        for (uint256 i = 0; i < _statementsOf[batchId].length; ++i) {
            if ((done & ~seen) >> i & 1 == 0) continue;
            PairStatement storage statement = _statementsOf[batchId][i];
            PairFigures figures = statement.figures;
            timesFinal[statement.figures.agreement()][figures.sequence()] += 1;
            netFinal[statement.figures.agreement()] += figures.netE4();
        }
        finalSeen[batchId] = done;
    }
}

contract InvariantsTest is Settlement {
    Traffic private _traffic;

    function setUp() public override {
        _traffic = new Traffic();
        _traffic.setUp();
        (book, vault, token) = _traffic.contracts();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_traffic);
    }

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    function targetSelectors() public view returns (FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](12);
        selectors[0] = Traffic.propose.selector;
        selectors[1] = Traffic.accept.selector;
        selectors[2] = Traffic.fund.selector;
        selectors[3] = Traffic.deposit.selector;
        selectors[4] = Traffic.withdraw.selector;
        selectors[5] = Traffic.discharge.selector;
        selectors[6] = Traffic.callGuarantee.selector;
        selectors[7] = Traffic.correct.selector;
        selectors[8] = Traffic.fundCorrection.selector;
        selectors[9] = Traffic.challenge.selector;
        selectors[10] = Traffic.decide.selector;
        selectors[11] = Traffic.end.selector;
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(_traffic), selectors);
    }

    /// @dev All invariants of vault and book in one, so that a run of calls is made once.
    function invariant_TheBooksAreRight() public view {
        _isSolvent();
        _nothingIsFinalTwiceOrOutOfTurn();
        _balancesFollowFromFinalStatements();
        _whatIsReservedIsLimitsAndBonds();
        _batchesOnlyGoForward();
        assertFalse(_traffic.calledTooMuch(), "no more was called than owed");
    }

    function _isSolvent() private view {
        uint256 sum = 0;
        for (uint32 party = 1; party <= 4; ++party) {
            sum += vault.balanceOf(party);
        }
        assertEq(sum, vault.totalBalance(), "balances add up");
        assertEq(sum, token.balanceOf(address(vault)), "and the vault holds them");
    }

    function _nothingIsFinalTwiceOrOutOfTurn() private view {
        for (uint256 i = 0; i < _traffic.agreementCount(); ++i) {
            AgreementKey agreement = _traffic.agreements(i);
            uint24 last = book.agreementState(agreement).lastSequence;
            for (uint24 sequence = 1; sequence <= last + 2; ++sequence) {
                assertEq(_traffic.timesFinal(agreement, sequence), sequence <= last ? 1 : 0, "final once, in turn");
                assertTrue(book.isFinal(agreement, sequence) == (sequence <= last), "and the book says so");
            }
        }
    }

    function _balancesFollowFromFinalStatements() private view {
        int256[5] memory expected;
        for (uint32 party = 1; party <= 4; ++party) {
            expected[party] =
                int256(_traffic.paidIn(party)) - int256(_traffic.paidOut(party)) + _traffic.bondsWon(party);
        }
        for (uint256 i = 0; i < _traffic.agreementCount(); ++i) {
            AgreementKey agreement = _traffic.agreements(i);
            ISettlementBook.AgreementState memory state = book.agreementState(agreement);
            int256 net = _traffic.netFinal(agreement) + _traffic.corrected(agreement) - state.correctedE4;
            if (state.mode == ISettlementBook.Mode.PREFUNDED) {
                expected[state.cpo] += net;
                expected[state.msp] -= net;
                assertTrue(state.owedE4 == 0, "nothing is owed beside what was paid");
            } else {
                int256 called = _traffic.called(agreement);
                expected[state.cpo] += called;
                expected[state.msp] -= called;
                int256 paid = _traffic.discharged(agreement) + called;
                assertTrue(state.owedE4 == net - paid, "owed = final and corrected less paid");
                assertTrue(state.owedE4 <= int256(uint256(state.creditLimitE4)), "within the limit");
            }
        }
        for (uint32 party = 1; party <= 4; ++party) {
            assertTrue(int256(vault.balanceOf(party)) == expected[party], "what a party has");
        }
    }

    /// @dev Of a guarantee that ended, as much as is owed or will be, within the limit.
    function _whatIsReservedIsLimitsAndBonds() private view {
        uint256[5] memory expected;
        for (uint256 i = 0; i < _traffic.agreementCount(); ++i) {
            ISettlementBook.AgreementState memory state = book.agreementState(_traffic.agreements(i));
            if (state.mode != ISettlementBook.Mode.GUARANTEE) continue;
            expected[state.msp] += state.creditLimitE4;
            if (!state.hasEnded) continue;
            int64 coming = state.owedE4 + (state.correctedE4 > 0 ? state.correctedE4 : int64(0));
            int64 limit = int64(state.creditLimitE4);
            assertTrue(coming > 0 ? limit <= coming : limit == 0, "nothing stays reserved in vain");
        }
        for (uint256 i = 0; i < _traffic.batchCount(); ++i) {
            bytes32 batchId = _traffic.batches(i);
            PairSet challenged = book.batch(batchId).challenged;
            for (uint256 place = 0; !challenged.isEmpty() && place < 16; ++place) {
                if (challenged.contains(place)) expected[_traffic.silentSide(batchId, place)] += BOND;
            }
        }
        for (uint32 party = 1; party <= 4; ++party) {
            assertEq(vault.reservedBy(address(book), party), expected[party], "limits and bonds");
            assertEq(vault.balanceOf(party) - vault.freeOf(party), expected[party], "what is not free");
        }
    }

    function _batchesOnlyGoForward() private view {
        assertFalse(_traffic.wentBack(), "no final pair went back");
    }
}
