// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {MerkleTree} from "../trees/MerkleTree.sol";
import {PairFigures} from "./PairFigures.sol";

/// @notice What a CPO and an MSP state together for one period and one agreement.
/// @param figures Agreement, amounts, number of CDRs, sequence and end of the period.
/// @param roots keccak(evidence root || hash of the sum root); see {StatementRoots}.
struct PairStatement {
    PairFigures figures;
    bytes32 roots;
}

/// @notice What a statement's `roots` stands for; a proof brings both.
/// @param evidence Root of the evidence tree over the period's CDRs.
/// @param sums Hash of the root of the sum tree over the same CDRs; its sums are the figures' due and credit.
struct StatementRoots {
    bytes32 evidence;
    bytes32 sums;
}

/// @notice Hashes of statements.
library PairStatements {
    /// @notice EIP-712 type of a statement.
    bytes32 internal constant TYPEHASH = keccak256("PairStatement(uint256 figures,bytes32 roots)");

    /// @notice The EIP-712 struct hash of a statement.
    function hash(PairStatement calldata statement) internal pure returns (bytes32 result) {
        bytes32 typehash = TYPEHASH;
        // The two words of a statement lie in calldata as EIP-712 wants them; three words fit the scratch space and the
        // free memory pointer, which is put back.
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(0x00, typehash)
            calldatacopy(0x20, statement, 0x40)
            result := keccak256(0x00, 0x60)
            mstore(0x40, free)
        }
    }

    /// @notice Whether these are the statement's roots.
    function areRoots(PairStatement calldata statement, StatementRoots calldata roots) internal pure returns (bool) {
        return keccak256(abi.encode(roots)) == statement.roots;
    }

    /// @notice The figures of the statement at `index`, which must be below the number of statements.
    function figuresAt(PairStatement[] calldata statements, uint256 index) internal pure returns (PairFigures figures) {
        assembly ("memory-safe") {
            figures := calldataload(add(statements.offset, shl(6, index)))
        }
    }

    /// @notice What a batch's signatures bind: keccak(Merkle root over the statements' struct hashes || count u256).
    /// @dev The count is in it because a position proved against a root alone may be claimed under another count.
    function hashAll(PairStatement[] calldata statements) internal pure returns (bytes32) {
        bytes32[] memory hashes = new bytes32[](statements.length);
        bytes32 typehash = TYPEHASH;
        // As in `hash`, one after the other.
        assembly ("memory-safe") {
            let free := mload(0x40)
            let statement := statements.offset
            let end := add(add(hashes, 0x20), shl(5, statements.length))
            mstore(0x00, typehash)
            for { let place := add(hashes, 0x20) } lt(place, end) { place := add(place, 0x20) } {
                calldatacopy(0x20, statement, 0x40)
                mstore(place, keccak256(0x00, 0x60))
                statement := add(statement, 0x40)
            }
            mstore(0x40, free)
        }
        return bind(MerkleTree.root(hashes), statements.length);
    }

    /// @notice keccak(root || count u256).
    function bind(bytes32 root, uint256 count) internal pure returns (bytes32) {
        return keccak256(abi.encode(root, count));
    }
}
