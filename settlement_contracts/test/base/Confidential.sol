// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ConfidentialBook} from "../../src/ConfidentialBook.sol";
import {IConfidentialBook} from "../../src/interfaces/IConfidentialBook.sol";
import {SealedStatement} from "../../src/types/SealedStatement.sol";
import {ReferenceTrees} from "./ReferenceTrees.sol";
import {Settlement} from "./Settlement.sol";

/// @notice A confidential book in place. Hashes and digests are built here by hand, as in {Settlement}.
abstract contract Confidential is Settlement {
    ConfidentialBook internal hidden;

    function setUp() public virtual override {
        super.setUp();
        hidden = new ConfidentialBook(EUR, registry, vault, address(this));
        vault.grantRole(vault.BOOK_ROLE(), address(hidden));
        hidden.grantRole(hidden.PROPOSER_ROLE(), address(this));
        hidden.grantRole(hidden.PAUSER_ROLE(), address(this));
        hidden.grantRole(hidden.RESOLVER_ROLE(), address(this));
    }

    function _sealed(uint32 cpo, uint32 msp, uint32 sequence) internal pure returns (SealedStatement memory) {
        return SealedStatement({
            agreement: keccak256(abi.encode("agreement", cpo, msp)),
            cpo: cpo,
            msp: msp,
            count: 100,
            sequence: sequence,
            periodEnd: uint40(NOW),
            evidenceRoot: keccak256(abi.encode("evidence", cpo, msp, sequence)),
            amounts: keccak256(
                abi.encodePacked(uint8(0x05), bytes32("salt"), bytes32("sums"), uint64(700), uint64(200))
            )
        });
    }

    function _structHash(SealedStatement memory statement) internal pure returns (bytes32) {
        bytes32 typehash = keccak256(
            "SealedStatement(bytes32 agreement,uint32 cpo,uint32 msp,uint32 count,uint32 sequence,uint40 periodEnd,bytes32 evidenceRoot,bytes32 amounts)"
        );
        return keccak256(abi.encode(typehash, statement));
    }

    function _posted(SealedStatement memory statement, bytes32 salt) internal pure returns (bytes32) {
        return keccak256(abi.encodePacked(uint8(0x06), salt, _structHash(statement)));
    }

    function _opening(SealedStatement memory statement, bytes32 salt)
        internal
        view
        returns (IConfidentialBook.Opening memory)
    {
        bytes32 digest = _digest(address(hidden), "ConfidentialBook", _structHash(statement));
        return IConfidentialBook.Opening(salt, _sign(_key(statement.cpo), digest), _sign(_key(statement.msp), digest));
    }

    function _noise(uint256 count) internal pure returns (bytes32[] memory hashes) {
        hashes = new bytes32[](count);
        for (uint256 i = 0; i < count; ++i) {
            hashes[i] = keccak256(abi.encode("noise", i));
        }
    }

    function _hashesHash(bytes32[] memory hashes) internal pure returns (bytes32) {
        return keccak256(abi.encode(ReferenceTrees.root(hashes), hashes.length));
    }

    function _netDigest(bytes32 batchId, bytes32[] memory hashes, uint32 party, int64 netE4, uint64 nonce)
        internal
        view
        returns (bytes32)
    {
        bytes32 typehash =
            keccak256("NetAcceptance(bytes32 batchId,bytes32 hashesHash,uint32 party,int64 netE4,uint64 nonce)");
        bytes32 structHash = keccak256(abi.encode(typehash, batchId, _hashesHash(hashes), party, netE4, nonce));
        return _digest(address(hidden), "ConfidentialBook", structHash);
    }

    /// @dev Parties 1, 2 and so on, each with its net, signed under its present nonce.
    function _signedNets(bytes32 batchId, bytes32[] memory hashes, int64[] memory netsE4)
        internal
        view
        returns (IConfidentialBook.PartyNet[] memory nets)
    {
        nets = new IConfidentialBook.PartyNet[](netsE4.length);
        for (uint32 i = 0; i < netsE4.length; ++i) {
            bytes32 digest = _netDigest(batchId, hashes, i + 1, netsE4[i], hidden.nonceOf(i + 1));
            nets[i] = IConfidentialBook.PartyNet(i + 1, netsE4[i], _sign(_key(i + 1), digest));
        }
    }

    function _three(int64 a, int64 b, int64 c) internal pure returns (int64[] memory netsE4) {
        netsE4 = new int64[](3);
        (netsE4[0], netsE4[1], netsE4[2]) = (a, b, c);
    }

    function _signerWord(uint32 party) internal pure returns (uint256) {
        return (uint256(party) << 160) | uint160(_signer(party));
    }
}
