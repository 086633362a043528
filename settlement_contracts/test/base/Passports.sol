// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {BatteryPassport} from "../../src/BatteryPassport.sol";
import {IBatteryPassport} from "../../src/interfaces/IBatteryPassport.sol";
import {packHappening} from "../../src/types/Happening.sol";
import {Signature} from "../../src/types/Signature.sol";
import {Test} from "./Test.sol";

/// @notice Passports in place; heads and digests are built here by hand.
abstract contract Passports is Test {
    uint40 internal constant NOW = 1_800_000_000;
    BatteryPassport internal passports;

    function setUp() public virtual {
        vm.warp(NOW);
        passports = new BatteryPassport(address(this));
        passports.grantRole(passports.ISSUER_ROLE(), address(this));
    }

    function _key(uint32 account) internal pure returns (uint256) {
        return 3000 + account;
    }

    function _account(uint32 account) internal pure returns (address) {
        return vm.addr(_key(account));
    }

    function _entry(uint256 id, IBatteryPassport.Kind kind, IBatteryPassport.Status status, uint40 happenedAt)
        internal
        pure
        returns (IBatteryPassport.Entry memory)
    {
        return IBatteryPassport.Entry({
            id: id,
            what: packHappening(uint8(kind), uint8(status), happenedAt),
            commitment: keccak256(abi.encode(id, kind, happenedAt))
        });
    }

    function _one(IBatteryPassport.Entry memory entry) internal pure returns (IBatteryPassport.Entry[] memory entries) {
        entries = new IBatteryPassport.Entry[](1);
        entries[0] = entry;
    }

    function _happens(uint32 account, uint256 id, IBatteryPassport.Kind kind, IBatteryPassport.Status status) internal {
        vm.prank(_account(account));
        passports.append(_one(_entry(id, kind, status, NOW)));
    }

    function _issue(uint256 id, uint32 account) internal {
        passports.issue(id, _account(account), NOW - 100, "made");
    }

    function _ids(uint256 first, uint256 count) internal pure returns (uint256[] memory ids) {
        ids = new uint256[](count);
        for (uint256 i = 0; i < count; ++i) {
            ids[i] = first + i;
        }
    }

    function _chained(
        bytes24 head,
        uint256 id,
        IBatteryPassport.Kind kind,
        IBatteryPassport.Status status,
        uint40 happenedAt,
        address custodian,
        bytes32 commitment
    ) internal pure returns (bytes24) {
        uint256 what = uint256(uint160(custodian)) | uint256(happenedAt) << 160 | uint256(status) << 200 | uint256(kind)
            << 208;
        return bytes24(keccak256(abi.encode(bytes32(head), id, what, commitment)));
    }

    function _custodyStruct(uint256[] memory ids, address from, address to, uint256 nonce, uint64 deadline)
        internal
        pure
        returns (bytes32)
    {
        bytes32 typehash =
            keccak256("CustodyTransfer(uint256[] ids,address from,address to,uint256 nonce,uint64 deadline)");
        return keccak256(abi.encode(typehash, keccak256(abi.encodePacked(ids)), from, to, nonce, deadline));
    }

    function _signedCustody(uint256[] memory ids, uint32 from, uint32 to, uint256 nonce, uint64 deadline, uint32 signer)
        internal
        view
        returns (Signature memory)
    {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("BatteryPassport"),
                keccak256("1"),
                block.chainid,
                address(passports)
            )
        );
        bytes32 structHash = _custodyStruct(ids, _account(from), _account(to), nonce, deadline);
        (uint8 v, bytes32 r, bytes32 s) =
            vm.sign(_key(signer), keccak256(abi.encodePacked(hex"1901", domain, structHash)));
        return Signature({r: r, vs: bytes32(uint256(s) | (uint256(v - 27) << 255))});
    }

    function _handOver(uint256[] memory ids, uint32 from, uint32 to) internal {
        uint256 nonce = passports.nonceOf(_account(from));
        passports.transferCustody(
            ids,
            _account(to),
            nonce,
            uint64(block.timestamp),
            _signedCustody(ids, from, to, nonce, uint64(block.timestamp), from),
            _signedCustody(ids, from, to, nonce, uint64(block.timestamp), to)
        );
    }
}
