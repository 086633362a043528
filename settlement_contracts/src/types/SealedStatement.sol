// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice What a CPO and an MSP state together for one period, with its amounts sealed: whoever is shown it learns
/// whose statement it is and can prove a CDR in it, and learns no amount. Both sign it off chain.
/// @param agreement Hash of the agreement that the two signed off chain.
/// @param cpo Party number of the CPO.
/// @param msp Party number of the MSP.
/// @param count Number of CDRs.
/// @param sequence Place among the agreement's statements, from 1.
/// @param periodEnd End of the period, excluded, in unix seconds.
/// @param evidenceRoot Root of the evidence tree over the period's CDRs.
/// @param amounts See {SealedStatements-sealAmounts}.
struct SealedStatement {
    bytes32 agreement;
    uint32 cpo;
    uint32 msp;
    uint32 count;
    uint32 sequence;
    uint40 periodEnd;
    bytes32 evidenceRoot;
    bytes32 amounts;
}

/// @notice Hashes of sealed statements.
library SealedStatements {
    /// @notice EIP-712 type of a sealed statement.
    bytes32 internal constant TYPEHASH = keccak256(
        "SealedStatement(bytes32 agreement,uint32 cpo,uint32 msp,uint32 count,uint32 sequence,uint40 periodEnd,bytes32 evidenceRoot,bytes32 amounts)"
    );

    /// @notice The EIP-712 struct hash of a sealed statement.
    function hash(SealedStatement calldata statement) internal pure returns (bytes32) {
        return keccak256(abi.encode(TYPEHASH, statement));
    }

    /// @notice What a batch posts for a statement: keccak(0x06 || salt || struct hash).
    function salted(bytes32 structHash, bytes32 salt) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(uint8(0x06), salt, structHash));
    }

    /// @notice What stands for a statement's amounts: keccak(0x05 || salt || sum root || dueE4 u64 || creditE4 u64).
    /// @dev The salt is another one than that of the posted hash, which goes round with receipts.
    function sealAmounts(bytes32 salt, bytes32 sumRoot, uint64 dueE4, uint64 creditE4) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(uint8(0x05), salt, sumRoot, dueE4, creditE4));
    }
}
