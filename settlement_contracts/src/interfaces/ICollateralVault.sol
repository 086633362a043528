// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";
import {IPartyRegistry} from "./IPartyRegistry.sol";
import {PairSet} from "../types/PairSet.sol";
import {Transfer} from "../types/Transfer.sol";

/// @title Collateral of one currency
/// @notice Holds one ERC-20 token, a balance per party: what is free, which pays and can be withdrawn, and what books
/// reserved as a guarantee or bond. Settlement moves balances between parties; only the party takes money out, after a
/// delay, and nobody can stop that.
/// Warning: whoever holds BOOK_ROLE can move balances, and whoever holds DEFAULT_ADMIN_ROLE can grant it. Give the admin
/// role to a timelock, or renounce it when the book is in place.
/// Warning: a token that changes balances by itself (rebasing) breaks solvency; one that takes a fee on transfers is
/// credited with what arrived.
interface ICollateralVault {
    /// @notice A wish to withdraw.
    /// @param amount In the token's smallest unit.
    /// @param availableAt From when it can be carried out (unix seconds), for `WITHDRAWAL_WINDOW`.
    struct Withdrawal {
        uint128 amount;
        uint64 availableAt;
    }

    /// @notice Collateral came in.
    /// @param amount What arrived, in the token's smallest unit.
    event Deposited(uint32 indexed party, address indexed from, uint256 amount);

    /// @notice A party asked for collateral back.
    event WithdrawalRequested(uint32 indexed party, uint256 amount, uint64 availableAt);

    /// @notice Collateral went out.
    event Withdrawn(uint32 indexed party, address indexed to, uint256 amount);

    /// @notice Free collateral was set aside for what `book` guards.
    event CollateralReserved(uint32 indexed party, address indexed book, uint256 amount);

    /// @notice What was reserved is free again.
    event CollateralReleased(uint32 indexed party, address indexed book, uint256 amount);

    /// @notice What `from` had reserved went to `to`, where it is free.
    event ReservedCollateralTaken(uint32 indexed from, uint32 indexed to, address indexed book, uint256 amount);

    /// @notice The token has fewer than four or more than 18 decimals.
    error CollateralVaultUnsuitableToken(uint8 decimals);

    /// @notice The delay must lie between `MIN_DELAY` and `MAX_DELAY`, in seconds.
    error CollateralVaultUnsuitableDelay(uint64 delay);

    /// @notice Nothing arrived, or nothing was asked for.
    error CollateralVaultZeroAmount();

    /// @notice Only the party's signer or payout address may do this.
    error CollateralVaultNotParty(uint32 party, address caller);

    /// @notice More was asked for than the party has free, in the token's smallest unit.
    error CollateralVaultShort(uint32 party, uint256 asked, uint256 free);

    /// @notice More was asked for than the calling book has reserved of the party's, in the token's smallest unit.
    error CollateralVaultNotReserved(uint32 party, uint256 asked, uint256 reserved);

    /// @notice There are not as many parties as nets.
    error CollateralVaultUnequalLengths(uint256 parties, uint256 nets);

    /// @notice Nets must add up to zero, in ten-thousandths of the currency unit.
    error CollateralVaultNotZeroSum(int256 sumE4);

    /// @notice No withdrawal is open, it is too early, or its window is over.
    error CollateralVaultNotWithdrawable(uint32 party, uint64 availableAt);

    /// @notice Credits `party` with what arrives of `amount` from the caller, who must have approved it.
    /// @param amount In the token's smallest unit.
    function deposit(uint32 party, uint256 amount) external;

    /// @notice Announces a withdrawal of free collateral, by the party's signer or payout address. It replaces an earlier one.
    /// The amount stays cover until it is withdrawn, so that nobody dodges a statement by asking.
    function requestWithdrawal(uint32 party, uint128 amount) external;

    /// @notice Pays the announced amount, or what of it is still free, to the party's payout address.
    function withdraw(uint32 party) external;

    /// @notice Makes payments, each if its payer has cover when its turn comes. Only for BOOK_ROLE.
    /// Emits nothing: balances follow from deposits, withdrawals and the pairs that the book made final.
    /// @param transfers At most 256.
    /// @return paid Positions of those that were made.
    function applyTransfers(Transfer[] calldata transfers) external returns (PairSet paid);

    /// @notice Adds each net to a party's free balance, all or none. Only for BOOK_ROLE. Emits nothing, like
    /// `applyTransfers`.
    /// @param netsE4 In ten-thousandths of the currency unit; below zero the party pays. They add up to zero.
    function applyNets(uint32[] calldata parties, int64[] calldata netsE4) external;

    /// @notice Sets free collateral aside, where only the calling book gets at it. Only for BOOK_ROLE.
    function reserve(uint32 party, uint64 amountE4) external;

    /// @notice Gives back what the calling book reserved. Only for BOOK_ROLE.
    function release(uint32 party, uint64 amountE4) external;

    /// @notice Pays `to` out of what the calling book reserved of `from`'s. Only for BOOK_ROLE.
    function takeReserved(uint32 from, uint32 to, uint64 amountE4) external;

    /// @notice A party's collateral, free and reserved, in the token's smallest unit.
    function balanceOf(uint32 party) external view returns (uint256);

    /// @notice What of it pays statements and can be withdrawn, in the token's smallest unit.
    function freeOf(uint32 party) external view returns (uint256);

    /// @notice What `book` has reserved of a party's, in the token's smallest unit.
    function reservedBy(address book, uint32 party) external view returns (uint256);

    /// @notice Sum of all balances, in the token's smallest unit; never above what the vault holds.
    function totalBalance() external view returns (uint256);

    /// @notice A party's open withdrawal.
    function withdrawalOf(uint32 party) external view returns (Withdrawal memory);

    /// @notice The token that is held.
    function token() external view returns (IERC20);

    /// @notice Where parties are registered.
    function registry() external view returns (IPartyRegistry);

    /// @notice Smallest units of the token in a ten-thousandth of the currency unit.
    function unitsPerE4() external view returns (uint256);

    /// @notice Seconds between a request and its withdrawal.
    function delay() external view returns (uint64);
}
