// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Signature} from "../types/Signature.sol";

/// @title Who settles: OCPI parties, their numbers and their keys
/// @notice Gives each OCPI party (country code and party id) a number for compact batches and says who signs for it.
/// An issuer vouches for the identity, the party itself consents; neither can act alone.
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

    /// @notice A party was registered.
    event PartyRegistered(
        uint32 indexed number, bytes2 indexed countryCode, bytes3 indexed partyId, address signer, address payout
    );

    /// @notice A party's signer was replaced.
    event SignerRotated(uint32 indexed number, address indexed from, address indexed to);

    /// @notice The party was registered before, under `number`.
    error PartyRegistryKnownParty(uint32 number);

    /// @notice No party has this number.
    error PartyRegistryUnknownParty(uint32 number);

    /// @notice Country code and party id are upper-case letters, the latter also digits.
    error PartyRegistryMalformedId(bytes2 countryCode, bytes3 partyId);

    /// @notice Signer and payout must not be the zero address.
    error PartyRegistryZeroAddress();

    /// @notice The signature's deadline (unix seconds) has passed.
    error PartyRegistryExpired(uint64 deadline);

    /// @notice The signature is not by `expected`.
    error PartyRegistryWrongSigner(address expected);

    /// @notice Registers a party, once. Only for ISSUER_ROLE.
    /// @param consent By `signer`, over `Registration(bytes2 countryCode,bytes3 partyId,address signer,address payout,
    /// uint64 deadline)`. It needs no nonce, because a party is registered once.
    /// @return number The party's number, counted from 1.
    function register(
        bytes2 countryCode,
        bytes3 partyId,
        address signer,
        address payout,
        uint64 deadline,
        Signature calldata consent
    ) external returns (uint32 number);

    /// @notice Replaces a party's signer. Anyone may submit it.
    /// @param consent By the present signer, over `SignerRotation(uint32 number,address signer,uint32 nonce,
    /// uint64 deadline)` with the party's present nonce.
    function rotateSigner(uint32 number, address signer, uint64 deadline, Signature calldata consent) external;

    /// @notice The entry of a party; reverts if there is none.
    function party(uint32 number) external view returns (Party memory);

    /// @notice The number of a party; 0 if it is not registered.
    function numberOf(bytes2 countryCode, bytes3 partyId) external view returns (uint32);

    /// @notice Who signs for a party; reverts if there is none.
    function signerOf(uint32 number) external view returns (address);
}
