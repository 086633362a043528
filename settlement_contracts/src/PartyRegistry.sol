// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {IPartyRegistry} from "./interfaces/IPartyRegistry.sol";
import {Signature} from "./types/Signature.sol";

/// @notice See {IPartyRegistry}.
contract PartyRegistry is IPartyRegistry, AccessControl, EIP712 {
    /// @notice Who vouches for the identity of parties.
    bytes32 public constant ISSUER_ROLE = keccak256("ISSUER_ROLE");

    bytes32 private constant REGISTRATION_TYPEHASH =
        keccak256("Registration(bytes2 countryCode,bytes3 partyId,address signer,address payout,uint64 deadline)");
    bytes32 private constant ROTATION_TYPEHASH =
        keccak256("SignerRotation(uint32 number,address signer,uint32 nonce,uint64 deadline)");

    mapping(uint32 number => Party) private _parties;
    mapping(bytes2 countryCode => mapping(bytes3 partyId => uint32)) private _numbers;
    uint32 private _count;

    constructor(address admin) EIP712("PartyRegistry", "1") {
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    /// @inheritdoc IPartyRegistry
    function register(
        bytes2 countryCode,
        bytes3 partyId,
        address signer,
        address payout,
        uint64 deadline,
        Signature calldata consent
    ) external onlyRole(ISSUER_ROLE) returns (uint32 number) {
        _requireWellFormed(countryCode, partyId);
        if (signer == address(0) || payout == address(0)) revert PartyRegistryZeroAddress();
        number = _numbers[countryCode][partyId];
        if (number != 0) revert PartyRegistryKnownParty(number);
        _requireSignature(
            signer,
            keccak256(abi.encode(REGISTRATION_TYPEHASH, countryCode, partyId, signer, payout, deadline)),
            deadline,
            consent
        );
        number = ++_count;
        _numbers[countryCode][partyId] = number;
        _parties[number] = Party({countryCode: countryCode, partyId: partyId, nonce: 0, signer: signer, payout: payout});
        emit PartyRegistered(number, countryCode, partyId, signer, payout);
    }

    /// @inheritdoc IPartyRegistry
    function rotateSigner(uint32 number, address signer, uint64 deadline, Signature calldata consent) external {
        if (signer == address(0)) revert PartyRegistryZeroAddress();
        address present = signerOf(number);
        Party storage entry = _parties[number];
        _requireSignature(
            present, keccak256(abi.encode(ROTATION_TYPEHASH, number, signer, entry.nonce, deadline)), deadline, consent
        );
        ++entry.nonce;
        entry.signer = signer;
        emit SignerRotated(number, present, signer);
    }

    /// @inheritdoc IPartyRegistry
    function party(uint32 number) external view returns (Party memory entry) {
        entry = _parties[number];
        if (entry.signer == address(0)) revert PartyRegistryUnknownParty(number);
    }

    /// @inheritdoc IPartyRegistry
    function numberOf(bytes2 countryCode, bytes3 partyId) external view returns (uint32) {
        return _numbers[countryCode][partyId];
    }

    /// @inheritdoc IPartyRegistry
    function signerOf(uint32 number) public view returns (address signer) {
        signer = _parties[number].signer;
        if (signer == address(0)) revert PartyRegistryUnknownParty(number);
    }

    function _requireSignature(address expected, bytes32 structHash, uint64 deadline, Signature calldata signature)
        private
        view
    {
        if (block.timestamp > deadline) revert PartyRegistryExpired(deadline);
        // slither-disable-next-line unused-return (what can't be recovered is address 0, which no party has)
        (address recovered,,) = ECDSA.tryRecover(_hashTypedDataV4(structHash), signature.r, signature.vs);
        if (recovered != expected) revert PartyRegistryWrongSigner(expected);
    }

    function _requireWellFormed(bytes2 countryCode, bytes3 partyId) private pure {
        bool wellFormed = _isLetter(countryCode[0]) && _isLetter(countryCode[1]);
        for (uint256 i = 0; i < 3; ++i) {
            wellFormed = wellFormed && (_isLetter(partyId[i]) || (partyId[i] >= "0" && partyId[i] <= "9"));
        }
        if (!wellFormed) revert PartyRegistryMalformedId(countryCode, partyId);
    }

    function _isLetter(bytes1 character) private pure returns (bool) {
        return character >= "A" && character <= "Z";
    }
}
