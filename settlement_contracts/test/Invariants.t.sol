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
import {Settlement} from "./base/Settlement.sol";

/// @notice Four parties that propose, accept, fund, pay in and out and discharge in any order. It keeps its own books,
/// from what became final, and compares after each step what may only go forward.
contract Traffic is Settlement {
    uint32 internal constant PARTIES = 4;
    uint256 internal constant MAX_BATCHES = 24;

    AgreementKey[] public agreements;
    bytes32[] public batches;
    mapping(bytes32 batchId => PairStatement[]) private _statementsOf;
    mapping(bytes32 batchId => uint256) public finalSeen;
    mapping(AgreementKey agreement => mapping(uint24 sequence => uint256)) public timesFinal;
    mapping(AgreementKey agreement => int256) public netFinal;
    mapping(AgreementKey agreement => int256) public discharged;
    mapping(uint32 party => uint256) public paidIn;
    mapping(uint32 party => uint256) public paidOut;
    bool public wentBack;

    function setUp() public override {
        super.setUp();
        _registerParties(PARTIES);
        for (uint32 cpo = 1; cpo <= 2; ++cpo) {
            for (uint32 msp = 3; msp <= 4; ++msp) {
                agreements.push(_openPrefunded(cpo, msp));
                agreements.push(_openCreditLine(cpo, msp, 5_000));
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
            if ((chosen >> i) & 1 == 0) continue;
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
        amount = bound(amount, 1, 3_000);
        _deposit(party, amount);
        paidIn[party] += amount;
    }

    /// @dev Whatever a party has, it can withdraw after the delay.
    function withdraw(uint32 party, uint128 amount) external {
        party = 1 + party % PARTIES;
        uint256 balance = vault.balanceOf(party);
        if (balance == 0) return;
        amount = uint128(bound(amount, 1, balance));
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

    function agreementCount() external view returns (uint256) {
        return agreements.length;
    }

    function contracts() external view returns (SettlementBook, CollateralVault, EmbeddedCurrency) {
        return (book, vault, token);
    }

    /// @dev Acceptances of the parties that `dice` chooses.
    function _words(bytes32 batchId, uint256 dice) private view returns (ISettlementBook.Acceptance[] memory words) {
        uint256 speaking = dice % 16;
        uint256 count = 0;
        words = new ISettlementBook.Acceptance[](PARTIES);
        for (uint32 party = 1; party <= PARTIES; ++party) {
            if ((speaking >> (party - 1)) & 1 == 0) continue;
            words[count++] = _acceptance(batchId, _statementsOf[batchId], party, dice >> 4);
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
        bytes4[] memory selectors = new bytes4[](6);
        selectors[0] = Traffic.propose.selector;
        selectors[1] = Traffic.accept.selector;
        selectors[2] = Traffic.fund.selector;
        selectors[3] = Traffic.deposit.selector;
        selectors[4] = Traffic.withdraw.selector;
        selectors[5] = Traffic.discharge.selector;
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(_traffic), selectors);
    }

    /// @dev All invariants of vault and book in one, so that a run of calls is made once.
    function invariant_TheBooksAreRight() public view {
        _isSolvent();
        _nothingIsFinalTwiceOrOutOfTurn();
        _balancesFollowFromFinalStatements();
        _batchesOnlyGoForward();
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
            expected[party] = int256(_traffic.paidIn(party)) - int256(_traffic.paidOut(party));
        }
        for (uint256 i = 0; i < _traffic.agreementCount(); ++i) {
            AgreementKey agreement = _traffic.agreements(i);
            ISettlementBook.AgreementState memory state = book.agreementState(agreement);
            int256 net = _traffic.netFinal(agreement);
            if (state.mode == ISettlementBook.Mode.PREFUNDED) {
                expected[state.cpo] += net;
                expected[state.msp] -= net;
                assertTrue(state.owedE4 == 0, "nothing is owed beside what was paid");
            } else {
                assertTrue(state.owedE4 == net - _traffic.discharged(agreement), "owed = final less discharged");
                assertTrue(state.owedE4 <= int256(uint256(state.creditLimitE4)), "within the limit");
            }
        }
        for (uint32 party = 1; party <= 4; ++party) {
            assertTrue(int256(vault.balanceOf(party)) == expected[party], "what a party has");
        }
    }

    function _batchesOnlyGoForward() private view {
        assertFalse(_traffic.wentBack(), "no final pair went back");
    }
}
