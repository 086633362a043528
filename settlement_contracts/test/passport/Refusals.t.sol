// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAccessControl} from "@openzeppelin/contracts/access/IAccessControl.sol";
import {IERC721Errors} from "@openzeppelin/contracts/interfaces/draft-IERC6093.sol";
import {IERC721} from "@openzeppelin/contracts/token/ERC721/IERC721.sol";
import {IBatteryPassport} from "../../src/interfaces/IBatteryPassport.sol";
import {Signature} from "../../src/types/Signature.sol";
import {Passports} from "../base/Passports.sol";

/// @notice What passports must refuse, and with which words: one line per case.
contract PassportRefusalsTest is Passports {
    IBatteryPassport.Status private constant ORIGINAL = IBatteryPassport.Status.ORIGINAL;
    IBatteryPassport.Status private constant REUSED = IBatteryPassport.Status.REUSED;
    IBatteryPassport.Status private constant WASTE = IBatteryPassport.Status.WASTE;
    address private constant STRANGER = address(0xbad);

    error WasNotRefused(string what);
    error WasRefusedOtherwise(string what, bytes answer);

    function setUp() public override {
        super.setUp();
        _issue(1, 1);
        _issue(2, 2);
    }

    function test_WhoMayIssue() public {
        bytes memory issued = abi.encodeCall(passports.issue, (9, STRANGER, NOW, "x"));
        bytes memory missing = abi.encodeWithSelector(
            IAccessControl.AccessControlUnauthorizedAccount.selector, STRANGER, passports.ISSUER_ROLE()
        );
        _refused("a stranger", STRANGER, issued, missing);
        bytes memory twice = abi.encodeWithSelector(IERC721Errors.ERC721InvalidSender.selector, 0);
        _refused("a battery twice", address(this), abi.encodeCall(passports.issue, (1, STRANGER, NOW, "x")), twice);
        bytes memory late = _moment(9, 0, NOW + 1);
        _refused("one to come", address(this), abi.encodeCall(passports.issue, (9, STRANGER, NOW + 1, "x")), late);
        bytes memory none = abi.encodeWithSelector(IERC721Errors.ERC721NonexistentToken.selector, 9);
        _refused("one that is not", STRANGER, abi.encodeCall(passports.passport, (9)), none);
    }

    function test_WhoMayAppendAndWhen() public {
        bytes memory charged = _appending(1, IBatteryPassport.Kind.CHARGED, ORIGINAL, NOW);
        _refused("another than the custodian", _account(2), charged, _notCustodian(1, _account(2)));
        IBatteryPassport.Entry[] memory entries = new IBatteryPassport.Entry[](2);
        entries[0] = _entry(1, IBatteryPassport.Kind.CHARGED, ORIGINAL, NOW);
        entries[1] = _entry(2, IBatteryPassport.Kind.CHARGED, ORIGINAL, NOW);
        bytes memory both = abi.encodeCall(passports.append, (entries));
        _refused("one of another's among one's own", _account(1), both, _notCustodian(2, _account(1)));
        bytes memory past = _appending(1, IBatteryPassport.Kind.CHARGED, ORIGINAL, NOW - 101);
        _refused("the past", _account(1), past, _moment(1, NOW - 100, NOW - 101));
        bytes memory future = _appending(1, IBatteryPassport.Kind.CHARGED, ORIGINAL, NOW + 1);
        _refused("the future", _account(1), future, _moment(1, NOW - 100, NOW + 1));
    }

    function test_NobodyAloneTellsOfAHandOver() public {
        _refused(
            "the custodian",
            _account(1),
            _as(IBatteryPassport.Kind.OWNERSHIP, ORIGINAL),
            _order(1, IBatteryPassport.Phase.STORED, IBatteryPassport.Kind.OWNERSHIP)
        );
    }

    function test_StatusesGoForward() public {
        _refused(
            "another status without a cause", _account(1), _as(IBatteryPassport.Kind.CHARGED, REUSED), _status(0, 2)
        );
        _refused("used at retirement", _account(1), _as(IBatteryPassport.Kind.RETIRED, REUSED), _status(0, 2));
        _happens(1, 1, IBatteryPassport.Kind.RETIRED, ORIGINAL);
        _refused("original a second time", _account(1), _as(IBatteryPassport.Kind.SECOND_LIFE, ORIGINAL), _status(0, 0));
        _refused("waste with a second life", _account(1), _as(IBatteryPassport.Kind.SECOND_LIFE, WASTE), _status(0, 4));
        _refused("recycled and no waste", _account(1), _as(IBatteryPassport.Kind.RECYCLED, ORIGINAL), _status(0, 0));
        _happens(1, 1, IBatteryPassport.Kind.SECOND_LIFE, REUSED);
        _refused("original again", _account(1), _as(IBatteryPassport.Kind.CHARGED, ORIGINAL), _status(2, 0));
        _happens(1, 1, IBatteryPassport.Kind.RETIRED, WASTE);
        _refused("no longer waste", _account(1), _as(IBatteryPassport.Kind.SECOND_LIFE, REUSED), _status(4, 2));
    }

    function test_NothingComesAfterTheEnd() public {
        _happens(1, 1, IBatteryPassport.Kind.RETIRED, WASTE);
        _happens(1, 1, IBatteryPassport.Kind.RECYCLED, WASTE);
        for (uint8 kind = 0; kind < 14; ++kind) {
            _refused(
                "after the end",
                _account(1),
                _as(IBatteryPassport.Kind(kind), WASTE),
                _order(1, IBatteryPassport.Phase.RECYCLED, IBatteryPassport.Kind(kind))
            );
        }
        uint256[] memory ids = _ids(1, 1);
        _refused(
            "in other hands",
            STRANGER,
            _handing(ids, 1, 2, 0, NOW, 1, 2),
            _order(1, IBatteryPassport.Phase.RECYCLED, IBatteryPassport.Kind.OWNERSHIP)
        );
    }

    function test_CustodyNeedsBoth() public {
        bytes memory closed = abi.encodeWithSelector(IBatteryPassport.BatteryPassportCustodyNeedsBoth.selector);
        address one = _account(1);
        _refused("a transfer", one, abi.encodeCall(IERC721.transferFrom, (one, STRANGER, 1)), closed);
        bytes memory safe = abi.encodeWithSignature("safeTransferFrom(address,address,uint256)", one, STRANGER, 1);
        _refused("a safe transfer", one, safe, closed);
        safe = abi.encodeWithSignature("safeTransferFrom(address,address,uint256,bytes)", one, STRANGER, 1, "");
        _refused("a safe transfer with data", one, safe, closed);
        _refused("an approval", one, abi.encodeCall(IERC721.approve, (STRANGER, 1)), closed);
        _refused("an operator", one, abi.encodeCall(IERC721.setApprovalForAll, (STRANGER, true)), closed);
        uint256[] memory ids = _ids(1, 1);
        _refused("the holder alone", STRANGER, _handing(ids, 1, 2, 0, NOW, 1, 1), _wrong(2));
        _refused("the receiver alone", STRANGER, _handing(ids, 1, 2, 0, NOW, 2, 2), _wrong(1));
        _refused("another nonce", STRANGER, _handing(ids, 1, 2, 1, NOW, 1, 2), _wrong(1));
        bytes memory expired = abi.encodeWithSelector(IBatteryPassport.BatteryPassportExpired.selector, NOW - 1);
        _refused("late", STRANGER, _handing(ids, 1, 2, 0, NOW - 1, 1, 2), expired);
        _refused("another's among them", STRANGER, _handing(_ids(1, 2), 1, 2, 0, NOW, 1, 2), _notCustodian(2, one));
        _refused("none", STRANGER, _handing(_ids(1, 0), 1, 2, 0, NOW, 1, 2), _count(0));
        _refused("too many", STRANGER, _handing(_ids(1, 257), 1, 2, 0, NOW, 1, 2), _count(257));
        uint256[] memory twice = new uint256[](2);
        (twice[0], twice[1]) = (1, 1);
        _refused("one twice", STRANGER, _handing(twice, 1, 2, 0, NOW, 1, 2), _notCustodian(1, one));
        bytes memory handed = _handing(ids, 1, 2, 0, NOW, 1, 2);
        (bool done,) = address(passports).call(handed);
        assertTrue(done, "both signed");
        _handOver(ids, 2, 1);
        _refused("the same signatures again", STRANGER, handed, _wrong(1));
    }

    function test_SuccessionsAreOfRetiredOnesAndNewOnes() public {
        address one = _account(1);
        _issue(3, 1);
        bytes memory successors = abi.encodeCall(passports.succeedBy, (_ids(1, 1), _ids(3, 1), NOW, "x"));
        _refused(
            "of one in use", one, successors, _order(1, IBatteryPassport.Phase.STORED, IBatteryPassport.Kind.SUCCEEDED)
        );
        _happens(1, 1, IBatteryPassport.Kind.RETIRED, ORIGINAL);
        _refused("by another", _account(2), successors, _notCustodian(1, _account(2)));
        bytes memory others = abi.encodeCall(passports.succeedBy, (_ids(1, 1), _ids(2, 1), NOW, "x"));
        _refused("into another's", one, others, _notCustodian(2, one));
        bytes memory none = abi.encodeCall(passports.succeedBy, (_ids(1, 0), _ids(3, 1), NOW, "x"));
        _refused("of none", one, none, _count(0));
        none = abi.encodeCall(passports.succeedBy, (_ids(1, 1), _ids(3, 257), NOW, "x"));
        _refused("into too many", one, none, _count(257));
        bytes memory late = abi.encodeCall(passports.succeedBy, (_ids(1, 1), _ids(3, 1), NOW + 1, "x"));
        _refused("to come", one, late, _moment(1, NOW, NOW + 1));
        _happens(1, 3, IBatteryPassport.Kind.CHARGED, ORIGINAL);
        _refused(
            "into one in use", one, successors, _order(3, IBatteryPassport.Phase.STORED, IBatteryPassport.Kind.MADE_OF)
        );
    }

    // CALLS AND ANSWERS

    function _as(IBatteryPassport.Kind kind, IBatteryPassport.Status status) private pure returns (bytes memory) {
        return _appending(1, kind, status, NOW);
    }

    function _appending(uint256 id, IBatteryPassport.Kind kind, IBatteryPassport.Status status, uint40 happenedAt)
        private
        pure
        returns (bytes memory)
    {
        return abi.encodeCall(IBatteryPassport.append, (_one(_entry(id, kind, status, happenedAt))));
    }

    function _handing(
        uint256[] memory ids,
        uint32 from,
        uint32 to,
        uint256 nonce,
        uint64 deadline,
        uint32 first,
        uint32 second
    ) private view returns (bytes memory) {
        Signature memory byHolder = _signedCustody(ids, from, to, nonce, deadline, first);
        Signature memory byReceiver = _signedCustody(ids, from, to, nonce, deadline, second);
        return
            abi.encodeCall(IBatteryPassport.transferCustody, (ids, _account(to), nonce, deadline, byHolder, byReceiver));
    }

    function _notCustodian(uint256 id, address account) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IBatteryPassport.BatteryPassportNotCustodian.selector, id, account);
    }

    function _moment(uint256 id, uint40 last, uint40 next) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IBatteryPassport.BatteryPassportUnlikelyMoment.selector, id, last, next);
    }

    function _status(uint8 from, uint8 to) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IBatteryPassport.BatteryPassportUnsuitableStatus.selector, 1, from, to);
    }

    function _order(uint256 id, IBatteryPassport.Phase phase, IBatteryPassport.Kind kind)
        private
        pure
        returns (bytes memory)
    {
        return abi.encodeWithSelector(IBatteryPassport.BatteryPassportOutOfOrder.selector, id, phase, uint256(kind));
    }

    function _wrong(uint32 account) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IBatteryPassport.BatteryPassportWrongSigner.selector, _account(account));
    }

    function _count(uint256 count) private pure returns (bytes memory) {
        return abi.encodeWithSelector(IBatteryPassport.BatteryPassportUnsuitableCount.selector, count);
    }

    function _refused(string memory what, address sender, bytes memory called, bytes memory expected) private {
        vm.prank(sender);
        (bool done, bytes memory answer) = address(passports).call(called);
        if (done) revert WasNotRefused(what);
        if (keccak256(answer) != keccak256(expected)) revert WasRefusedOtherwise(what, answer);
    }
}
