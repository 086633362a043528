// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CollateralVault} from "../../src/CollateralVault.sol";
import {EmbeddedCurrency} from "../../src/EmbeddedCurrency.sol";
import {PartyRegistry} from "../../src/PartyRegistry.sol";
import {SettlementBook} from "../../src/SettlementBook.sol";
import {ISettlementBook} from "../../src/interfaces/ISettlementBook.sol";
import {AgreementKey, packAgreementKey} from "../../src/types/AgreementKey.sol";
import {packFigures} from "../../src/types/PairFigures.sol";
import {PairSet} from "../../src/types/PairSet.sol";
import {PairStatement, StatementRoots} from "../../src/types/PairStatement.sol";
import {Signature} from "../../src/types/Signature.sol";
import {ReferenceTrees} from "./ReferenceTrees.sol";
import {Test} from "./Test.sol";

/// @notice A settlement in place: contracts, roles, and parties that sign. Digests are built here by hand, from the
/// texts of EIP-712, so that the contracts are checked against a second reading.
abstract contract Settlement is Test {
    uint64 internal constant NOW = 1_800_000_000;
    uint64 internal constant DELAY = 2 days;
    uint40 internal constant WINDOW = 1 days;
    uint64 internal constant BOND = 50;
    uint48 internal constant ATTESTED_UNTIL = uint48(NOW) + 365 days;
    bytes3 internal constant EUR = "EUR";

    EmbeddedCurrency internal token;
    PartyRegistry internal registry;
    CollateralVault internal vault;
    SettlementBook internal book;

    function setUp() public virtual {
        vm.warp(NOW);
        registry = new PartyRegistry(address(this));
        registry.grantRole(registry.issuerRole("NL"), address(this));
        token = new EmbeddedCurrency("Embedded euro", "EUR", address(this));
        vault = new CollateralVault(token, registry, DELAY, address(this));
        book = new SettlementBook(EUR, WINDOW, BOND, registry, vault, address(this));
        vault.grantRole(vault.BOOK_ROLE(), address(book));
        book.grantRole(book.PROPOSER_ROLE(), address(this));
        book.grantRole(book.PAUSER_ROLE(), address(this));
    }

    // PARTIES

    function _key(uint32 party) internal pure returns (uint256) {
        return 1000 + party;
    }

    function _signer(uint32 party) internal pure returns (address) {
        return vm.addr(_key(party));
    }

    function _payout(uint32 party) internal pure returns (address) {
        return vm.addr(2000 + uint256(party));
    }

    /// @dev Registers parties 1 to `count` as NL-A00, NL-A01 and so on.
    function _registerParties(uint32 count) internal {
        for (uint32 i = 1; i <= count; ++i) {
            assertEq(_register(_partyId(i), i), i, "parties are numbered from 1");
        }
    }

    function _partyId(uint32 party) internal pure returns (bytes3) {
        return bytes3(abi.encodePacked("A", uint8(48 + party / 10), uint8(48 + party % 10)));
    }

    function _register(bytes3 partyId, uint32 party) internal returns (uint32) {
        bytes32 digest = _registrationDigest("NL", partyId, _signer(party), _payout(party), NOW);
        Signature memory consent = _sign(_key(party), digest);
        return registry.register("NL", partyId, _signer(party), _payout(party), ATTESTED_UNTIL, NOW, consent);
    }

    function _deposit(uint32 party, uint256 amount) internal {
        token.mint(address(this), amount);
        token.approve(address(vault), amount);
        vault.deposit(party, amount);
    }

    // AGREEMENTS

    function _terms(uint32 cpo, uint32 msp, ISettlementBook.Mode mode, uint64 limitE4)
        internal
        pure
        returns (ISettlementBook.Agreement memory)
    {
        return ISettlementBook.Agreement({
            document: keccak256(abi.encode("document", cpo, msp)),
            cpo: cpo,
            msp: msp,
            currency: EUR,
            kind: ISettlementBook.Kind.SESSION,
            number: uint16(mode),
            mode: mode,
            creditLimitE4: limitE4,
            paymentTermS: mode == ISettlementBook.Mode.GUARANTEE ? 30 days : 0,
            deadline: NOW + 1 days
        });
    }

    function _open(ISettlementBook.Agreement memory terms) internal returns (AgreementKey) {
        bytes32 digest = _agreementDigest(terms);
        return book.openAgreement(terms, _sign(_key(terms.cpo), digest), _sign(_key(terms.msp), digest));
    }

    function _openPrefunded(uint32 cpo, uint32 msp) internal returns (AgreementKey) {
        return _open(_terms(cpo, msp, ISettlementBook.Mode.PREFUNDED, 0));
    }

    function _openCreditLine(uint32 cpo, uint32 msp, uint64 limitE4) internal returns (AgreementKey) {
        return _open(_terms(cpo, msp, ISettlementBook.Mode.CREDIT_LINE, limitE4));
    }

    function _openGuarantee(uint32 cpo, uint32 msp, uint64 limitE4) internal returns (AgreementKey) {
        return _open(_terms(cpo, msp, ISettlementBook.Mode.GUARANTEE, limitE4));
    }

    function _keyOf(ISettlementBook.Agreement memory terms) internal pure returns (AgreementKey) {
        return packAgreementKey(terms.cpo, uint8(terms.kind), terms.number, terms.msp);
    }

    function _isBefore(AgreementKey one, AgreementKey other) internal pure returns (bool) {
        return AgreementKey.unwrap(one) < AgreementKey.unwrap(other);
    }

    // STATEMENTS

    function _statement(AgreementKey agreement, uint64 dueE4, uint64 creditE4, uint24 sequence)
        internal
        pure
        returns (PairStatement memory)
    {
        return PairStatement({
            figures: packFigures(agreement, uint56(dueE4), uint56(creditE4), 100, sequence, uint32(NOW)),
            roots: keccak256(abi.encode("roots", agreement, sequence, dueE4, creditE4))
        });
    }

    function _rootsHash(StatementRoots memory roots) internal pure returns (bytes32) {
        return keccak256(bytes.concat(roots.evidence, roots.sums));
    }

    function _batchOf(PairStatement memory statement) internal pure returns (PairStatement[] memory statements) {
        statements = new PairStatement[](1);
        statements[0] = statement;
    }

    /// @dev Two statements in ascending order of agreement.
    function _batchOf(PairStatement memory one, PairStatement memory other)
        internal
        pure
        returns (PairStatement[] memory statements)
    {
        statements = new PairStatement[](2);
        bool ordered = _isBefore(one.figures.agreement(), other.figures.agreement());
        statements[0] = ordered ? one : other;
        statements[1] = ordered ? other : one;
    }

    function _pairs(uint256 bits) internal pure returns (PairSet) {
        return PairSet.wrap(bits);
    }

    function _acceptance(bytes32 batchId, PairStatement[] memory statements, uint32 party, uint256 pairs)
        internal
        view
        returns (ISettlementBook.Acceptance memory)
    {
        bytes32 digest = _acceptanceDigest(batchId, _pairsHash(statements), party, pairs);
        return ISettlementBook.Acceptance(party, _pairs(pairs), _sign(_key(party), digest));
    }

    function _acceptances(bytes32 batchId, PairStatement[] memory statements, uint32 one, uint32 other, uint256 pairs)
        internal
        view
        returns (ISettlementBook.Acceptance[] memory acceptances)
    {
        acceptances = new ISettlementBook.Acceptance[](2);
        acceptances[0] = _acceptance(batchId, statements, one, pairs);
        acceptances[1] = _acceptance(batchId, statements, other, pairs);
    }

    function _only(ISettlementBook.Acceptance memory acceptance)
        internal
        pure
        returns (ISettlementBook.Acceptance[] memory acceptances)
    {
        acceptances = new ISettlementBook.Acceptance[](1);
        acceptances[0] = acceptance;
    }

    function _nobody() internal pure returns (ISettlementBook.Acceptance[] memory) {
        return new ISettlementBook.Acceptance[](0);
    }

    /// @dev Of the batch's `count` pairs those that are final.
    function _finalPairs(bytes32 batchId, uint256 count) internal view returns (uint256) {
        if (book.batch(batchId).pairsHash == 0) return 0;
        ISettlementBook.Batch memory batch = book.batch(batchId);
        return ~PairSet.unwrap(batch.open.or(batch.void)) & (type(uint256).max >> (256 - count));
    }

    // HASHES, READ A SECOND TIME

    function _statementHash(PairStatement memory statement) internal pure returns (bytes32) {
        return keccak256(abi.encode(keccak256("PairStatement(uint256 figures,bytes32 roots)"), statement));
    }

    function _statementHashes(PairStatement[] memory statements) internal pure returns (bytes32[] memory hashes) {
        hashes = new bytes32[](statements.length);
        for (uint256 i = 0; i < statements.length; ++i) {
            hashes[i] = _statementHash(statements[i]);
        }
    }

    function _pairsHash(PairStatement[] memory statements) internal pure returns (bytes32) {
        return keccak256(abi.encode(ReferenceTrees.root(_statementHashes(statements)), statements.length));
    }

    function _agreementId(ISettlementBook.Agreement memory terms) internal pure returns (bytes32) {
        bytes32 typehash = keccak256(
            "Agreement(bytes32 document,uint32 cpo,uint32 msp,bytes3 currency,uint8 kind,uint16 number,uint8 mode,uint64 creditLimitE4,uint32 paymentTermS,uint64 deadline)"
        );
        return keccak256(
            abi.encode(
                typehash,
                terms.document,
                terms.cpo,
                terms.msp,
                terms.currency,
                terms.kind,
                terms.number,
                terms.mode,
                terms.creditLimitE4,
                terms.paymentTermS,
                terms.deadline
            )
        );
    }

    function _agreementDigest(ISettlementBook.Agreement memory terms) internal view returns (bytes32) {
        return _digest(address(book), "SettlementBook", _agreementId(terms));
    }

    function _acceptanceDigest(bytes32 batchId, bytes32 pairsHash, uint32 party, uint256 pairs)
        internal
        view
        returns (bytes32)
    {
        bytes32 typehash = keccak256("Acceptance(bytes32 batchId,bytes32 pairsHash,uint32 party,uint256 pairs)");
        return
            _digest(address(book), "SettlementBook", keccak256(abi.encode(typehash, batchId, pairsHash, party, pairs)));
    }

    function _dischargeDigest(AgreementKey agreement, uint24 number, int64 amountE4) internal view returns (bytes32) {
        bytes32 typehash = keccak256("Discharge(uint64 agreement,uint24 number,int64 amountE4)");
        return _digest(address(book), "SettlementBook", keccak256(abi.encode(typehash, agreement, number, amountE4)));
    }

    function _endingDigest(AgreementKey agreement) internal view returns (bytes32) {
        return _digest(
            address(book), "SettlementBook", keccak256(abi.encode(keccak256("Ending(uint64 agreement)"), agreement))
        );
    }

    function _registrationDigest(bytes2 countryCode, bytes3 partyId, address signer, address payout, uint64 deadline)
        internal
        view
        returns (bytes32)
    {
        bytes32 typehash =
            keccak256("Registration(bytes2 countryCode,bytes3 partyId,address signer,address payout,uint64 deadline)");
        return _digest(
            address(registry),
            "PartyRegistry",
            keccak256(abi.encode(typehash, countryCode, partyId, signer, payout, deadline))
        );
    }

    function _rotationDigest(uint32 number, address signer, uint32 nonce, uint64 deadline)
        internal
        view
        returns (bytes32)
    {
        return _successionDigest("SignerRotation", number, signer, nonce, deadline);
    }

    /// @dev SignerRotation, RotationCancellation and SignerAcceptance say the same words.
    function _successionDigest(string memory what, uint32 number, address signer, uint32 nonce, uint64 deadline)
        internal
        view
        returns (bytes32)
    {
        bytes32 typehash =
            keccak256(abi.encodePacked(what, "(uint32 number,address signer,uint32 nonce,uint64 deadline)"));
        return _registryDigest(keccak256(abi.encode(typehash, number, signer, nonce, deadline)));
    }

    function _claimsDigest(uint32 number, uint16 roles, uint32 modules, bytes32 platform, uint32 nonce, uint64 deadline)
        internal
        view
        returns (bytes32)
    {
        bytes32 typehash = keccak256(
            "Claims(uint32 number,uint16 roles,uint32 modules,bytes32 platform,uint32 nonce,uint64 deadline)"
        );
        return _registryDigest(keccak256(abi.encode(typehash, number, roles, modules, platform, nonce, deadline)));
    }

    function _messageKeyDigest(uint32 number, bytes32 key, uint32 nonce, uint64 deadline)
        internal
        view
        returns (bytes32)
    {
        bytes32 typehash = keccak256("MessageKey(uint32 number,bytes32 key,uint32 nonce,uint64 deadline)");
        return _registryDigest(keccak256(abi.encode(typehash, number, key, nonce, deadline)));
    }

    function _registryDigest(bytes32 structHash) internal view returns (bytes32) {
        return _digest(address(registry), "PartyRegistry", structHash);
    }

    /// @dev Party `number`, whose signer has not changed yet, hands over to `_signer(to)`; its nonce was `nonce`.
    function _rotate(uint32 number, uint32 to, uint32 nonce) internal {
        Signature memory named = _sign(_key(number), _rotationDigest(number, _signer(to), nonce, NOW));
        registry.rotateSigner(number, _signer(to), NOW, named);
        uint64 later = NOW + registry.ROTATION_DELAY();
        vm.warp(later);
        bytes32 digest = _successionDigest("SignerAcceptance", number, _signer(to), nonce + 1, later);
        registry.completeRotation(number, later, _sign(_key(to), digest));
    }

    function _digest(address verifier, string memory name, bytes32 structHash) internal view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256(bytes(name)),
                keccak256("1"),
                block.chainid,
                verifier
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    function _sign(uint256 key, bytes32 digest) internal pure returns (Signature memory) {
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, digest);
        return Signature({r: r, vs: bytes32(uint256(s) | (uint256(v - 27) << 255))});
    }
}
