// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Signature} from "../types/Signature.sol";

/// @title Who settles and who speaks: OCPI parties, their numbers, their keys and what they claim to be
/// @notice Gives each OCPI party (country code and party id) a number for compact batches and says who signs for it.
/// An issuer of the party's country vouches for the id, until a date; the party itself consents. Neither can act alone.
/// Everything a party does is signed (EIP-712), so anyone may submit it: each signature names the party's next nonce, a
/// deadline, this contract and its chain, and so has an effect once, here. An id that is no longer attested makes no
/// new claims good; what is owed under it is signed for and paid as before.
interface IPartyRegistry {
    /// @notice An entry.
    /// @param countryCode ISO 3166-1 alpha-2, upper case.
    /// @param partyId The three characters of the OCPI party id, upper case.
    /// @param nonce Number of signed changes so far; the next one must name it.
    /// @param signer Who signs for the party.
    /// @param payout Where withdrawn collateral goes.
    struct Party {
        bytes2 countryCode;
        bytes3 partyId;
        uint32 nonce;
        address signer;
        address payout;
    }

    /// @notice All that is recorded of a party; of one that is not registered every field is zero.
    /// @param number The party's number, counted from 1.
    /// @param party See {Party}.
    /// @param attestedUntil Until when an issuer vouches for the id (unix seconds, excluded); 0: it was revoked.
    /// @param roles OCPI roles the party claims, bit by bit: CPO, EMSP, HUB, NAP, NSP, OTHER, SCSP.
    /// @param modules OCPI modules it claims to speak, bit by bit, in the order that the operators of hubs agree on.
    /// @param platform keccak256 of the origin (scheme://host[:port]) from which it is served; 0: it named none.
    /// @param messageKey Ed25519 public key under which it signs messages; 0: none.
    /// @param successor Who is to sign for it next; 0: nobody.
    /// @param successorFrom When the successor may take over (unix seconds).
    struct Entry {
        uint32 number;
        Party party;
        uint48 attestedUntil;
        uint16 roles;
        uint32 modules;
        bytes32 platform;
        bytes32 messageKey;
        address successor;
        uint64 successorFrom;
    }

    /// @notice A party was registered.
    event PartyRegistered(
        uint32 indexed number, bytes2 indexed countryCode, bytes3 indexed partyId, address signer, address payout
    );

    /// @notice An issuer vouched for a party's id until a moment (unix seconds); 0: it took its word back.
    event PartyAttested(uint32 indexed number, address indexed issuer, uint48 until);

    /// @notice A party said in which roles, with which modules and from which platform it speaks.
    event ClaimsSet(uint32 indexed number, uint16 roles, uint32 modules, bytes32 platform);

    /// @notice A party named the key that it signs messages with.
    event MessageKeySet(uint32 indexed number, bytes32 key);

    /// @notice A party named its next signer, who may take over from `takesOverAt` (unix seconds).
    event SignerNamed(uint32 indexed number, address indexed successor, uint64 takesOverAt);

    /// @notice The present signer took back whom it had named.
    event SignerRotationCanceled(uint32 indexed number, address indexed successor);

    /// @notice A party's signer was replaced.
    event SignerRotated(uint32 indexed number, address indexed from, address indexed to);

    /// @notice A book has a successor.
    event BookSucceeded(address indexed book, address indexed successor);

    /// @notice The book's successor was announced before.
    error PartyRegistryKnownSuccessor(address book, address successor);

    /// @notice The party was registered before, under `number`.
    error PartyRegistryKnownParty(uint32 number);

    /// @notice No party has this number.
    error PartyRegistryUnknownParty(uint32 number);

    /// @notice Country code and party id are upper-case letters, the latter also digits.
    error PartyRegistryMalformedId(bytes2 countryCode, bytes3 partyId);

    /// @notice Signer and payout must not be the zero address.
    error PartyRegistryZeroAddress();

    /// @notice The moment (unix seconds) has passed: a signature's deadline, or the end of an attestation.
    error PartyRegistryExpired(uint64 deadline);

    /// @notice The signature is not by `expected`.
    error PartyRegistryWrongSigner(address expected);

    /// @notice The party named no successor.
    error PartyRegistryNoSuccessor(uint32 number);

    /// @notice The successor may take over only from `from` (unix seconds).
    error PartyRegistryTooEarly(uint64 from);

    /// @notice Registers a party, once, and vouches for its id. Only for issuers of its country.
    /// @param attestedUntil Until when; see {attest}.
    /// @param consent By `signer`, over `Registration(bytes2 countryCode,bytes3 partyId,address signer,address payout,
    /// uint64 deadline)`. It needs no nonce, because a party is registered once.
    /// @return number The party's number, counted from 1.
    function register(
        bytes2 countryCode,
        bytes3 partyId,
        address signer,
        address payout,
        uint48 attestedUntil,
        uint64 deadline,
        Signature calldata consent
    ) external returns (uint32 number);

    /// @notice Vouches for a party's id until another moment, from now on. Only for issuers of its country.
    /// @param until Unix seconds, after now.
    function attest(uint32 number, uint48 until) external;

    /// @notice Takes an attestation back, at once. Only for issuers of the party's country.
    function revokeAttestation(uint32 number) external;

    /// @notice Replaces what a party claims: roles, modules and platform, as in {Entry}. Anyone may submit it.
    /// @param consent By the signer, over `Claims(uint32 number,uint16 roles,uint32 modules,bytes32 platform,
    /// uint32 nonce,uint64 deadline)` with the party's present nonce.
    function setClaims(
        uint32 number,
        uint16 roles,
        uint32 modules,
        bytes32 platform,
        uint64 deadline,
        Signature calldata consent
    ) external;

    /// @notice Replaces, at once, the key that a party signs messages with; 0: it signs none. Anyone may submit it.
    /// @param consent By the signer, over `MessageKey(uint32 number,bytes32 key,uint32 nonce,uint64 deadline)` with the
    /// party's present nonce.
    function setMessageKey(uint32 number, bytes32 key, uint64 deadline, Signature calldata consent) external;

    /// @notice Names a party's next signer, who may take over after {ROTATION_DELAY}; one named before is forgotten.
    /// Until then the present signer signs, and may cancel. Anyone may submit it.
    /// @param consent By the present signer, over `SignerRotation(uint32 number,address signer,uint32 nonce,
    /// uint64 deadline)` with the party's present nonce.
    function rotateSigner(uint32 number, address signer, uint64 deadline, Signature calldata consent) external;

    /// @notice Takes back whom the present signer named. Anyone may submit it.
    /// @param consent By the present signer, over `RotationCancellation(uint32 number,address signer,uint32 nonce,
    /// uint64 deadline)` with the successor and the party's present nonce.
    function cancelRotation(uint32 number, uint64 deadline, Signature calldata consent) external;

    /// @notice Makes the successor the signer, once the delay is over. Anyone may submit it.
    /// @param consent By the successor, which so shows that the key exists, over `SignerAcceptance(uint32 number,
    /// address signer,uint32 nonce,uint64 deadline)` with itself and the party's present nonce.
    function completeRotation(uint32 number, uint64 deadline, Signature calldata consent) external;

    /// @notice How long partners, and the party, have to see a new signer coming, in seconds.
    function ROTATION_DELAY() external view returns (uint64);

    /// @notice The role of those who vouch for ids of a country.
    function issuerRole(bytes2 countryCode) external pure returns (bytes32);

    /// @notice The entry of a party; reverts if there is none.
    function party(uint32 number) external view returns (Party memory);

    /// @notice All that is recorded of a party, in one answer.
    function entry(bytes2 countryCode, bytes3 partyId) external view returns (Entry memory);

    /// @notice The number of a party; 0 if it is not registered.
    function numberOf(bytes2 countryCode, bytes3 partyId) external view returns (uint32);

    /// @notice Who signs for a party; reverts if there is none.
    function signerOf(uint32 number) external view returns (address);

    /// @notice Who signs for each of these parties; reverts if there is one of them that is not registered.
    function signersOf(uint32[] calldata numbers) external view returns (address[] memory);

    /// @notice Names the book that follows `book`, once. Only for DEFAULT_ADMIN_ROLE. Whoever settles in `book` opens
    /// agreements in the successor; `book` goes on settling and paying out what it holds.
    function announceSuccessor(address book, address successor) external;

    /// @notice The book that follows `book`; 0: none was announced.
    function successorOf(address book) external view returns (address);
}
