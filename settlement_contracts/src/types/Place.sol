// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice A statement's place in its batch.
/// @param batchId The batch.
/// @param index Its position.
/// @param count Number of statements in the batch.
/// @param siblings Hashes beside its path in the tree over the batch's statement hashes, from the bottom up.
struct Place {
    bytes32 batchId;
    uint256 index;
    uint256 count;
    bytes32[] siblings;
}
