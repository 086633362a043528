// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {IPartyRegistry} from "./interfaces/IPartyRegistry.sol";
import {Signature} from "./types/Signature.sol";

/// @notice See {IPartyRegistry}.
contract PartyRegistry is IPartyRegistry, AccessControl, EIP712 {
    /// @inheritdoc IPartyRegistry
    uint64 public constant ROTATION_DELAY = 2 days;

    bytes32 private constant REGISTRATION_TYPEHASH =
        keccak256("Registration(bytes2 countryCode,bytes3 partyId,address signer,address payout,uint64 deadline)");
    bytes32 private constant CLAIMS_TYPEHASH =
        keccak256("Claims(uint32 number,uint16 roles,uint32 modules,bytes32 platform,uint32 nonce,uint64 deadline)");
    bytes32 private constant MESSAGE_KEY_TYPEHASH =
        keccak256("MessageKey(uint32 number,bytes32 key,uint32 nonce,uint64 deadline)");
    bytes32 private constant ROTATION_TYPEHASH =
        keccak256("SignerRotation(uint32 number,address signer,uint32 nonce,uint64 deadline)");
    bytes32 private constant CANCELLATION_TYPEHASH =
        keccak256("RotationCancellation(uint32 number,address signer,uint32 nonce,uint64 deadline)");
    bytes32 private constant ACCEPTANCE_TYPEHASH =
        keccak256("SignerAcceptance(uint32 number,address signer,uint32 nonce,uint64 deadline)");

    /// @dev {Entry} in five words; what batches are checked against is in the first.
    struct Stored {
        bytes2 countryCode;
        bytes3 partyId;
        uint32 nonce;
        address signer;
        address payout;
        uint48 attestedUntil;
        uint16 roles;
        uint32 modules;
        bytes32 platform;
        bytes32 messageKey;
        address successor;
        uint64 successorFrom;
    }

    mapping(uint32 number => Stored) private _parties;
    mapping(bytes2 countryCode => mapping(bytes3 partyId => uint32)) private _numbers;
    uint32 private _count;
    /// @inheritdoc IPartyRegistry
    mapping(address book => address) public successorOf;

    constructor(address admin) EIP712("PartyRegistry", "1") {
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    // ISSUERS

    /// @inheritdoc IPartyRegistry
    function register(
        bytes2 countryCode,
        bytes3 partyId,
        address signer,
        address payout,
        uint48 attestedUntil,
        uint64 deadline,
        Signature calldata consent
    ) external returns (uint32 number) {
        _requireWellFormed(countryCode, partyId);
        _checkRole(issuerRole(countryCode));
        if (signer == address(0) || payout == address(0)) revert PartyRegistryZeroAddress();
        if (_numbers[countryCode][partyId] != 0) revert PartyRegistryKnownParty(_numbers[countryCode][partyId]);
        _requireSignature(
            signer,
            keccak256(abi.encode(REGISTRATION_TYPEHASH, countryCode, partyId, signer, payout, deadline)),
            deadline,
            consent
        );
        number = ++_count;
        _numbers[countryCode][partyId] = number;
        Stored storage stored = _parties[number];
        stored.countryCode = countryCode;
        stored.partyId = partyId;
        stored.signer = signer;
        stored.payout = payout;
        emit PartyRegistered(number, countryCode, partyId, signer, payout);
        _attest(stored, number, attestedUntil);
    }

    /// @inheritdoc IPartyRegistry
    function attest(uint32 number, uint48 until) external {
        _attest(_vouchedForBySender(number), number, until);
    }

    /// @inheritdoc IPartyRegistry
    function revokeAttestation(uint32 number) external {
        _vouchedForBySender(number).attestedUntil = 0;
        emit PartyAttested(number, msg.sender, 0);
    }

    // PARTIES

    /// @inheritdoc IPartyRegistry
    function setClaims(
        uint32 number,
        uint16 roles,
        uint32 modules,
        bytes32 platform,
        uint64 deadline,
        Signature calldata consent
    ) external {
        Stored storage stored = _known(number);
        _requireSignature(
            stored.signer,
            keccak256(abi.encode(CLAIMS_TYPEHASH, number, roles, modules, platform, stored.nonce++, deadline)),
            deadline,
            consent
        );
        stored.roles = roles;
        stored.modules = modules;
        stored.platform = platform;
        emit ClaimsSet(number, roles, modules, platform);
    }

    /// @inheritdoc IPartyRegistry
    function setMessageKey(uint32 number, bytes32 key, uint64 deadline, Signature calldata consent) external {
        Stored storage stored = _known(number);
        _requireSignature(
            stored.signer,
            keccak256(abi.encode(MESSAGE_KEY_TYPEHASH, number, key, stored.nonce++, deadline)),
            deadline,
            consent
        );
        stored.messageKey = key;
        emit MessageKeySet(number, key);
    }

    /// @inheritdoc IPartyRegistry
    function rotateSigner(uint32 number, address signer, uint64 deadline, Signature calldata consent) external {
        if (signer == address(0)) revert PartyRegistryZeroAddress();
        Stored storage stored = _known(number);
        _requireSuccession(stored, stored.signer, ROTATION_TYPEHASH, number, signer, deadline, consent);
        stored.successor = signer;
        stored.successorFrom = uint64(block.timestamp) + ROTATION_DELAY;
        emit SignerNamed(number, signer, stored.successorFrom);
    }

    /// @inheritdoc IPartyRegistry
    function cancelRotation(uint32 number, uint64 deadline, Signature calldata consent) external {
        Stored storage stored = _known(number);
        address successor = _successorOf(stored, number);
        _requireSuccession(stored, stored.signer, CANCELLATION_TYPEHASH, number, successor, deadline, consent);
        _forgetSuccessor(stored);
        emit SignerRotationCanceled(number, successor);
    }

    /// @inheritdoc IPartyRegistry
    function completeRotation(uint32 number, uint64 deadline, Signature calldata consent) external {
        Stored storage stored = _known(number);
        address successor = _successorOf(stored, number);
        if (block.timestamp < stored.successorFrom) revert PartyRegistryTooEarly(stored.successorFrom);
        _requireSuccession(stored, successor, ACCEPTANCE_TYPEHASH, number, successor, deadline, consent);
        address present = stored.signer;
        stored.signer = successor;
        _forgetSuccessor(stored);
        emit SignerRotated(number, present, successor);
    }

    // BOOKS

    /// @inheritdoc IPartyRegistry
    function announceSuccessor(address book, address successor) external onlyRole(DEFAULT_ADMIN_ROLE) {
        if (book == address(0) || successor == address(0)) revert PartyRegistryZeroAddress();
        address known = successorOf[book];
        if (known != address(0)) revert PartyRegistryKnownSuccessor(book, known);
        successorOf[book] = successor;
        emit BookSucceeded(book, successor);
    }

    // EVERYBODY

    /// @inheritdoc IPartyRegistry
    function issuerRole(bytes2 countryCode) public pure returns (bytes32) {
        return keccak256(abi.encodePacked("ISSUER_ROLE", countryCode));
    }

    /// @inheritdoc IPartyRegistry
    function party(uint32 number) external view returns (Party memory) {
        return _shown(_known(number));
    }

    /// @inheritdoc IPartyRegistry
    function entry(bytes2 countryCode, bytes3 partyId) external view returns (Entry memory) {
        uint32 number = _numbers[countryCode][partyId];
        Stored storage stored = _parties[number];
        return Entry({
            number: number,
            party: _shown(stored),
            attestedUntil: stored.attestedUntil,
            roles: stored.roles,
            modules: stored.modules,
            platform: stored.platform,
            messageKey: stored.messageKey,
            successor: stored.successor,
            successorFrom: stored.successorFrom
        });
    }

    /// @inheritdoc IPartyRegistry
    function numberOf(bytes2 countryCode, bytes3 partyId) external view returns (uint32) {
        return _numbers[countryCode][partyId];
    }

    /// @inheritdoc IPartyRegistry
    function signerOf(uint32 number) external view returns (address) {
        return _known(number).signer;
    }

    /// @inheritdoc IPartyRegistry
    function signersOf(uint32[] calldata numbers) external view returns (address[] memory signers) {
        signers = new address[](numbers.length);
        for (uint256 i = 0; i < numbers.length; ++i) {
            signers[i] = _known(numbers[i]).signer;
        }
    }

    function _shown(Stored storage stored) private view returns (Party memory) {
        return Party({
            countryCode: stored.countryCode,
            partyId: stored.partyId,
            nonce: stored.nonce,
            signer: stored.signer,
            payout: stored.payout
        });
    }

    function _known(uint32 number) private view returns (Stored storage stored) {
        stored = _parties[number];
        if (stored.signer == address(0)) revert PartyRegistryUnknownParty(number);
    }

    function _vouchedForBySender(uint32 number) private view returns (Stored storage stored) {
        stored = _known(number);
        _checkRole(issuerRole(stored.countryCode));
    }

    function _attest(Stored storage stored, uint32 number, uint48 until) private {
        if (until <= block.timestamp) revert PartyRegistryExpired(until);
        stored.attestedUntil = until;
        emit PartyAttested(number, msg.sender, until);
    }

    function _successorOf(Stored storage stored, uint32 number) private view returns (address successor) {
        successor = stored.successor;
        if (successor == address(0)) revert PartyRegistryNoSuccessor(number);
    }

    function _forgetSuccessor(Stored storage stored) private {
        stored.successor = address(0);
        stored.successorFrom = 0;
    }

    /// @dev A word of `expected` about `signer`, the next one; it uses the nonce up.
    function _requireSuccession(
        Stored storage stored,
        address expected,
        bytes32 typehash,
        uint32 number,
        address signer,
        uint64 deadline,
        Signature calldata consent
    ) private {
        bytes32 structHash = keccak256(abi.encode(typehash, number, signer, stored.nonce++, deadline));
        _requireSignature(expected, structHash, deadline, consent);
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
