// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @notice An ECDSA signature over an EIP-712 digest, in the compact form of EIP-2098.
/// @param r The signature's r.
/// @param vs Its s, with the parity of y in the highest bit.
struct Signature {
    bytes32 r;
    bytes32 vs;
}
