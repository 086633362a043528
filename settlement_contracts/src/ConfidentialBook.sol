// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {ReentrancyGuardTransient} from "@openzeppelin/contracts/utils/ReentrancyGuardTransient.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {ICollateralVault} from "./interfaces/ICollateralVault.sol";
import {IConfidentialBook} from "./interfaces/IConfidentialBook.sol";
import {IPartyRegistry} from "./interfaces/IPartyRegistry.sol";
import {MerkleTree} from "./trees/MerkleTree.sol";
import {PairStatements} from "./types/PairStatement.sol";
import {SealedStatement, SealedStatements} from "./types/SealedStatement.sol";
import {Signature} from "./types/Signature.sol";

/// @notice See {IConfidentialBook}.
contract ConfidentialBook is IConfidentialBook, AccessControl, Pausable, ReentrancyGuardTransient, EIP712 {
    /// @notice Who posts batches.
    bytes32 public constant PROPOSER_ROLE = keccak256("PROPOSER_ROLE");
    /// @notice Who stops and allows batches.
    bytes32 public constant PAUSER_ROLE = keccak256("PAUSER_ROLE");
    /// @notice Whose verdicts are carried out.
    bytes32 public constant RESOLVER_ROLE = keccak256("RESOLVER_ROLE");
    /// @notice Most hashes in a batch.
    uint256 public constant MAX_HASHES = 256;

    bytes32 private constant ACCEPTANCE_TYPEHASH =
        keccak256("NetAcceptance(bytes32 batchId,bytes32 hashesHash,uint32 party,int64 netE4,uint64 nonce)");

    /// @inheritdoc IConfidentialBook
    bytes3 public immutable currency;
    /// @inheritdoc IConfidentialBook
    IPartyRegistry public immutable registry;
    /// @inheritdoc IConfidentialBook
    ICollateralVault public immutable vault;

    /// @inheritdoc IConfidentialBook
    mapping(bytes32 batchId => bytes32) public batch;
    /// @dev Four parties' nonces to a word: neighbours' signatures come together, and a word costs once.
    mapping(uint32 four => uint256) private _nonces;

    constructor(bytes3 currency_, IPartyRegistry registry_, ICollateralVault vault_, address admin)
        EIP712("ConfidentialBook", "1")
    {
        currency = currency_;
        registry = registry_;
        vault = vault_;
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    /// @inheritdoc IConfidentialBook
    function settle(bytes32 batchId, bytes32[] calldata hashes, PartyNet[] calldata nets)
        external
        onlyRole(PROPOSER_ROLE)
        whenNotPaused
        nonReentrant
    {
        if (batch[batchId] != 0) revert ConfidentialBookBatchExists(batchId);
        uint256 count = hashes.length;
        if (count < 2 || count > MAX_HASHES || count & (count - 1) != 0) revert ConfidentialBookUnsuitableCount(count);
        bytes32 hashesHash = PairStatements.bind(MerkleTree.root(hashes), count);
        uint256[] memory signers = _hear(batchId, hashesHash, nets);
        batch[batchId] = keccak256(abi.encode(hashesHash, keccak256(abi.encodePacked(signers))));
        emit BatchSettled(batchId, hashesHash, count);
        _pay(nets);
    }

    /// @inheritdoc IConfidentialBook
    function correct(uint32 from, uint32 to, uint64 amountE4) external onlyRole(RESOLVER_ROLE) nonReentrant {
        uint32[] memory parties = new uint32[](2);
        int64[] memory netsE4 = new int64[](2);
        (parties[0], parties[1]) = (from, to);
        int64 netE4 = SafeCast.toInt64(int256(uint256(amountE4)));
        (netsE4[0], netsE4[1]) = (-netE4, netE4);
        emit Corrected(from, to, amountE4);
        vault.applyNets(parties, netsE4);
    }

    /// @inheritdoc IConfidentialBook
    function pause() external onlyRole(PAUSER_ROLE) {
        _pause();
    }

    /// @inheritdoc IConfidentialBook
    function unpause() external onlyRole(PAUSER_ROLE) {
        _unpause();
    }

    // VIEWS

    /// @inheritdoc IConfidentialBook
    function isStatementFinal(SealedStatement calldata statement, Opening calldata opening, Place calldata place)
        external
        view
        returns (bool)
    {
        bytes32 structHash = SealedStatements.hash(statement);
        (bool shaped, bytes32 root) = MerkleTree.climb(
            SealedStatements.salted(structHash, opening.salt), place.index, place.count, place.siblings
        );
        bytes32 bound =
            keccak256(abi.encode(PairStatements.bind(root, place.count), keccak256(abi.encodePacked(place.signers))));
        if (!shaped || bound != batch[place.batchId]) return false;
        bytes32 digest = _hashTypedDataV4(structHash);
        return _signed(place.signers, statement.cpo, digest, opening.byCPO)
            && _signed(place.signers, statement.msp, digest, opening.byMSP);
    }

    /// @inheritdoc IConfidentialBook
    function areAmounts(
        SealedStatement calldata statement,
        bytes32 salt,
        bytes32 sumRoot,
        uint64 dueE4,
        uint64 creditE4
    ) external pure returns (bool) {
        return statement.amounts == SealedStatements.sealAmounts(salt, sumRoot, dueE4, creditE4);
    }

    /// @inheritdoc IConfidentialBook
    function nonceOf(uint32 party) public view returns (uint64) {
        return uint64(_nonces[party / 4] >> (party % 4 * 64));
    }

    // HOW A BATCH IS CHECKED

    /// @dev Requires each party's signature over its net, and uses its nonce up. Returns who signed for whom.
    function _hear(bytes32 batchId, bytes32 hashesHash, PartyNet[] calldata nets)
        private
        returns (uint256[] memory signers)
    {
        if (nets.length < 2) revert ConfidentialBookPartiesNotAscending(nets.length);
        signers = new uint256[](nets.length);
        uint32 last = 0;
        for (uint256 i = 0; i < nets.length; ++i) {
            PartyNet calldata net = nets[i];
            uint32 party = net.party;
            if (party <= last) revert ConfidentialBookPartiesNotAscending(i);
            last = party;
            uint64 nonce = nonceOf(party);
            _nonces[party / 4] += 1 << (party % 4 * 64);
            bytes32 structHash =
                keccak256(abi.encode(ACCEPTANCE_TYPEHASH, batchId, hashesHash, party, net.netE4, nonce));
            address signer = _recovered(_hashTypedDataV4(structHash), net.signature);
            if (signer != registry.signerOf(party)) revert ConfidentialBookWrongSigner(party, nonce);
            signers[i] = (uint256(party) << 160) | uint160(signer);
        }
    }

    function _pay(PartyNet[] calldata nets) private {
        uint32[] memory parties = new uint32[](nets.length);
        int64[] memory netsE4 = new int64[](nets.length);
        for (uint256 i = 0; i < nets.length; ++i) {
            (parties[i], netsE4[i]) = (nets[i].party, nets[i].netE4);
        }
        vault.applyNets(parties, netsE4);
    }

    function _signed(uint256[] calldata signers, uint32 party, bytes32 digest, Signature calldata signature)
        private
        pure
        returns (bool)
    {
        uint256 word = (uint256(party) << 160) | uint160(_recovered(digest, signature));
        for (uint256 i = 0; i < signers.length; ++i) {
            if (signers[i] == word) return true;
        }
        return false;
    }

    /// @dev Address 0, which signs for no party, if nothing can be recovered.
    function _recovered(bytes32 digest, Signature calldata signature) private pure returns (address recovered) {
        // slither-disable-next-line unused-return (what can't be recovered is address 0)
        (recovered,,) = ECDSA.tryRecover(digest, signature.r, signature.vs);
    }
}
