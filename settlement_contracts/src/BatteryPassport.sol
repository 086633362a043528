// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {IERC165} from "@openzeppelin/contracts/utils/introspection/IERC165.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {IERC721} from "@openzeppelin/contracts/token/ERC721/IERC721.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {IBatteryPassport} from "./interfaces/IBatteryPassport.sol";
import {Happening, packHappening} from "./types/Happening.sol";
import {Life, packLife} from "./types/Life.sol";
import {Signature} from "./types/Signature.sol";

/// @notice See {IBatteryPassport}.
contract BatteryPassport is IBatteryPassport, ERC721, AccessControl, EIP712 {
    /// @notice Who issues passports.
    bytes32 public constant ISSUER_ROLE = keccak256("ISSUER_ROLE");
    /// @notice Most batteries on one side of a hand-over or a succession.
    uint256 public constant MAX_TOGETHER = 256;

    bytes32 private constant CUSTODY_TYPEHASH =
        keccak256("CustodyTransfer(uint256[] ids,address from,address to,uint256 nonce,uint64 deadline)");

    /// @dev Which kind is taken in which phase, and what phase comes of it: 64 bits a phase (STORED lowest), four bits a
    /// kind (MANUFACTURED lowest), `REFUSED` where it does not happen. Nothing happens to what is RECYCLED.
    uint256 private constant LIFE = (uint256(0xffff4fffffffffff) << 192) | (uint256(0xffff40f2222fffff) << 128)
        | (uint256(0xffffff2111110fff) << 64) | 0xffffff200000f11f;
    uint256 private constant REFUSED = 0xf;

    mapping(uint256 id => Life) private _lives;
    /// @inheritdoc IBatteryPassport
    mapping(address holder => uint256) public nonceOf;

    constructor(address admin) ERC721("Battery passport", "BATTERY") EIP712("BatteryPassport", "1") {
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
    }

    /// @inheritdoc IBatteryPassport
    function issue(uint256 id, address custodian, uint40 happenedAt, bytes32 commitment)
        external
        onlyRole(ISSUER_ROLE)
    {
        _mint(custodian, id);
        Happening made = packHappening(uint8(Kind.MANUFACTURED), uint8(Status.ORIGINAL), happenedAt);
        _record(id, _lives[id], made, Phase.STORED, custodian, commitment);
    }

    /// @inheritdoc IBatteryPassport
    function append(Entry[] calldata entries) external {
        for (uint256 i = 0; i < entries.length; ++i) {
            Entry calldata entry = entries[i];
            (uint256 id, Happening what) = (entry.id, entry.what);
            Life life = _custodyOf(id, msg.sender);
            // Told by a hand-over alone, which both sign.
            if (what.kind() == uint8(Kind.OWNERSHIP)) _refuse(id, life, what.kind());
            Phase phase = _after(id, life, what.kind());
            _requireStatus(id, life, what);
            _record(id, life, what, phase, msg.sender, entry.commitment);
        }
    }

    /// @inheritdoc IBatteryPassport
    function transferCustody(
        uint256[] calldata ids,
        address to,
        uint256 nonce,
        uint64 deadline,
        Signature calldata byHolder,
        Signature calldata byReceiver
    ) external {
        _requireCount(ids.length);
        address from = _requireOwned(ids[0]);
        if (block.timestamp > deadline) revert BatteryPassportExpired(deadline);
        bytes32 structHash =
            keccak256(abi.encode(CUSTODY_TYPEHASH, keccak256(abi.encodePacked(ids)), from, to, nonce, deadline));
        bytes32 digest = _hashTypedDataV4(structHash);
        if (nonce != nonceOf[from]++) revert BatteryPassportWrongSigner(from);
        _requireSignature(from, digest, byHolder);
        _requireSignature(to, digest, byReceiver);
        _handOver(ids, from, to, structHash);
    }

    /// @inheritdoc IBatteryPassport
    function succeedBy(uint256[] calldata from, uint256[] calldata to, uint40 happenedAt, bytes32 commitment) external {
        _requireCount(from.length);
        _requireCount(to.length);
        bytes32 link =
            keccak256(abi.encode(commitment, keccak256(abi.encodePacked(from)), keccak256(abi.encodePacked(to))));
        emit Succession(link, from, to);
        for (uint256 i = 0; i < from.length; ++i) {
            Life life = _custodyOf(from[i], msg.sender);
            if (life.phase() != uint8(Phase.RETIRED)) _refuse(from[i], life, uint8(Kind.SUCCEEDED));
            Happening what = packHappening(uint8(Kind.SUCCEEDED), life.status(), happenedAt);
            _record(from[i], life, what, Phase.SUCCEEDED, msg.sender, link);
        }
        for (uint256 i = 0; i < to.length; ++i) {
            Life life = _custodyOf(to[i], msg.sender);
            if (life.entries() != 1) _refuse(to[i], life, uint8(Kind.MADE_OF));
            Happening what = packHappening(uint8(Kind.MADE_OF), life.status(), happenedAt);
            _record(to[i], life, what, Phase.STORED, msg.sender, link);
        }
    }

    /// @inheritdoc IBatteryPassport
    function passport(uint256 id) external view returns (Passport memory) {
        _requireOwned(id);
        Life life = _lives[id];
        return Passport({
            head: life.head(),
            happenedAt: life.happenedAt(),
            entries: life.entries(),
            status: Status(life.status()),
            phase: Phase(life.phase())
        });
    }

    // THE TOKEN'S OWN WAYS, CLOSED

    /// @inheritdoc IERC721
    function approve(address, uint256) public pure override(ERC721, IERC721) {
        revert BatteryPassportCustodyNeedsBoth();
    }

    /// @inheritdoc IERC721
    function setApprovalForAll(address, bool) public pure override(ERC721, IERC721) {
        revert BatteryPassportCustodyNeedsBoth();
    }

    /// @inheritdoc IERC165
    function supportsInterface(bytes4 interfaceId) public view override(IERC165, ERC721, AccessControl) returns (bool) {
        return interfaceId == type(IBatteryPassport).interfaceId || super.supportsInterface(interfaceId);
    }

    /// @dev The token's own transfers name who asks; ours and issuing name nobody.
    function _update(address to, uint256 id, address auth) internal override returns (address) {
        if (auth != address(0)) revert BatteryPassportCustodyNeedsBoth();
        return super._update(to, id, auth);
    }

    // HOW A LIFE GOES

    /// @dev The phase after `kind` happened; reverts where it does not happen.
    function _after(uint256 id, Life life, uint256 kind) private pure returns (Phase) {
        uint256 phase = life.phase();
        if (phase >= uint8(Phase.RECYCLED) || kind > 15) _refuse(id, life, kind);
        uint256 next = (LIFE >> ((phase << 6) | (kind << 2))) & REFUSED;
        if (next == REFUSED) _refuse(id, life, kind);
        return Phase(next);
    }

    function _refuse(uint256 id, Life life, uint256 kind) private pure {
        revert BatteryPassportOutOfOrder(id, Phase(life.phase()), kind);
    }

    function _requireStatus(uint256 id, Life life, Happening what) private pure {
        uint8 from = life.status();
        uint8 to = what.status();
        uint256 kind = what.kind();
        bool suits = from == to;
        if (suits && kind < uint8(Kind.SECOND_LIFE)) return;
        if (kind == uint8(Kind.SECOND_LIFE)) {
            suits = from != uint8(Status.WASTE) && to > uint8(Status.ORIGINAL) && to < uint8(Status.WASTE);
        } else if (kind == uint8(Kind.RETIRED)) {
            suits = suits || to == uint8(Status.WASTE);
        } else if (kind == uint8(Kind.RECYCLED)) {
            suits = to == uint8(Status.WASTE);
        }
        if (!suits) revert BatteryPassportUnsuitableStatus(id, Status(from), to);
    }

    function _record(uint256 id, Life life, Happening what, Phase phase, address custodian, bytes32 commitment)
        private
    {
        uint40 happenedAt = what.happenedAt();
        if (happenedAt < life.happenedAt() || happenedAt > block.timestamp) {
            revert BatteryPassportUnlikelyMoment(id, life.happenedAt(), happenedAt);
        }
        uint16 entries = life.entries();
        if (entries == type(uint16).max) revert BatteryPassportTooManyEntries(id);
        uint256 told = what.by(custodian);
        bytes24 head = _chained(life.head(), id, told, commitment);
        unchecked {
            _lives[id] = packLife(head, happenedAt, entries + 1, what.status(), uint8(phase));
        }
        emit LifecycleRecorded(id, told, commitment);
    }

    /// @dev keccak(head || id || told || commitment), cut to a head, without taking memory for each of many.
    function _chained(bytes24 head, uint256 id, uint256 told, bytes32 commitment) private pure returns (bytes24 next) {
        assembly ("memory-safe") {
            let free := mload(0x40)
            mstore(free, head)
            mstore(add(free, 0x20), id)
            mstore(add(free, 0x40), told)
            mstore(add(free, 0x60), commitment)
            next := and(keccak256(free, 0x80), not(0xffffffffffffffff))
        }
    }

    function _handOver(uint256[] calldata ids, address from, address to, bytes32 word) private {
        for (uint256 i = 0; i < ids.length; ++i) {
            uint256 id = ids[i];
            Life life = _custodyOf(id, from);
            Phase phase = _after(id, life, uint8(Kind.OWNERSHIP));
            // slither-disable-next-line unused-return (who had it before is known)
            _update(to, id, address(0));
            Happening what = packHappening(uint8(Kind.OWNERSHIP), life.status(), uint40(block.timestamp));
            _record(id, life, what, phase, to, word);
        }
    }

    /// @dev Where the life of a battery stands that `account` has custody of.
    function _custodyOf(uint256 id, address account) private view returns (Life) {
        if (_ownerOf(id) != account) revert BatteryPassportNotCustodian(id, account);
        return _lives[id];
    }

    function _requireCount(uint256 count) private pure {
        if (count == 0 || count > MAX_TOGETHER) revert BatteryPassportUnsuitableCount(count);
    }

    function _requireSignature(address account, bytes32 digest, Signature calldata signature) private pure {
        // slither-disable-next-line unused-return (what can't be recovered is address 0, which has no custody)
        (address recovered,,) = ECDSA.tryRecover(digest, signature.r, signature.vs);
        if (recovered == address(0) || recovered != account) revert BatteryPassportWrongSigner(account);
    }
}
