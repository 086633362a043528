// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AgreementKey} from "../src/types/AgreementKey.sol";
import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {IERC20Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EmbeddedCurrency} from "../src/EmbeddedCurrency.sol";
import {ICollateralVault} from "../src/interfaces/ICollateralVault.sol";
import {IDisputeResolver} from "../src/interfaces/IDisputeResolver.sol";
import {ISettlementBook} from "../src/interfaces/ISettlementBook.sol";
import {DisputeResolver} from "../src/disputes/DisputeResolver.sol";
import {PairSet} from "../src/types/PairSet.sol";
import {PairStatement} from "../src/types/PairStatement.sol";
import {Disputes} from "./base/Disputes.sol";

/// @notice Charging settled session by session in one contract, as published designs do it, with their faults: whoever
/// confirms is not asked who they are, proof of delivery is a flag that anyone sets (Khan 2019), a live session of an
/// EVSE can be overwritten, the token is the caller's choice, and money is subtracted unchecked (sharecharge-contracts
/// e40005b, Solidity 0.4).
contract OneContractDesign {
    struct Session {
        address driver;
        address station;
        EmbeddedCurrency token;
        uint256 estimatedPrice;
        bool isConfirmed;
        bool isDelivered;
    }

    mapping(bytes32 evse => Session) public sessions;

    function requestStart(bytes32 evse, address station, EmbeddedCurrency token, uint256 estimatedPrice) external {
        require(token.transferFrom(msg.sender, address(this), estimatedPrice), "not paid");
        sessions[evse] = Session(msg.sender, station, token, estimatedPrice, false, false);
    }

    function confirmStart(bytes32 evse) external {
        sessions[evse].isConfirmed = true;
    }

    function setDelivered(bytes32 evse) external {
        sessions[evse].isDelivered = true;
    }

    function payOut(bytes32 evse, uint256 finalPrice) external {
        Session memory session = sessions[evse];
        require(session.isConfirmed && session.isDelivered, "not delivered");
        delete sessions[evse];
        uint256 back;
        unchecked {
            back = session.estimatedPrice - finalPrice;
        }
        require(session.token.transfer(session.station, finalPrice), "not paid");
        // 0.4 transferred what the subtraction gave, capped by what was there.
        uint256 held = session.token.balanceOf(address(this));
        require(session.token.transfer(session.driver, back < held ? back : held), "not paid");
    }
}

/// @notice A registry whose signed words name no nonce, deadline, chain or contract (ocn-registry c43bb85): what was
/// signed once counts for ever, and a signature that fits nobody counts as somebody's.
contract BareWords {
    mapping(address operator => bool) public isListed;
    mapping(bytes32 domain => address) public operatorOf;

    function listRaw(bytes32 r, bytes32 vs) external {
        isListed[_signer(keccak256("list"), r, vs)] = true;
    }

    function unlistRaw(bytes32 r, bytes32 vs) external {
        isListed[_signer(keccak256("unlist"), r, vs)] = false;
    }

    function setDomainRaw(bytes32 domain, bytes32 r, bytes32 vs) external {
        operatorOf[domain] = _signer(keccak256(abi.encode("domain", domain)), r, vs);
    }

    /// @dev Money moved by a bare word: {to, amount} and no number.
    function payRaw(EmbeddedCurrency token, address from, address to, uint256 amount, bytes32 r, bytes32 vs) external {
        require(_signer(keccak256(abi.encode(to, amount)), r, vs) == from, "not signed");
        require(token.transferFrom(from, to, amount), "not paid");
    }

    function _signer(bytes32 digest, bytes32 r, bytes32 vs) private pure returns (address signer) {
        (signer,,) = ECDSA.tryRecover(digest, r, vs);
    }
}

/// @notice Each attack works on the design that it is known from, and fails on ours.
contract AttacksTest is Disputes {
    address private constant THIEF = address(0x7417ef);
    bytes32 private constant EVSE = "NL*TNM*E1";
    OneContractDesign private _theirs;
    BareWords private _words;
    AgreementKey private _agreement;
    PairStatement[] private _statements;

    function setUp() public override {
        super.setUp();
        (_theirs, _words) = (new OneContractDesign(), new BareWords());
        _agreement = _openPrefunded(CPO, MSP);
        _statements.push(_statement(_agreement, 40_000, 0, 1));
    }

    // ANYONE CONFIRMS

    function test_ThereAnyoneConfirmsAndSetsTheProofOfDelivery() public {
        _start(_signer(MSP), THIEF, 1_000);

        vm.startPrank(THIEF);
        _theirs.confirmStart(EVSE);
        _theirs.setDelivered(EVSE);
        _theirs.payOut(EVSE, 1_000);
        vm.stopPrank();

        assertEq(token.balanceOf(THIEF), 1_000, "paid for nothing");
    }

    function test_HereNobodyAcceptsForAParty() public {
        book.propose("batch", _statements, _nobody());
        ISettlementBook.Acceptance[] memory words = _acceptances("batch", _statements, CPO, MSP, 1);
        words[1].signature = _sign(uint256(uint160(THIEF)), _acceptanceDigest("batch", _pairsHash(_statements), MSP, 1));

        vm.prank(THIEF);
        vm.expectRevert(abi.encodeWithSelector(ISettlementBook.SettlementBookWrongSigner.selector, MSP));
        book.accept("batch", _statements, words);
        vm.prank(THIEF);
        book.accept("batch", _statements, _only(_acceptance("batch", _statements, CPO, 1)));

        assertEq(_finalPairs("batch", 1), 0, "one side's word makes nothing final");
        assertEq(vault.balanceOf(CPO), BONDS, "nothing moved");
    }

    function test_HereNobodyProposesOrMovesCollateral() public {
        bytes32 proposer = book.PROPOSER_ROLE();
        bytes32 mover = vault.BOOK_ROLE();
        vm.startPrank(THIEF);
        vm.expectRevert(
            abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, THIEF, proposer)
        );
        book.propose("batch", _statements, _nobody());
        vm.expectRevert(abi.encodeWithSelector(IAccessControl.AccessControlUnauthorizedAccount.selector, THIEF, mover));
        vault.takeReserved(MSP, CPO, 1);
        vm.expectRevert(abi.encodeWithSelector(ICollateralVault.CollateralVaultNotParty.selector, MSP, THIEF));
        vault.requestWithdrawal(MSP, 1);
        vm.stopPrank();
    }

    function test_HereDeliveryIsWhatTheMeterSignedWhoeverSaysSo() public {
        bytes memory payload = _payload(_reading("B", "1", "kWh"), _reading("E", "31.011", "kWh"));
        bytes memory record = _pack(2, _publicKey(2, 7), payload, _sign(2, uint256(uint160(THIEF)), payload));
        (DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory leaf) =
            _stating(_metered("cdr", record), 120_000);

        resolver.contestSignature(abi.encode(stated), leaf, SALT, record);

        assertEq(_corrected(), -120_000, "a forged proof of delivery is taken out");
    }

    // REPLAY AND RE-PICK

    function test_ThereAWordCountsForEver() public {
        (bytes32 r, bytes32 vs) = _bare(keccak256(abi.encode(THIEF, 400)));
        _mintTo(_signer(MSP), 1_000, address(_words));

        _words.payRaw(token, _signer(MSP), THIEF, 400, r, vs);
        _words.payRaw(token, _signer(MSP), THIEF, 400, r, vs);

        assertEq(token.balanceOf(THIEF), 800, "paid twice for one word");
        (r, vs) = _bare(keccak256("unlist"));
        (bytes32 listR, bytes32 listVs) = _bare(keccak256("list"));
        _words.listRaw(listR, listVs);
        _words.unlistRaw(r, vs);
        _words.listRaw(listR, listVs);
        _words.unlistRaw(r, vs);
        assertFalse(_words.isListed(_signer(MSP)), "unlisted again by the old word");
    }

    function test_ThereASignatureOfNobodySquatsADomain() public {
        _words.setDomainRaw("emsp.example", bytes32(uint256(1)), bytes32(uint256(2)));

        assertTrue(_words.operatorOf("emsp.example") != _signer(MSP), "somebody else's, or nobody's");
    }

    function test_HereAnAcceptanceCountsForItsBatchItsPairsAndItsBookOnly() public {
        ISettlementBook.Acceptance[] memory words = _acceptances("batch", _statements, CPO, MSP, 1);
        book.propose("batch", _statements, words);
        assertEq(_finalPairs("batch", 1), 1, "final");
        uint256 balance = vault.balanceOf(CPO);

        // again, in a batch of the same statements
        vm.expectRevert(abi.encodeWithSelector(ISettlementBook.SettlementBookStaleSequence.selector, 0, 1));
        book.propose("again", _statements, words);
        // re-picked for another statement, or for other pairs
        _statements[0] = _statement(_agreement, 90_000, 0, 2);
        vm.expectRevert(abi.encodeWithSelector(ISettlementBook.SettlementBookWrongSigner.selector, CPO));
        book.propose("more", _statements, words);
        words = _acceptances("more", _statements, CPO, MSP, 0);
        words[0].pairs = words[1].pairs = PairSet.wrap(1);
        vm.expectRevert(abi.encodeWithSelector(ISettlementBook.SettlementBookWrongSigner.selector, CPO));
        book.propose("more", _statements, words);
        // the same batch once more
        book.fund("batch", _batchOf(_statement(_agreement, 40_000, 0, 1)));
        assertEq(vault.balanceOf(CPO), balance, "paid once");
    }

    function test_HereADisputeIsDecidedOnceAndItsWordsServeOnce() public {
        (DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory leaf) =
            _stating(_leaf("cdr"), 120_000);
        bytes32 id = _id(stated, leaf);
        IDisputeResolver.Word memory word = _quarrelWord(id, MSP, 1);
        resolver.quarrel(abi.encode(stated), leaf, 1, word);
        vm.warp(resolver.caseOf(id).deadline + 1);
        resolver.lapse(id);

        vm.expectRevert(
            abi.encodeWithSelector(
                IDisputeResolver.DisputeResolverWrongStage.selector, id, IDisputeResolver.Stage.RULED
            )
        );
        resolver.quarrel(abi.encode(stated), leaf, 1, word);
        assertEq(_reserved(MSP), 0, "no second bond");
    }

    // OVERWRITE WHAT IS UNDER WAY

    function test_ThereALiveSessionIsOverwritten() public {
        _start(_signer(MSP), _signer(CPO), 1_000);
        vm.prank(THIEF);
        _theirs.requestStart(EVSE, THIEF, token, 0);

        vm.startPrank(THIEF);
        _theirs.confirmStart(EVSE);
        _theirs.setDelivered(EVSE);
        _theirs.payOut(EVSE, 1_000);
        vm.stopPrank();

        assertEq(token.balanceOf(THIEF), 1_000, "another driver's money");
    }

    function test_HereABatchAnAgreementAndACaseAreNeverOverwritten() public {
        book.propose("batch", _statements, _nobody());
        PairStatement[] memory others = _batchOf(_statement(_agreement, 1, 0, 1));
        vm.expectRevert(abi.encodeWithSelector(ISettlementBook.SettlementBookBatchExists.selector, bytes32("batch")));
        book.propose("batch", others, _nobody());
        vm.expectRevert(
            abi.encodeWithSelector(ISettlementBook.SettlementBookOtherStatements.selector, bytes32("batch"))
        );
        book.fund("batch", others);
        vm.expectRevert(abi.encodeWithSelector(ISettlementBook.SettlementBookKnownAgreement.selector, _agreement));
        this.openAgain();
        (DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory leaf) =
            _stating(_leaf("cdr"), 120_000);
        bytes32 id = _demand(stated, leaf, MSP);
        vm.expectRevert(
            abi.encodeWithSelector(
                IDisputeResolver.DisputeResolverWrongStage.selector, id, IDisputeResolver.Stage.DEMANDED
            )
        );
        this.quarrel(stated, leaf);
    }

    // UNDERFLOW

    function test_ThereAPriceAboveTheEstimateEmptiesThePot() public {
        _start(THIEF, THIEF, 100);
        _mintTo(address(_theirs), 9_900, address(0));

        vm.startPrank(THIEF);
        _theirs.confirmStart(EVSE);
        _theirs.setDelivered(EVSE);
        _theirs.payOut(EVSE, 101);
        vm.stopPrank();

        assertEq(token.balanceOf(THIEF), 10_000, "all that was there");
    }

    function testFuzz_HereCreditAboveDueMovesExactlyTheDifference(uint64 dueE4, uint64 creditE4) public {
        (dueE4, creditE4) = (uint64(bound(dueE4, 0, BONDS)), uint64(bound(creditE4, 0, BONDS)));
        _statements[0] = _statement(_agreement, dueE4, creditE4, 1);

        book.propose("batch", _statements, _acceptances("batch", _statements, CPO, MSP, 1));

        assertEq(_finalPairs("batch", 1), 1, "final");
        assertEq(vault.balanceOf(CPO), BONDS + dueE4 - creditE4, "the CPO's");
        assertEq(vault.balanceOf(MSP), BONDS + creditE4 - dueE4, "the MSP's");
    }

    function test_HereWhatIsNotCoveredMovesNothing() public {
        _statements[0] = _statement(_agreement, uint64(BONDS) + 1, 0, 1);

        book.propose("batch", _statements, _acceptances("batch", _statements, CPO, MSP, 1));

        assertEq(_finalPairs("batch", 1), 0, "it waits");
        assertEq(vault.balanceOf(MSP), BONDS, "nothing moved");
    }

    // THE CALLER'S TOKEN

    function test_ThereOnePaysInMoneyOfOnesOwnMaking() public {
        vm.startPrank(THIEF);
        EmbeddedCurrency worthless = new EmbeddedCurrency("Worthless", "W", THIEF);
        worthless.mint(THIEF, 1_000);
        worthless.approve(address(_theirs), 1_000);
        _theirs.requestStart(EVSE, _signer(CPO), worthless, 1_000);
        _theirs.confirmStart(EVSE);
        _theirs.setDelivered(EVSE);
        _theirs.payOut(EVSE, 1_000);
        vm.stopPrank();

        assertEq(worthless.balanceOf(_signer(CPO)), 1_000, "a charge paid with nothing");
    }

    function test_HereTheVaultTakesItsOwnTokenAlone() public {
        vm.startPrank(THIEF);
        EmbeddedCurrency worthless = new EmbeddedCurrency("Worthless", "W", THIEF);
        worthless.mint(THIEF, 1_000);
        worthless.approve(address(vault), 1_000);
        vm.expectRevert(
            abi.encodeWithSelector(IERC20Errors.ERC20InsufficientAllowance.selector, address(vault), 0, 1_000)
        );
        vault.deposit(MSP, 1_000);
        vm.stopPrank();

        assertEq(vault.balanceOf(MSP), BONDS, "no collateral");
        assertEq(address(vault.token()), address(token), "fixed when it was deployed");
    }

    function openAgain() external {
        _openPrefunded(CPO, MSP);
    }

    function quarrel(DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory leaf) external {
        _quarrel(stated, leaf, MSP, 1);
    }

    /// @dev Has `driver` pay an estimate into their contract for a charge at `station`.
    function _start(address driver, address station, uint256 amount) private {
        _mintTo(driver, amount, address(_theirs));
        vm.prank(driver);
        _theirs.requestStart(EVSE, station, token, amount);
    }

    function _mintTo(address owner, uint256 amount, address spender) private {
        token.mint(owner, amount);
        vm.prank(owner);
        token.approve(spender == address(0) ? address(1) : spender, amount);
    }

    function _bare(bytes32 digest) private pure returns (bytes32 r, bytes32 vs) {
        uint8 v;
        bytes32 s;
        (v, r, s) = vm.sign(_key(MSP), digest);
        vs = bytes32(uint256(s) | (uint256(v - 27) << 255));
    }
}
