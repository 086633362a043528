// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AgreementKey} from "../src/types/AgreementKey.sol";
import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {IERC20Metadata} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Metadata.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";
import {CollateralVault} from "../src/CollateralVault.sol";
import {RootAnchor} from "../src/RootAnchor.sol";
import {SettlementBook} from "../src/SettlementBook.sol";
import {ICollateralVault} from "../src/interfaces/ICollateralVault.sol";
import {PartyRegistry} from "../src/PartyRegistry.sol";
import {IDisputable} from "../src/interfaces/IDisputable.sol";
import {IPartyRegistry} from "../src/interfaces/IPartyRegistry.sol";
import {IRootAnchor} from "../src/interfaces/IRootAnchor.sol";
import {ISettlementBook} from "../src/interfaces/ISettlementBook.sol";
import {MerkleTree} from "../src/trees/MerkleTree.sol";
import {Place} from "../src/types/Place.sol";
import {packFigures} from "../src/types/PairFigures.sol";
import {PairStatement} from "../src/types/PairStatement.sol";
import {Signature} from "../src/types/Signature.sol";
import {Transfer} from "../src/types/Transfer.sol";
import {Settlement} from "./base/Settlement.sol";
import {SilentToken} from "./mocks/SilentToken.sol";

/// @notice What must be refused, and with which words: one line per case.
contract MustRevertTest is Settlement {
    address private constant STRANGER = address(0xbad);
    AgreementKey private _agreement;
    AgreementKey private _creditLine;

    AgreementKey private constant NONE = AgreementKey.wrap(7);

    error WasNotRefused(string what);
    error WasRefusedOtherwise(string what, bytes answer);

    function setUp() public override {
        super.setUp();
        _registerParties(3);
        _agreement = _openPrefunded(1, 2);
        _creditLine = _openCreditLine(1, 3, 1_000);
        _deposit(1, 1_000);
        _deposit(2, 1_000);
    }

    // REGISTRY

    function test_TheRegistryRefuses() public {
        bytes32 role = registry.issuerRole("NL");
        _refused("a stranger", STRANGER, _registration("NL", "B00", 7, 7, NOW), _missing(STRANGER, role));
        role = registry.issuerRole("DE");
        _refused(
            "an issuer of another country",
            address(this),
            _registration("DE", "B00", 7, 7, NOW),
            _missing(address(this), role)
        );
        _refused(
            "a party twice",
            address(this),
            _registration("NL", "A01", 7, 7, NOW),
            _words1(IPartyRegistry.PartyRegistryKnownParty.selector, 1)
        );
        _refused("lower case", address(this), _registration("nl", "B00", 7, 7, NOW), _malformed("nl", "B00"));
        _refused("a short id", address(this), _registration("NL", "B0", 7, 7, NOW), _malformed("NL", "B0"));
        _refused("a digit in a country", address(this), _registration("N1", "B00", 7, 7, NOW), _malformed("N1", "B00"));
        _refused(
            "an old consent",
            address(this),
            _registration("NL", "B00", 7, 7, NOW - 1),
            _words1(IPartyRegistry.PartyRegistryExpired.selector, NOW - 1)
        );
        _refused(
            "another's consent",
            address(this),
            _registration("NL", "B00", 7, 8, NOW),
            _words1(IPartyRegistry.PartyRegistryWrongSigner.selector, uint160(_signer(7)))
        );
        _refused(
            "no signer",
            address(this),
            abi.encodeCall(
                IPartyRegistry.register, ("NL", "B00", address(0), _payout(7), ATTESTED_UNTIL, NOW, Signature(0, 0))
            ),
            _words0(IPartyRegistry.PartyRegistryZeroAddress.selector)
        );
        _refused(
            "no payout",
            address(this),
            abi.encodeCall(
                IPartyRegistry.register, ("NL", "B00", _signer(7), address(0), ATTESTED_UNTIL, NOW, Signature(0, 0))
            ),
            _words0(IPartyRegistry.PartyRegistryZeroAddress.selector)
        );
        bytes memory unknown = _words1(IPartyRegistry.PartyRegistryUnknownParty.selector, 9);
        _refused("a number that is not", address(this), abi.encodeCall(IPartyRegistry.party, (9)), unknown);
        _refused("its signer", address(this), abi.encodeCall(IPartyRegistry.signerOf, (9)), unknown);
    }

    function test_TheRegistryRefusesRotations() public {
        bytes memory wrong = _words1(IPartyRegistry.PartyRegistryWrongSigner.selector, uint160(_signer(1)));
        _refused("by another", address(this), _rotation(1, 9, 0, NOW, 9), wrong);
        _refused("with another nonce", address(this), _rotation(1, 9, 1, NOW, 1), wrong);
        _refused(
            "for another party",
            address(this),
            _rotation(9, 9, 0, NOW, 1),
            _words1(IPartyRegistry.PartyRegistryUnknownParty.selector, 9)
        );
        _refused(
            "late",
            address(this),
            _rotation(1, 9, 0, NOW - 1, 1),
            _words1(IPartyRegistry.PartyRegistryExpired.selector, NOW - 1)
        );
        _refused(
            "to nobody",
            address(this),
            abi.encodeCall(IPartyRegistry.rotateSigner, (1, address(0), NOW, Signature(0, 0))),
            _words0(IPartyRegistry.PartyRegistryZeroAddress.selector)
        );
        bytes memory once = _rotation(1, 1, 0, NOW, 1);
        (bool done,) = address(registry).call(once);
        assertTrue(done, "the first time");
        _refused("a second time", address(this), once, wrong);
    }

    function test_TheRegistryRefusesAttestations() public {
        bytes memory missing = _missing(STRANGER, registry.issuerRole("NL"));
        _refused("by a stranger", STRANGER, abi.encodeCall(IPartyRegistry.attest, (1, ATTESTED_UNTIL)), missing);
        _refused("taken back by a stranger", STRANGER, abi.encodeCall(IPartyRegistry.revokeAttestation, (1)), missing);
        registry.grantRole(registry.issuerRole("DE"), STRANGER);
        _refused("by another country", STRANGER, abi.encodeCall(IPartyRegistry.attest, (1, ATTESTED_UNTIL)), missing);
        _refused(
            "taken back by another country", STRANGER, abi.encodeCall(IPartyRegistry.revokeAttestation, (1)), missing
        );
        _refused(
            "that end now",
            address(this),
            abi.encodeCall(IPartyRegistry.attest, (1, uint48(NOW))),
            _words1(IPartyRegistry.PartyRegistryExpired.selector, NOW)
        );
        bytes memory unknown = _words1(IPartyRegistry.PartyRegistryUnknownParty.selector, 9);
        _refused("of nobody", address(this), abi.encodeCall(IPartyRegistry.attest, (9, ATTESTED_UNTIL)), unknown);
        _refused("taken back of nobody", address(this), abi.encodeCall(IPartyRegistry.revokeAttestation, (9)), unknown);
    }

    function test_TheRegistryRefusesSuccessions() public {
        bytes memory nobody = _words1(IPartyRegistry.PartyRegistryNoSuccessor.selector, 1);
        _refused("to cancel nothing", address(this), _cancellation(9, 0, NOW, 1), nobody);
        _refused("to complete nothing", address(this), _completion(9, 0, NOW, 9), nobody);
        registry.rotateSigner(1, _signer(9), NOW, _sign(_key(1), _rotationDigest(1, _signer(9), 0, NOW)));
        uint64 from = NOW + registry.ROTATION_DELAY();
        bytes memory early = _words1(IPartyRegistry.PartyRegistryTooEarly.selector, from);
        _refused("before its time", address(this), _completion(9, 1, from, 9), early);
        vm.warp(from - 1);
        _refused("a second before its time", address(this), _completion(9, 1, from, 9), early);
        vm.warp(from);
        bytes memory notOld = _words1(IPartyRegistry.PartyRegistryWrongSigner.selector, uint160(_signer(1)));
        bytes memory notNew = _words1(IPartyRegistry.PartyRegistryWrongSigner.selector, uint160(_signer(9)));
        bytes memory late = _words1(IPartyRegistry.PartyRegistryExpired.selector, NOW);
        _refused("a cancellation by the new one", address(this), _cancellation(9, 1, from, 9), notOld);
        _refused("a cancellation of another", address(this), _cancellation(8, 1, from, 1), notOld);
        _refused("a cancellation with an old nonce", address(this), _cancellation(9, 0, from, 1), notOld);
        _refused("a late cancellation", address(this), _cancellation(9, 1, NOW, 1), late);
        _refused("a completion by the old one", address(this), _completion(9, 1, from, 1), notNew);
        _refused("a completion with an old nonce", address(this), _completion(9, 0, from, 9), notNew);
        _refused("a late completion", address(this), _completion(9, 1, NOW, 9), late);
        bytes memory cancellation = _cancellation(9, 1, from, 1);
        (bool done,) = address(registry).call(cancellation);
        assertTrue(done, "canceled");
        _refused("a completion of what was canceled", address(this), _completion(9, 2, from, 9), nobody);
        _refused("a second cancellation", address(this), cancellation, nobody);
    }

    /// @notice The relayed calls of the Open Charging Network's registry sign their arguments alone, so that whoever saw
    /// one sends it again: later, to undo a change; on another chain; to another registry. Here each of these fails.
    function test_NoRelayedCallIsReplayed() public {
        bytes memory wrong = _words1(IPartyRegistry.PartyRegistryWrongSigner.selector, uint160(_signer(1)));
        bytes[3] memory first = [_claims(1, 0, NOW, 1), _messageKey("old", 1, NOW, 1), _rotation(1, 8, 2, NOW, 1)];
        for (uint256 i = 0; i < first.length; ++i) {
            (bool done,) = address(registry).call(first[i]);
            assertTrue(done, "the first time");
            _refused("the same again", address(this), first[i], wrong);
        }
        (bool changed,) = address(registry).call(_claims(2, 3, NOW, 1));
        assertTrue(changed, "the party changed its mind");
        _refused("to bring the old claims back", address(this), first[0], wrong);

        vm.chainId(999);
        bytes[3] memory elsewhere = [_claims(1, 4, NOW, 1), _messageKey("new", 4, NOW, 1), _rotation(1, 8, 4, NOW, 1)];
        bytes memory registration = _registration("NL", "B00", 7, 7, NOW);
        vm.chainId(31337);
        for (uint256 i = 0; i < elsewhere.length; ++i) {
            _refused("signed for another chain", address(this), elsewhere[i], wrong);
        }
        bytes memory wrongParty = _words1(IPartyRegistry.PartyRegistryWrongSigner.selector, uint160(_signer(7)));
        _refused("a registration for another chain", address(this), registration, wrongParty);

        bytes[3] memory here = [_claims(1, 0, NOW, 1), _messageKey("new", 0, NOW, 1), _rotation(1, 8, 0, NOW, 1)];
        registration = _registration("NL", "A01", 1, 1, NOW);
        PartyRegistry other = new PartyRegistry(address(this));
        other.grantRole(other.issuerRole("NL"), address(this));
        _mustRevert("a registration here", address(other), address(this), registration, wrong);
        registry = other;
        _registerParties(1);
        for (uint256 i = 0; i < here.length; ++i) {
            _refused("signed for the other registry", address(this), here[i], wrong);
        }
        bytes[3] memory old = [_claims(1, 0, NOW, 1), _messageKey("new", 0, NOW, 1), _rotation(1, 8, 0, NOW, 1)];
        vm.warp(NOW + 1);
        for (uint256 i = 0; i < old.length; ++i) {
            bytes memory late = _words1(IPartyRegistry.PartyRegistryExpired.selector, NOW);
            _refused("after its deadline", address(this), old[i], late);
        }
    }

    /// @dev Whatever was signed and whatever is called, one word opens one door.
    function testFuzz_AWordForOneChangeMakesNoOther(uint256 dice, uint32 modules, bytes32 platform) public {
        uint256 kind = dice % 4;
        bytes32[4] memory digests = [
            _claimsDigest(1, uint16(dice >> 8), modules, platform, 0, NOW),
            _messageKeyDigest(1, platform, 0, NOW),
            _rotationDigest(1, _signer(8), 0, NOW),
            _successionDigest("RotationCancellation", 1, _signer(8), 0, NOW)
        ];
        Signature memory word = _sign(_key(1), digests[kind]);
        bytes[3] memory calls = [
            abi.encodeCall(IPartyRegistry.setClaims, (1, uint16(dice >> 8), modules, platform, NOW, word)),
            abi.encodeCall(IPartyRegistry.setMessageKey, (1, platform, NOW, word)),
            abi.encodeCall(IPartyRegistry.rotateSigner, (1, _signer(8), NOW, word))
        ];
        bytes memory wrong = _words1(IPartyRegistry.PartyRegistryWrongSigner.selector, uint160(_signer(1)));
        for (uint256 i = 0; i < calls.length; ++i) {
            if (i != kind) _refused("another change", address(this), calls[i], wrong);
        }
    }

    // VAULT

    function test_TheVaultRefuses() public {
        address target = address(vault);
        bytes memory empty = _words0(ICollateralVault.CollateralVaultZeroAmount.selector);
        _mustRevert(
            "a deposit of nothing", target, address(this), abi.encodeCall(ICollateralVault.deposit, (1, 0)), empty
        );
        _mustRevert(
            "a deposit for nobody",
            target,
            address(this),
            abi.encodeCall(ICollateralVault.deposit, (9, 1)),
            _words1(IPartyRegistry.PartyRegistryUnknownParty.selector, 9)
        );
        _mustRevert(
            "a request for nothing",
            target,
            _signer(1),
            abi.encodeCall(ICollateralVault.requestWithdrawal, (1, 0)),
            empty
        );
        _mustRevert(
            "a request for more",
            target,
            _signer(1),
            abi.encodeCall(ICollateralVault.requestWithdrawal, (1, 1_001)),
            abi.encodeWithSelector(ICollateralVault.CollateralVaultShort.selector, 1, 1_001, 1_000)
        );
        _mustRevert(
            "a request of another party",
            target,
            _signer(2),
            abi.encodeCall(ICollateralVault.requestWithdrawal, (1, 1)),
            abi.encodeWithSelector(ICollateralVault.CollateralVaultNotParty.selector, 1, _signer(2))
        );
    }

    function test_TheVaultRefusesBooks() public {
        bytes[6] memory calls = [
            abi.encodeCall(ICollateralVault.applyTransfers, (new Transfer[](0))),
            abi.encodeCall(ICollateralVault.applyNets, (new uint32[](0), new int64[](0))),
            abi.encodeCall(ICollateralVault.reserve, (1, 1)),
            abi.encodeCall(ICollateralVault.release, (1, 1)),
            abi.encodeCall(ICollateralVault.takeReserved, (1, 2, 1)),
            _nets(1, -1, 2, 1)
        ];
        address target = address(vault);
        for (uint256 i = 0; i < calls.length; ++i) {
            _mustRevert("a stranger", target, STRANGER, calls[i], _missing(STRANGER, vault.BOOK_ROLE()));
        }
        vault.grantRole(vault.BOOK_ROLE(), address(this));
        bytes4 short = ICollateralVault.CollateralVaultShort.selector;
        bytes4 notReserved = ICollateralVault.CollateralVaultNotReserved.selector;
        address self = address(this);
        _mustRevert(
            "a reserve without cover",
            target,
            self,
            abi.encodeCall(ICollateralVault.reserve, (1, 1_001)),
            abi.encodeWithSelector(short, 1, 1_001, 1_000)
        );
        vault.reserve(1, 300);
        _mustRevert(
            "a release of more",
            target,
            self,
            abi.encodeCall(ICollateralVault.release, (1, 301)),
            abi.encodeWithSelector(notReserved, 1, 301, 300)
        );
        _mustRevert(
            "taking more",
            target,
            self,
            abi.encodeCall(ICollateralVault.takeReserved, (1, 2, 301)),
            abi.encodeWithSelector(notReserved, 1, 301, 300)
        );
        _mustRevert(
            "a net without cover", target, self, _nets(1, -701, 2, 701), abi.encodeWithSelector(short, 1, 701, 700)
        );
        _mustRevert(
            "nets that make money",
            target,
            self,
            _nets(1, -1, 2, 2),
            abi.encodeWithSelector(ICollateralVault.CollateralVaultNotZeroSum.selector, int256(1))
        );
        _mustRevert(
            "nets without parties",
            target,
            self,
            abi.encodeCall(ICollateralVault.applyNets, (new uint32[](1), new int64[](2))),
            abi.encodeWithSelector(ICollateralVault.CollateralVaultUnequalLengths.selector, 1, 2)
        );
        _mustRevert(
            "a request for what is reserved",
            target,
            _signer(1),
            abi.encodeCall(ICollateralVault.requestWithdrawal, (1, 701)),
            abi.encodeWithSelector(short, 1, 701, 700)
        );
    }

    function _nets(uint32 one, int64 oneE4, uint32 other, int64 otherE4) private pure returns (bytes memory) {
        uint32[] memory parties = new uint32[](2);
        int64[] memory nets = new int64[](2);
        (parties[0], parties[1]) = (one, other);
        (nets[0], nets[1]) = (oneE4, otherE4);
        return abi.encodeCall(ICollateralVault.applyNets, (parties, nets));
    }

    function test_TheVaultRefusesWithdrawals() public {
        address target = address(vault);
        bytes memory call = abi.encodeCall(ICollateralVault.withdraw, (1));
        bytes4 error_ = ICollateralVault.CollateralVaultNotWithdrawable.selector;
        _mustRevert("one that was not announced", target, _signer(1), call, abi.encodeWithSelector(error_, 1, 0));
        vm.prank(_signer(1));
        vault.requestWithdrawal(1, 500);
        bytes memory notNow = abi.encodeWithSelector(error_, 1, NOW + DELAY);
        vm.warp(NOW + DELAY - 1);
        _mustRevert("a second too early", target, _signer(1), call, notNow);
        vm.warp(NOW + DELAY);
        _mustRevert(
            "by a stranger",
            target,
            STRANGER,
            call,
            abi.encodeWithSelector(ICollateralVault.CollateralVaultNotParty.selector, 1, STRANGER)
        );
        vm.warp(NOW + DELAY + vault.WITHDRAWAL_WINDOW() + 1);
        _mustRevert("a second too late", target, _signer(1), call, notNow);
        vm.warp(NOW + DELAY + vault.WITHDRAWAL_WINDOW());
        vm.prank(_signer(1));
        vault.withdraw(1);
        _mustRevert("a second time", target, _signer(1), call, abi.encodeWithSelector(error_, 1, 0));
    }

    function test_AVaultIsNotMadeOfWhatDoesNotFit() public {
        _notMade(3, DELAY, _words1(ICollateralVault.CollateralVaultUnsuitableToken.selector, 3));
        _notMade(19, DELAY, _words1(ICollateralVault.CollateralVaultUnsuitableToken.selector, 19));
        _notMade(4, 1 hours - 1, _words1(ICollateralVault.CollateralVaultUnsuitableDelay.selector, 1 hours - 1));
        _notMade(4, 30 days + 1, _words1(ICollateralVault.CollateralVaultUnsuitableDelay.selector, 30 days + 1));
    }

    // BOOK: AGREEMENTS

    function test_TheBookRefusesAgreements() public {
        ISettlementBook.Agreement memory terms = _terms(1, 2, ISettlementBook.Mode.PREFUNDED, 0);
        _notOpened(
            "a second time",
            terms,
            1,
            2,
            _words1(ISettlementBook.SettlementBookKnownAgreement.selector, AgreementKey.unwrap(_agreement))
        );

        terms = _terms(2, 3, ISettlementBook.Mode.PREFUNDED, 0);
        _notOpened("signed by another than the CPO", terms, 3, 3, _wrongSigner(2));
        _notOpened("signed by one side only", terms, 2, 2, _wrongSigner(3));
        bytes memory call = abi.encodeCall(ISettlementBook.openAgreement, (terms, Signature(0, 0), Signature(0, 0)));
        _bookRefuses("not signed", address(this), call, _wrongSigner(2));
        vm.chainId(999);
        bytes32 elsewhere = _agreementDigest(terms);
        vm.chainId(31337);
        call = abi.encodeCall(
            ISettlementBook.openAgreement, (terms, _sign(_key(2), elsewhere), _sign(_key(3), elsewhere))
        );
        _bookRefuses("signed for another chain", address(this), call, _wrongSigner(2));

        terms.deadline = NOW - 1;
        _notOpened("too late", terms, 2, 3, _words1(ISettlementBook.SettlementBookExpired.selector, NOW - 1));

        _unsuitable("with oneself", _terms(2, 2, ISettlementBook.Mode.PREFUNDED, 0));
        _unsuitable("prefunded with a limit", _terms(2, 3, ISettlementBook.Mode.PREFUNDED, 1));
        _unsuitable("a credit line without one", _terms(2, 3, ISettlementBook.Mode.CREDIT_LINE, 0));
        _unsuitable("a limit beyond measure", _terms(2, 3, ISettlementBook.Mode.CREDIT_LINE, (1 << 62) + 1));
        _unsuitable("a guarantee of nothing", _terms(2, 3, ISettlementBook.Mode.GUARANTEE, 0));
        terms = _terms(2, 3, ISettlementBook.Mode.CREDIT_LINE, 1);
        terms.paymentTermS = 1;
        _unsuitable("a credit line with a term", terms);
        terms = _terms(2, 3, ISettlementBook.Mode.GUARANTEE, 1);
        terms.paymentTermS = 0;
        _unsuitable("a guarantee without one", terms);
        terms.paymentTermS = 365 days + 1;
        _unsuitable("a term beyond measure", terms);
        terms = _terms(2, 3, ISettlementBook.Mode.PREFUNDED, 0);
        terms.number = 1 << 12;
        _unsuitable("a number beyond its field", terms);
        _unsuitable("a CPO beyond its field", _terms(1 << 24, 3, ISettlementBook.Mode.PREFUNDED, 0));
        _unsuitable("an MSP beyond its field", _terms(3, 1 << 24, ISettlementBook.Mode.PREFUNDED, 0));
        terms = _terms(1, 2, ISettlementBook.Mode.GUARANTEE, 1_001);
        _notOpened(
            "a guarantee without cover",
            terms,
            1,
            2,
            abi.encodeWithSelector(ICollateralVault.CollateralVaultShort.selector, 2, 1_001, 1_000)
        );
        terms = _terms(2, 3, ISettlementBook.Mode.PREFUNDED, 0);
        terms.currency = "USD";
        _unsuitable("in another currency", terms);

        terms = _terms(2, 9, ISettlementBook.Mode.PREFUNDED, 0);
        _notOpened("with nobody", terms, 2, 9, _words1(IPartyRegistry.PartyRegistryUnknownParty.selector, 9));
        _bookRefuses(
            "to show one that is not open",
            address(this),
            abi.encodeCall(ISettlementBook.agreementState, (NONE)),
            _words1(ISettlementBook.SettlementBookUnknownAgreement.selector, 7)
        );
    }

    // BOOK: PROPOSALS

    function test_TheBookRefusesProposals() public {
        PairStatement[] memory good = _batchOf(_statement(_agreement, 100, 0, 1));
        _bookRefuses("by a stranger", STRANGER, _proposal("x", good), _missing(STRANGER, book.PROPOSER_ROLE()));
        _notProposed(
            "without statements",
            new PairStatement[](0),
            _words1(ISettlementBook.SettlementBookUnsuitableCount.selector, 0)
        );
        _notProposed(
            "with 257", new PairStatement[](257), _words1(ISettlementBook.SettlementBookUnsuitableCount.selector, 257)
        );
        _notProposed(
            "of an unknown agreement",
            _batchOf(_statement(NONE, 1, 0, 1)),
            _words1(ISettlementBook.SettlementBookUnknownAgreement.selector, 7)
        );

        PairStatement[] memory two = _batchOf(good[0], _statement(_creditLine, 1, 0, 1));
        (two[0], two[1]) = (two[1], two[0]);
        _notProposed("out of order", two, _words1(ISettlementBook.SettlementBookNotAscending.selector, 1));
        two[0] = two[1];
        _notProposed("an agreement twice", two, _words1(ISettlementBook.SettlementBookNotAscending.selector, 1));

        PairStatement[] memory odd = _batchOf(_statement(_agreement, 100, 0, 1));
        odd[0].figures = packFigures(_agreement, 100, 0, 0, 1, uint32(NOW));
        _notProposed("without CDRs", odd, _words1(ISettlementBook.SettlementBookMalformedFigures.selector, 0));
        odd[0].figures = packFigures(_agreement, 100, 0, 1, 0, uint32(NOW));
        _notProposed(
            "before the first", odd, abi.encodeWithSelector(ISettlementBook.SettlementBookStaleSequence.selector, 0, 0)
        );

        book.propose("batch", good, _acceptances("batch", good, 1, 2, 1));
        _notProposed(
            "once final", good, abi.encodeWithSelector(ISettlementBook.SettlementBookStaleSequence.selector, 0, 1)
        );
        _bookRefuses(
            "a batch twice",
            address(this),
            _proposal("batch", _batchOf(_statement(_agreement, 1, 0, 2))),
            _words1(ISettlementBook.SettlementBookBatchExists.selector, uint256(bytes32("batch")))
        );
        book.pause();
        _notProposed("in a pause", good, _words0(Pausable.EnforcedPause.selector));
    }

    // BOOK: ACCEPTANCES

    function test_TheBookRefusesAcceptances() public {
        PairStatement[] memory statements = _batchOf(_statement(_agreement, 100, 0, 1));
        book.propose("batch", statements, _nobody());
        ISettlementBook.Acceptance memory good = _acceptance("batch", statements, 1, 1);

        ISettlementBook.Acceptance memory bad = _copy(good);
        bad.party = 2;
        _notAccepted("in another's name", statements, bad, _wrongSigner(2));
        bad = _copy(good);
        bad.pairs = _pairs(3);
        _notAccepted("of other pairs", statements, bad, _wrongSigner(1));
        bad = _copy(good);
        bad.signature.r = bytes32(uint256(bad.signature.r) ^ 1);
        _notAccepted("with a bit changed", statements, bad, _wrongSigner(1));
        bad = _copy(good);
        bad.signature = Signature(0, 0);
        _notAccepted("without a signature", statements, bad, _wrongSigner(1));
        _notAccepted("of another batch", statements, _acceptance("other", statements, 1, 1), _wrongSigner(1));
        PairStatement[] memory changed = _batchOf(_statement(_agreement, 101, 0, 1));
        _notAccepted("of other statements", statements, _acceptance("batch", changed, 1, 1), _wrongSigner(1));

        bytes memory others = _words1(ISettlementBook.SettlementBookOtherStatements.selector, uint256(bytes32("batch")));
        _notAccepted("with other statements", changed, good, others);
        _bookRefuses(
            "funding of others", address(this), abi.encodeCall(ISettlementBook.fund, ("batch", changed)), others
        );
        _bookRefuses(
            "a batch that is not",
            address(this),
            abi.encodeCall(ISettlementBook.fund, ("none", statements)),
            _words1(ISettlementBook.SettlementBookOtherStatements.selector, uint256(bytes32("none")))
        );
        _bookRefuses(
            "a batch of nothing",
            address(this),
            abi.encodeCall(ISettlementBook.fund, ("none", new PairStatement[](0))),
            _words0(MerkleTree.MerkleTreeEmpty.selector)
        );

        vm.chainId(999);
        bad = _acceptance("batch", statements, 1, 1);
        vm.chainId(31337);
        _notAccepted("for another chain", statements, bad, _wrongSigner(1));
        _rotate(1, 9, 0);
        _notAccepted("by a signer of yesterday", statements, good, _wrongSigner(1));
    }

    // BOOK: THE REST

    function test_TheBookRefusesDischarges() public {
        PairStatement[] memory statements = _batchOf(_statement(_creditLine, 800, 0, 1));
        book.propose("batch", statements, _acceptances("batch", statements, 1, 3, 1));
        bytes4 beyond = ISettlementBook.SettlementBookDischargeExceedsOwed.selector;
        _notDischarged(
            "more than is owed",
            _creditLine,
            0,
            801,
            1,
            3,
            abi.encodeWithSelector(beyond, _creditLine, int64(801), int64(800))
        );
        _notDischarged(
            "nothing", _creditLine, 0, 0, 1, 3, abi.encodeWithSelector(beyond, _creditLine, int64(0), int64(800))
        );
        _notDischarged(
            "the wrong way",
            _creditLine,
            0,
            -1,
            1,
            3,
            abi.encodeWithSelector(beyond, _creditLine, int64(-1), int64(800))
        );
        _notDischarged(
            "prefunded", _agreement, 0, 1, 1, 2, abi.encodeWithSelector(beyond, _agreement, int64(1), int64(0))
        );
        _notDischarged("another number", _creditLine, 1, 100, 1, 3, _wrongSigner(1));
        _notDischarged("by the MSP alone", _creditLine, 0, 100, 3, 3, _wrongSigner(1));
        _notDischarged("by the CPO alone", _creditLine, 0, 100, 1, 1, _wrongSigner(3));
        bytes32 digest = _dischargeDigest(_creditLine, 0, 100);
        book.discharge(_creditLine, 100, _sign(_key(1), digest), _sign(_key(3), digest));
        _notDischarged("a second time", _creditLine, 0, 100, 1, 3, _wrongSigner(1));
        _notDischarged(
            "of no agreement", NONE, 0, 1, 1, 2, _words1(ISettlementBook.SettlementBookUnknownAgreement.selector, 7)
        );
    }

    function test_TheBookRefusesChallenges() public {
        _deposit(3, 1_000);
        PairStatement[] memory statements =
            _batchOf(_statement(_agreement, 100, 0, 1), _statement(_creditLine, 1, 0, 1));
        book.propose("batch", statements, _only(_acceptance("batch", statements, 1, 1)));
        bytes32[] memory siblings = new bytes32[](1);
        siblings[0] = _statementHash(statements[1]);
        Place memory place = Place("batch", 0, 2, siblings);
        bytes memory call = abi.encodeCall(ISettlementBook.challenge, (statements[0], place));
        bytes4 notRipening = ISettlementBook.SettlementBookNotRipening.selector;
        bytes4 notParty = ISettlementBook.SettlementBookNotParty.selector;
        _bookRefuses("by who signed", _signer(1), call, abi.encodeWithSelector(notParty, 2, _signer(1)));
        _bookRefuses("by a stranger", _signer(3), call, abi.encodeWithSelector(notParty, 2, _signer(3)));
        _bookRefuses(
            "of another statement",
            _signer(2),
            abi.encodeCall(ISettlementBook.challenge, (statements[1], place)),
            _words1(ISettlementBook.SettlementBookOtherStatements.selector, uint256(bytes32("batch")))
        );
        bytes32[] memory sibling = new bytes32[](1);
        sibling[0] = _statementHash(statements[0]);
        Place memory second = Place("batch", 1, 2, sibling);
        _bookRefuses(
            "of a pair that nobody signed",
            _signer(3),
            abi.encodeCall(ISettlementBook.challenge, (statements[1], second)),
            abi.encodeWithSelector(notRipening, bytes32("batch"), 1)
        );
        vm.warp(NOW + WINDOW);
        _bookRefuses("late", _signer(2), call, abi.encodeWithSelector(notRipening, bytes32("batch"), 0));
        vm.warp(NOW + WINDOW - 1);
        vm.prank(_signer(2));
        vault.requestWithdrawal(2, 1_000);
        vm.warp(NOW + WINDOW - 1 + DELAY);
        vm.prank(_signer(2));
        vault.withdraw(2);
        vm.warp(NOW + WINDOW - 1);
        _bookRefuses(
            "without a bond",
            _signer(2),
            call,
            abi.encodeWithSelector(ICollateralVault.CollateralVaultShort.selector, 2, BOND, 0)
        );
        _deposit(2, BOND);
        bytes memory verdict = abi.encodeCall(ISettlementBook.decideChallenge, (statements[0], place, true));
        _bookRefuses("a verdict by a stranger", STRANGER, verdict, _missing(STRANGER, book.RESOLVER_ROLE()));
        book.grantRole(book.RESOLVER_ROLE(), address(this));
        bytes memory none =
            abi.encodeWithSelector(ISettlementBook.SettlementBookNotChallenged.selector, bytes32("batch"), 0);
        _bookRefuses("a verdict of nothing", address(this), verdict, none);
        vm.prank(_signer(2));
        book.challenge(statements[0], place);
        _bookRefuses("a second time", _signer(2), call, abi.encodeWithSelector(notRipening, bytes32("batch"), 0));
        book.decideChallenge(statements[0], place, true);
        _bookRefuses("a second verdict", address(this), verdict, none);
        _bookRefuses(
            "a verdict elsewhere",
            address(this),
            abi.encodeCall(ISettlementBook.decideChallenge, (statements[1], place, true)),
            _words1(ISettlementBook.SettlementBookOtherStatements.selector, uint256(bytes32("batch")))
        );
    }

    function test_TheBookRefusesCorrections() public {
        bytes memory call = abi.encodeCall(IDisputable.correct, (_agreement, 1));
        _bookRefuses("by a stranger", STRANGER, call, _missing(STRANGER, book.RESOLVER_ROLE()));
        book.grantRole(book.RESOLVER_ROLE(), address(this));
        bytes memory unknown = _words1(ISettlementBook.SettlementBookUnknownAgreement.selector, 7);
        _bookRefuses("of no agreement", address(this), abi.encodeCall(IDisputable.correct, (NONE, 1)), unknown);
        _bookRefuses(
            "met of no agreement", address(this), abi.encodeCall(ISettlementBook.fundCorrection, (NONE)), unknown
        );
        _bookRefuses(
            "met when there is none",
            address(this),
            abi.encodeCall(ISettlementBook.fundCorrection, (_agreement)),
            abi.encodeWithSelector(ISettlementBook.SettlementBookNotCorrected.selector, _agreement)
        );
        book.correct(_agreement, 1 << 62);
        bytes memory tooMuch = abi.encodeWithSelector(IDisputable.DisputableTooMuch.selector, _agreement);
        _bookRefuses("beyond measure", address(this), call, tooMuch);
        book.correct(_agreement, -(1 << 62));
        book.correct(_agreement, -(1 << 62));
        _bookRefuses("below it", address(this), abi.encodeCall(IDisputable.correct, (_agreement, -1)), tooMuch);
    }

    function test_TheBookRefusesGuarantees() public {
        AgreementKey guarantee = _openGuarantee(1, 2, 500);
        PairStatement[] memory statements = _batchOf(_statement(guarantee, 300, 0, 1));
        book.propose("batch", statements, _acceptances("batch", statements, 1, 2, 1));
        bytes4 exceeds = ISettlementBook.SettlementBookCallExceedsOverdue.selector;
        bytes memory call = abi.encodeCall(ISettlementBook.callGuarantee, (guarantee, 1, 300));
        vm.warp(NOW + 30 days - 1);
        _bookRefuses("a second too early", _signer(1), call, abi.encodeWithSelector(exceeds, guarantee, 300, int256(0)));
        vm.warp(NOW + 30 days);
        _bookRefuses(
            "by the MSP",
            _signer(2),
            call,
            abi.encodeWithSelector(ISettlementBook.SettlementBookNotParty.selector, 1, _signer(2))
        );
        _bookRefuses(
            "nothing",
            _signer(1),
            abi.encodeCall(ISettlementBook.callGuarantee, (guarantee, 1, 0)),
            abi.encodeWithSelector(exceeds, guarantee, 0, int256(300))
        );
        _bookRefuses(
            "more than is overdue",
            _signer(1),
            abi.encodeCall(ISettlementBook.callGuarantee, (guarantee, 1, 301)),
            abi.encodeWithSelector(exceeds, guarantee, 301, int256(300))
        );
        _bookRefuses(
            "of a statement that is not final",
            _signer(1),
            abi.encodeCall(ISettlementBook.callGuarantee, (guarantee, 2, 1)),
            abi.encodeWithSelector(exceeds, guarantee, 1, int256(0))
        );
        _bookRefuses(
            "of a credit line",
            _signer(1),
            abi.encodeCall(ISettlementBook.callGuarantee, (_creditLine, 1, 1)),
            abi.encodeWithSelector(exceeds, _creditLine, 1, int256(0))
        );
        _bookRefuses(
            "of no agreement",
            _signer(1),
            abi.encodeCall(ISettlementBook.callGuarantee, (NONE, 1, 1)),
            _words1(ISettlementBook.SettlementBookUnknownAgreement.selector, 7)
        );
    }

    function test_TheBookRefusesEndings() public {
        bytes memory notice = abi.encodeCall(ISettlementBook.giveNotice, (_agreement));
        bytes memory end = abi.encodeCall(ISettlementBook.endAfterNotice, (_agreement));
        bytes4 notEnding = ISettlementBook.SettlementBookNotEnding.selector;
        _bookRefuses(
            "notice by a stranger",
            STRANGER,
            notice,
            abi.encodeWithSelector(ISettlementBook.SettlementBookNotParty.selector, 2, STRANGER)
        );
        _bookRefuses(
            "notice of no agreement",
            _signer(1),
            abi.encodeCall(ISettlementBook.giveNotice, (NONE)),
            _words1(ISettlementBook.SettlementBookUnknownAgreement.selector, 7)
        );
        _bookRefuses(
            "an end without notice", address(this), end, abi.encodeWithSelector(notEnding, _agreement, uint40(0))
        );
        vm.prank(_signer(1));
        book.giveNotice(_agreement);
        vm.warp(NOW + 30 days - 1);
        _bookRefuses(
            "a second too early", address(this), end, abi.encodeWithSelector(notEnding, _agreement, NOW + 30 days)
        );
        Signature memory byCPO = _sign(_key(1), _endingDigest(_agreement));
        Signature memory byMSP = _sign(_key(2), _endingDigest(_agreement));
        _bookRefuses(
            "by the CPO alone",
            address(this),
            abi.encodeCall(ISettlementBook.endAgreement, (_agreement, byCPO, byCPO)),
            _wrongSigner(2)
        );
        _bookRefuses(
            "by the MSP alone",
            address(this),
            abi.encodeCall(ISettlementBook.endAgreement, (_agreement, byMSP, byMSP)),
            _wrongSigner(1)
        );
        book.endAgreement(_agreement, byCPO, byMSP);
        vm.warp(NOW + 30 days);
        bytes memory ended = abi.encodeWithSelector(ISettlementBook.SettlementBookEnded.selector, _agreement);
        _bookRefuses("a second end", address(this), end, ended);
        _bookRefuses(
            "signed again",
            address(this),
            abi.encodeCall(ISettlementBook.endAgreement, (_agreement, byCPO, byMSP)),
            ended
        );
        _bookRefuses("notice after it", _signer(1), notice, ended);
        _notProposed("a statement after it", _batchOf(_statement(_agreement, 1, 0, 1)), ended);
    }

    function test_AClosedBookRefuses() public {
        bytes memory call = abi.encodeCall(ISettlementBook.close, ());
        _bookRefuses("a stranger", STRANGER, call, _missing(STRANGER, book.DEFAULT_ADMIN_ROLE()));
        book.close();
        bytes memory closed = _words0(ISettlementBook.SettlementBookIsClosed.selector);
        _bookRefuses("a second time", address(this), call, closed);
        _notProposed("a proposal", _batchOf(_statement(_agreement, 1, 0, 1)), closed);
        _notOpened("an agreement", _terms(2, 3, ISettlementBook.Mode.PREFUNDED, 0), 2, 3, closed);
    }

    function test_ABookIsNotMadeOfWhatDoesNotFit() public {
        _bookNotMade(1 days - 1, 0, vault);
        _bookNotMade(3 days + 1, 0, new CollateralVault(token, registry, 30 days, address(this)));
        _bookNotMade(WINDOW, 10_000_001, vault);
        _bookNotMade(WINDOW, 0, new CollateralVault(token, registry, WINDOW, address(this)));
    }

    function _bookNotMade(uint40 windowS, uint64 bondE4, CollateralVault with) private {
        try new SettlementBook(EUR, windowS, bondE4, registry, with, address(this)) {
            revert WasNotRefused("a book");
        } catch (bytes memory answer) {
            bytes memory expected =
                abi.encodeWithSelector(ISettlementBook.SettlementBookUnsuitableWindow.selector, windowS, bondE4);
            if (keccak256(answer) != keccak256(expected)) revert WasRefusedOtherwise("a book", answer);
        }
    }

    function test_TheRegistryRefusesSuccessors() public {
        bytes memory call = abi.encodeCall(IPartyRegistry.announceSuccessor, (address(book), address(1)));
        _refused("a stranger", STRANGER, call, _missing(STRANGER, registry.DEFAULT_ADMIN_ROLE()));
        bytes memory zero = _words0(IPartyRegistry.PartyRegistryZeroAddress.selector);
        bytes memory call0 = abi.encodeCall(IPartyRegistry.announceSuccessor, (address(book), address(0)));
        _refused("nobody", address(this), call0, zero);
        call0 = abi.encodeCall(IPartyRegistry.announceSuccessor, (address(0), address(1)));
        _refused("of nobody", address(this), call0, zero);
        registry.announceSuccessor(address(book), address(1));
        bytes4 known = IPartyRegistry.PartyRegistryKnownSuccessor.selector;
        _refused("a second time", address(this), call, abi.encodeWithSelector(known, address(book), address(1)));
        uint32[] memory numbers = new uint32[](2);
        (numbers[0], numbers[1]) = (1, 9);
        _refused(
            "signers of nobody",
            address(this),
            abi.encodeCall(IPartyRegistry.signersOf, (numbers)),
            _words1(IPartyRegistry.PartyRegistryUnknownParty.selector, 9)
        );
    }

    function test_TheBookRefusesPausesByStrangers() public {
        bytes memory missing = _missing(STRANGER, book.PAUSER_ROLE());
        _bookRefuses("a pause", STRANGER, abi.encodeCall(ISettlementBook.pause, ()), missing);
        _bookRefuses("its end", STRANGER, abi.encodeCall(ISettlementBook.unpause, ()), missing);
    }

    // ANCHOR

    function test_TheAnchorRefuses() public {
        RootAnchor anchor = new RootAnchor(registry, address(this));
        address target = address(anchor);
        vm.prank(_signer(1));
        anchor.anchor("kind", 1, NOW, "root");
        _mustRevert(
            "a second root",
            target,
            _signer(1),
            abi.encodeCall(IRootAnchor.anchor, ("kind", 1, NOW, "other")),
            abi.encodeWithSelector(IRootAnchor.RootAnchorExists.selector, bytes32("kind"), 1, NOW)
        );
        _mustRevert(
            "another party's",
            target,
            _signer(2),
            abi.encodeCall(IRootAnchor.anchor, ("kind", 1, 0, "root")),
            abi.encodeWithSelector(IRootAnchor.RootAnchorNotAllowed.selector, 1, _signer(2))
        );
        _mustRevert(
            "no root",
            target,
            _signer(1),
            abi.encodeCall(IRootAnchor.anchor, ("kind", 1, 0, 0)),
            _words0(IRootAnchor.RootAnchorZeroRoot.selector)
        );
    }

    // HOW A CASE IS TRIED

    function _mustRevert(string memory what, address target, address sender, bytes memory call, bytes memory expected)
        private
    {
        vm.prank(sender);
        (bool done, bytes memory answer) = target.call(call);
        if (done) revert WasNotRefused(what);
        if (keccak256(answer) != keccak256(expected)) revert WasRefusedOtherwise(what, answer);
    }

    function _refused(string memory what, address sender, bytes memory call, bytes memory expected) private {
        _mustRevert(what, address(registry), sender, call, expected);
    }

    function _bookRefuses(string memory what, address sender, bytes memory call, bytes memory expected) private {
        _mustRevert(what, address(book), sender, call, expected);
    }

    function _registration(bytes2 countryCode, bytes3 partyId, uint32 signer, uint32 signedBy, uint64 deadline)
        private
        view
        returns (bytes memory)
    {
        bytes32 digest = _registrationDigest(countryCode, partyId, _signer(signer), _payout(signer), deadline);
        return abi.encodeCall(
            IPartyRegistry.register,
            (
                countryCode,
                partyId,
                _signer(signer),
                _payout(signer),
                ATTESTED_UNTIL,
                deadline,
                _sign(_key(signedBy), digest)
            )
        );
    }

    function _rotation(uint32 number, uint32 signer, uint32 nonce, uint64 deadline, uint32 signedBy)
        private
        view
        returns (bytes memory)
    {
        bytes32 digest = _rotationDigest(number, _signer(signer), nonce, deadline);
        return
            abi.encodeCall(
                IPartyRegistry.rotateSigner, (number, _signer(signer), deadline, _sign(_key(signedBy), digest))
            );
    }

    function _claims(uint16 roles, uint32 nonce, uint64 deadline, uint32 signedBy) private view returns (bytes memory) {
        bytes32 digest = _claimsDigest(1, roles, 7, "platform", nonce, deadline);
        return
            abi.encodeCall(IPartyRegistry.setClaims, (1, roles, 7, "platform", deadline, _sign(_key(signedBy), digest)));
    }

    function _messageKey(bytes32 key, uint32 nonce, uint64 deadline, uint32 signedBy)
        private
        view
        returns (bytes memory)
    {
        bytes32 digest = _messageKeyDigest(1, key, nonce, deadline);
        return abi.encodeCall(IPartyRegistry.setMessageKey, (1, key, deadline, _sign(_key(signedBy), digest)));
    }

    function _cancellation(uint32 successor, uint32 nonce, uint64 deadline, uint32 signedBy)
        private
        view
        returns (bytes memory)
    {
        bytes32 digest = _successionDigest("RotationCancellation", 1, _signer(successor), nonce, deadline);
        return abi.encodeCall(IPartyRegistry.cancelRotation, (1, deadline, _sign(_key(signedBy), digest)));
    }

    function _completion(uint32 successor, uint32 nonce, uint64 deadline, uint32 signedBy)
        private
        view
        returns (bytes memory)
    {
        bytes32 digest = _successionDigest("SignerAcceptance", 1, _signer(successor), nonce, deadline);
        return abi.encodeCall(IPartyRegistry.completeRotation, (1, deadline, _sign(_key(signedBy), digest)));
    }

    function _notMade(uint8 decimals, uint64 delay, bytes memory expected) private {
        IERC20Metadata other = IERC20Metadata(address(new SilentToken(decimals)));
        try new CollateralVault(other, registry, delay, address(this)) {
            revert WasNotRefused("a vault");
        } catch (bytes memory answer) {
            if (keccak256(answer) != keccak256(expected)) revert WasRefusedOtherwise("a vault", answer);
        }
    }

    function _notOpened(
        string memory what,
        ISettlementBook.Agreement memory terms,
        uint32 asCPO,
        uint32 asMSP,
        bytes memory expected
    ) private {
        bytes32 digest = _agreementDigest(terms);
        _bookRefuses(
            what,
            address(this),
            abi.encodeCall(
                ISettlementBook.openAgreement, (terms, _sign(_key(asCPO), digest), _sign(_key(asMSP), digest))
            ),
            expected
        );
    }

    function _unsuitable(string memory what, ISettlementBook.Agreement memory terms) private {
        _notOpened(
            what,
            terms,
            terms.cpo,
            terms.msp,
            _words1(ISettlementBook.SettlementBookUnsuitableTerms.selector, uint256(_agreementId(terms)))
        );
    }

    function _proposal(bytes32 batchId, PairStatement[] memory statements) private pure returns (bytes memory) {
        return abi.encodeCall(ISettlementBook.propose, (batchId, statements, _nobody()));
    }

    function _notProposed(string memory what, PairStatement[] memory statements, bytes memory expected) private {
        _bookRefuses(what, address(this), _proposal("refused", statements), expected);
    }

    function _notAccepted(
        string memory what,
        PairStatement[] memory statements,
        ISettlementBook.Acceptance memory acceptance,
        bytes memory expected
    ) private {
        _bookRefuses(
            what,
            address(this),
            abi.encodeCall(ISettlementBook.accept, ("batch", statements, _only(acceptance))),
            expected
        );
    }

    function _notDischarged(
        string memory what,
        AgreementKey agreement,
        uint24 number,
        int64 amountE4,
        uint32 asCPO,
        uint32 asMSP,
        bytes memory expected
    ) private {
        bytes32 digest = _dischargeDigest(agreement, number, amountE4);
        _bookRefuses(
            what,
            address(this),
            abi.encodeCall(
                ISettlementBook.discharge, (agreement, amountE4, _sign(_key(asCPO), digest), _sign(_key(asMSP), digest))
            ),
            expected
        );
    }

    function _copy(ISettlementBook.Acceptance memory acceptance)
        private
        pure
        returns (ISettlementBook.Acceptance memory)
    {
        Signature memory signature = Signature(acceptance.signature.r, acceptance.signature.vs);
        return ISettlementBook.Acceptance(acceptance.party, acceptance.pairs, signature);
    }

    function _words0(bytes4 error_) private pure returns (bytes memory) {
        return abi.encodeWithSelector(error_);
    }

    function _words1(bytes4 error_, uint256 word) private pure returns (bytes memory) {
        return abi.encodeWithSelector(error_, word);
    }

    function _wrongSigner(uint32 party) private pure returns (bytes memory) {
        return _words1(ISettlementBook.SettlementBookWrongSigner.selector, party);
    }

    function _malformed(bytes2 countryCode, bytes3 partyId) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IPartyRegistry.PartyRegistryMalformedId.selector, countryCode, partyId);
    }

    function _missing(address account, bytes32 role) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, account, role);
    }
}
