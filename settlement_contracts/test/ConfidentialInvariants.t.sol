// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CollateralVault} from "../src/CollateralVault.sol";
import {ConfidentialBook} from "../src/ConfidentialBook.sol";
import {EmbeddedCurrency} from "../src/EmbeddedCurrency.sol";
import {IConfidentialBook} from "../src/interfaces/IConfidentialBook.sol";
import {Confidential} from "./base/Confidential.sol";

/// @notice Four parties that post batches, good and bad, pay in and take out, in any order.
contract HiddenTraffic is Confidential {
    uint32 internal constant PARTIES = 4;

    mapping(uint32 party => int256) public expected;
    mapping(uint32 party => uint64) public spoken;
    uint256 public posted;
    bool public wentBack;

    function setUp() public override {
        super.setUp();
        _registerParties(PARTIES);
    }

    /// @dev Whatever the nets are: the book takes what is right and covered and nothing else.
    function settle(int64 a, int64 b, int64 c, int64 off) external {
        int64[] memory netsE4 = new int64[](PARTIES);
        (netsE4[0], netsE4[1], netsE4[2]) = (a % 2_000, b % 2_000, c % 2_000);
        off = off % 4 == 0 ? off % 3 : int64(0);
        netsE4[3] = off - netsE4[0] - netsE4[1] - netsE4[2];
        bytes32[] memory hashes = _noise(2);
        bytes32 batchId = keccak256(abi.encode(posted));
        bool right = off == 0;
        for (uint32 i = 0; i < PARTIES; ++i) {
            right = right && int256(vault.balanceOf(i + 1)) + netsE4[i] >= 0;
        }
        try hidden.settle(batchId, hashes, _signedNets(batchId, hashes, netsE4)) {
            assertTrue(right, "only what is right");
            ++posted;
            for (uint32 i = 0; i < PARTIES; ++i) {
                expected[i + 1] += netsE4[i];
                ++spoken[i + 1];
            }
        } catch {
            assertFalse(right, "all that is right");
        }
    }

    /// @dev What was settled comes again, under its own id and under another.
    function repeat(uint64 which) external {
        if (posted == 0) return;
        bytes32[] memory hashes = _noise(2);
        bytes32 batchId = keccak256(abi.encode(which % posted));
        IConfidentialBook.PartyNet[] memory nets = _signedNets(batchId, hashes, new int64[](PARTIES));
        try hidden.settle(batchId, hashes, nets) {
            wentBack = true;
        } catch {}
        try hidden.settle(keccak256("other"), hashes, nets) {
            wentBack = true;
        } catch {}
    }

    function correct(uint32 from, uint64 amountE4) external {
        from = 1 + from % PARTIES;
        uint32 to = 1 + from % PARTIES;
        amountE4 = uint64(bound(amountE4, 0, vault.balanceOf(from)));
        hidden.correct(from, to, amountE4);
        expected[from] -= int256(uint256(amountE4));
        expected[to] += int256(uint256(amountE4));
    }

    function deposit(uint32 party, uint256 amount) external {
        party = 1 + party % PARTIES;
        amount = bound(amount, 1, 3_000);
        _deposit(party, amount);
        expected[party] += int256(amount);
    }

    function withdraw(uint32 party, uint128 amount) external {
        party = 1 + party % PARTIES;
        uint256 balance = vault.balanceOf(party);
        if (balance == 0) return;
        amount = uint128(bound(amount, 1, balance));
        vm.prank(_signer(party));
        vault.requestWithdrawal(party, amount);
        vm.warp(block.timestamp + DELAY);
        vm.prank(_payout(party));
        vault.withdraw(party);
        expected[party] -= int256(uint256(amount));
    }

    function contracts() external view returns (ConfidentialBook, CollateralVault, EmbeddedCurrency) {
        return (hidden, vault, token);
    }
}

contract ConfidentialInvariantsTest is Confidential {
    HiddenTraffic private _traffic;

    struct FuzzSelector {
        address addr;
        bytes4[] selectors;
    }

    function setUp() public override {
        _traffic = new HiddenTraffic();
        _traffic.setUp();
        (hidden, vault, token) = _traffic.contracts();
    }

    function targetContracts() public view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_traffic);
    }

    function targetSelectors() public view returns (FuzzSelector[] memory targets) {
        bytes4[] memory selectors = new bytes4[](5);
        selectors[0] = HiddenTraffic.settle.selector;
        selectors[1] = HiddenTraffic.repeat.selector;
        selectors[2] = HiddenTraffic.correct.selector;
        selectors[3] = HiddenTraffic.deposit.selector;
        selectors[4] = HiddenTraffic.withdraw.selector;
        targets = new FuzzSelector[](1);
        targets[0] = FuzzSelector(address(_traffic), selectors);
    }

    /// @dev Solvent, zero sum, each signature once, forward only.
    /// forge-config: default.invariant.depth = 64
    function invariant_TheHiddenBookIsRight() public view {
        uint256 sum = 0;
        for (uint32 party = 1; party <= 4; ++party) {
            sum += vault.balanceOf(party);
            assertTrue(int256(vault.balanceOf(party)) == _traffic.expected(party), "what a party has");
            assertEq(hidden.nonceOf(party), _traffic.spoken(party), "each signature counted once");
        }
        assertEq(sum, vault.totalBalance(), "balances add up");
        assertEq(sum, token.balanceOf(address(vault)), "and the vault holds them");
        assertFalse(_traffic.wentBack(), "nothing counts twice");
        for (uint256 i = 0; i < _traffic.posted(); ++i) {
            assertTrue(hidden.batch(keccak256(abi.encode(i))) != 0, "a batch stays");
        }
    }
}
