// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleTree} from "../trees/MerkleTree.sol";
import {PairFigures} from "./PairFigures.sol";

/// @notice What a CPO and an MSP state together for one period and one agreement.
/// @param agreement The agreement's id in the book.
/// @param evidenceRoot Root of the evidence tree over the period's CDRs.
/// @param sumRoot Hash of the root of the sum tree over the same CDRs; its sums are the figures' due and credit.
/// @param figures Amounts, number of CDRs, sequence and end of the period.
struct PairStatement {
    bytes32 agreement;
    bytes32 evidenceRoot;
    bytes32 sumRoot;
    PairFigures figures;
}

/// @notice Hashes of statements.
library PairStatements {
    /// @notice EIP-712 type of a statement.
    bytes32 internal constant TYPEHASH =
        keccak256("PairStatement(bytes32 agreement,bytes32 evidenceRoot,bytes32 sumRoot,uint256 figures)");

    /// @notice The EIP-712 struct hash of a statement.
    function hash(PairStatement calldata statement) internal pure returns (bytes32 result) {
        bytes32 typehash = TYPEHASH;
        // The four words of a statement lie in calldata as EIP-712 wants them.
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, typehash)
            calldatacopy(add(free, 0x20), statement, 0x80)
            result := keccak256(free, 0xa0)
        }
    }

    /// @notice What a batch's signatures bind: keccak(Merkle root over the statements' struct hashes || count u256).
    /// @dev The count is in it because a position proved against a root alone may be claimed under another count.
    function hashAll(PairStatement[] calldata statements) internal pure returns (bytes32) {
        bytes32[] memory hashes = new bytes32[](statements.length);
        for (uint256 i = 0; i < statements.length; ++i) {
            hashes[i] = hash(statements[i]);
        }
        return bind(MerkleTree.root(hashes), statements.length);
    }

    /// @notice keccak(root || count u256).
    function bind(bytes32 root, uint256 count) internal pure returns (bytes32) {
        return keccak256(abi.encode(root, count));
    }
}
