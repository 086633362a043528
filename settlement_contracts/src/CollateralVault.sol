// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {SafeERC20} from "@openzeppelin/contracts/token/ERC20/utils/SafeERC20.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {ICollateralVault} from "./interfaces/ICollateralVault.sol";
import {IPartyRegistry} from "./interfaces/IPartyRegistry.sol";
import {PairSet} from "./types/PairSet.sol";
import {Transfer} from "./types/Transfer.sol";

/// @notice See {ICollateralVault}.
contract CollateralVault is ICollateralVault, AccessControl, ReentrancyGuardTransient {
    using SafeCast for uint256;
    using SafeERC20 for IERC20;

    /// @notice Who moves and reserves balances.
    bytes32 public constant BOOK_ROLE = keccak256("BOOK_ROLE");
    /// @notice Shortest delay of withdrawals: partners must be able to see one coming.
    uint64 public constant MIN_DELAY = 1 hours;
    /// @notice Longest delay of withdrawals: a deployer can't lock money away.
    uint64 public constant MAX_DELAY = 30 days;
    /// @notice How long an announced withdrawal can be carried out; without an end, one announcement would do for ever.
    uint64 public constant WITHDRAWAL_WINDOW = 7 days;

    /// @inheritdoc ICollateralVault
    IERC20 public immutable token;
    /// @inheritdoc ICollateralVault
    IPartyRegistry public immutable registry;
    /// @inheritdoc ICollateralVault
    uint256 public immutable unitsPerE4;
    /// @inheritdoc ICollateralVault
    uint64 public immutable delay;

    /// @inheritdoc ICollateralVault
    uint256 public totalBalance;
    /// @dev A party's collateral in one word, in the token's smallest unit: what is reserved in the upper half, what is
    /// free in the lower. Neither half runs over, because all collateral together fits 128 bits.
    mapping(uint32 party => uint256) private _accounts;
    mapping(address book => mapping(uint32 party => uint256)) private _reservedBy;
    mapping(uint32 party => Withdrawal) private _withdrawals;

    constructor(IERC20Metadata token_, IPartyRegistry registry_, uint64 delay_, address admin) {
        uint8 decimals = token_.decimals();
        if (decimals < 4 || decimals > 18) revert CollateralVaultUnsuitableToken(decimals);
        if (delay_ < MIN_DELAY || delay_ > MAX_DELAY) revert CollateralVaultUnsuitableDelay(delay_);
        token = token_;
        registry = registry_;
        unitsPerE4 = 10 ** (decimals - 4);
        delay = delay_;
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    /// @inheritdoc ICollateralVault
    function deposit(uint32 party, uint256 amount) external nonReentrant {
        // slither-disable-next-line unused-return (it reverts where there is no such party)
        registry.signerOf(party);
        uint256 before = token.balanceOf(address(this));
        token.safeTransferFrom(msg.sender, address(this), amount);
        uint256 held = token.balanceOf(address(this));
        if (held <= before) revert CollateralVaultZeroAmount();
        uint256 arrived = held - before;
        totalBalance = (totalBalance + arrived).toUint128();
        _accounts[party] += arrived;
        emit Deposited(party, msg.sender, arrived);
    }

    /// @inheritdoc ICollateralVault
    function requestWithdrawal(uint32 party, uint128 amount) external {
        _requireParty(party);
        if (amount == 0) revert CollateralVaultZeroAmount();
        uint256 free = freeOf(party);
        if (amount > free) revert CollateralVaultShort(party, amount, free);
        uint64 availableAt = uint64(block.timestamp) + delay;
        _withdrawals[party] = Withdrawal({amount: amount, availableAt: availableAt});
        emit WithdrawalRequested(party, amount, availableAt);
    }

    /// @inheritdoc ICollateralVault
    function withdraw(uint32 party) external nonReentrant {
        address payout = _requireParty(party);
        Withdrawal memory withdrawal = _withdrawals[party];
        uint64 availableAt = withdrawal.availableAt;
        if (availableAt == 0 || block.timestamp < availableAt || block.timestamp > availableAt + WITHDRAWAL_WINDOW) {
            revert CollateralVaultNotWithdrawable(party, availableAt);
        }
        uint256 free = freeOf(party);
        uint256 amount = withdrawal.amount < free ? withdrawal.amount : free;
        delete _withdrawals[party];
        _accounts[party] -= amount;
        totalBalance -= amount;
        emit Withdrawn(party, payout, amount);
        token.safeTransfer(payout, amount);
    }

    // BOOKS

    /// @inheritdoc ICollateralVault
    function applyTransfers(Transfer[] calldata transfers) external onlyRole(BOOK_ROLE) returns (PairSet paid) {
        // A book sorts its pairs by payee, as a rule: that account is written when the next one's turn comes.
        uint32 payee = 0;
        uint256 account = 0;
        for (uint256 i = 0; i < transfers.length; ++i) {
            Transfer transfer = transfers[i];
            if (transfer.payee() != payee) {
                if (i != 0) _accounts[payee] = account;
                payee = transfer.payee();
                account = _accounts[payee];
            }
            uint32 payer = transfer.payer();
            uint256 amount = transfer.amountE4() * unitsPerE4;
            uint256 paying = payer == payee ? account : _accounts[payer];
            if (amount > uint128(paying)) continue;
            paid = paid.with(i);
            if (payer == payee) continue;
            unchecked {
                _accounts[payer] = paying - amount;
                account += amount;
            }
        }
        if (transfers.length != 0) _accounts[payee] = account;
    }

    /// @inheritdoc ICollateralVault
    function applyNets(uint32[] calldata parties, int64[] calldata netsE4) external onlyRole(BOOK_ROLE) {
        if (parties.length != netsE4.length) revert CollateralVaultUnequalLengths(parties.length, netsE4.length);
        int256 sumE4 = 0;
        for (uint256 i = 0; i < parties.length; ++i) {
            int256 netE4 = netsE4[i];
            sumE4 += netE4;
            if (netE4 < 0) _take(parties[i], uint256(-netE4) * unitsPerE4);
            else _accounts[parties[i]] += uint256(netE4) * unitsPerE4;
        }
        if (sumE4 != 0) revert CollateralVaultNotZeroSum(sumE4);
    }

    /// @inheritdoc ICollateralVault
    function reserve(uint32 party, uint64 amountE4) external onlyRole(BOOK_ROLE) {
        uint256 amount = amountE4 * unitsPerE4;
        _take(party, amount);
        _accounts[party] += amount << 128;
        _reservedBy[msg.sender][party] += amount;
        emit CollateralReserved(party, msg.sender, amount);
    }

    /// @inheritdoc ICollateralVault
    function release(uint32 party, uint64 amountE4) external onlyRole(BOOK_ROLE) {
        uint256 amount = amountE4 * unitsPerE4;
        _takeReserved(party, amount);
        _accounts[party] += amount;
        emit CollateralReleased(party, msg.sender, amount);
    }

    /// @inheritdoc ICollateralVault
    function takeReserved(uint32 from, uint32 to, uint64 amountE4) external onlyRole(BOOK_ROLE) {
        uint256 amount = amountE4 * unitsPerE4;
        _takeReserved(from, amount);
        _accounts[to] += amount;
        emit ReservedCollateralTaken(from, to, msg.sender, amount);
    }

    // VIEWS

    /// @inheritdoc ICollateralVault
    function balanceOf(uint32 party) external view returns (uint256) {
        return freeOf(party) + (_accounts[party] >> 128);
    }

    /// @inheritdoc ICollateralVault
    function freeOf(uint32 party) public view returns (uint256) {
        return uint128(_accounts[party]);
    }

    /// @inheritdoc ICollateralVault
    function reservedBy(address book, uint32 party) external view returns (uint256) {
        return _reservedBy[book][party];
    }

    /// @inheritdoc ICollateralVault
    function withdrawalOf(uint32 party) external view returns (Withdrawal memory) {
        return _withdrawals[party];
    }

    function _requireParty(uint32 party) private view returns (address payout) {
        IPartyRegistry.Party memory entry = registry.party(party);
        payout = entry.payout;
        if (msg.sender != payout && msg.sender != entry.signer) revert CollateralVaultNotParty(party, msg.sender);
    }

    function _take(uint32 party, uint256 amount) private {
        uint256 free = freeOf(party);
        if (amount > free) revert CollateralVaultShort(party, amount, free);
        _accounts[party] -= amount;
    }

    function _takeReserved(uint32 party, uint256 amount) private {
        uint256 reserved = _reservedBy[msg.sender][party];
        if (amount > reserved) revert CollateralVaultNotReserved(party, amount, reserved);
        _reservedBy[msg.sender][party] = reserved - amount;
        _accounts[party] -= amount << 128;
    }
}
