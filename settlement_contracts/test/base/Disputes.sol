// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {CollateralVault} from "../../src/CollateralVault.sol";
import {DisputeResolver} from "../../src/disputes/DisputeResolver.sol";
import {EmbeddedCurrency} from "../../src/EmbeddedCurrency.sol";
import {MeterEvidence} from "../../src/MeterEvidence.sol";
import {PartyRegistry} from "../../src/PartyRegistry.sol";
import {RoleArbiter} from "../../src/RoleArbiter.sol";
import {IArbiter} from "../../src/interfaces/IArbiter.sol";
import {ICollateralVault} from "../../src/interfaces/ICollateralVault.sol";
import {IDisputeResolver} from "../../src/interfaces/IDisputeResolver.sol";
import {IMeterEvidence} from "../../src/interfaces/IMeterEvidence.sol";
import {IPartyRegistry} from "../../src/interfaces/IPartyRegistry.sol";
import {EvidenceLeaf} from "../../src/trees/EvidenceTree.sol";
import {SumNode} from "../../src/trees/SumTree.sol";
import {Signature} from "../../src/types/Signature.sol";
import {MeterRecords} from "./MeterRecords.sol";
import {ReferenceTrees} from "./ReferenceTrees.sol";
import {Settlement} from "./Settlement.sol";

/// @notice A resolver whose book believes every opening, so that tests state what they like, and adds corrections up.
contract OpenResolver is DisputeResolver {
    /// @notice What was added to what a pair's MSP owes, in ten-thousandths.
    mapping(uint64 pair => int256) public correctedE4;
    /// @notice How many statements were voided.
    uint256 public voided;

    constructor(IPartyRegistry registry_, ICollateralVault vault_, IMeterEvidence evidence_, IArbiter arbiter_)
        DisputeResolver(registry_, vault_, evidence_, arbiter_, 5_000, 50_000)
    {}

    function _stated(bytes calldata opening) internal pure override returns (Stated memory) {
        return abi.decode(opening, (Stated));
    }

    function _correct(uint64 pair, uint32, uint32, int64 amountE4) internal override {
        correctedE4[pair] += amountE4;
    }

    function _void(bytes calldata) internal override {
        ++voided;
    }
}

/// @notice Statements with leaves, parties with bonds, and an arbiter.
abstract contract Disputes is Settlement, MeterRecords {
    uint32 internal constant CPO = 1;
    uint32 internal constant MSP = 2;
    uint32 internal constant STRANGER = 3;
    uint64 internal constant PAIR = 77;
    uint64 internal constant DEMAND_BOND = 5_000;
    uint64 internal constant QUARREL_BOND = 50_000;
    uint64 internal constant BONDS = 1_000_000;
    bytes32 internal constant SALT = keccak256("salt");

    MeterEvidence internal evidence;
    RoleArbiter internal arbiter;
    OpenResolver internal resolver;
    address private _heardBy;

    function setUp() public virtual override {
        super.setUp();
        evidence = new MeterEvidence();
        arbiter = new RoleArbiter(address(this));
        arbiter.grantRole(arbiter.ARBITER_ROLE(), address(this));
        resolver = new OpenResolver(registry, vault, evidence, arbiter);
        _speakTo(resolver);
        vault.grantRole(vault.BOOK_ROLE(), address(resolver));
        _registerParties(3);
        _deposit(CPO, BONDS);
        _deposit(MSP, BONDS);
    }

    // LEAVES AND STATEMENTS

    function _leaf(bytes32 key) internal pure returns (EvidenceLeaf memory) {
        return EvidenceLeaf({
            kind: 0, cdrKey: key, importWh: 30_011, exportWh: 0, commitment: keccak256(abi.encode(key)), meter: 0
        });
    }

    /// @dev The leaf of a charge of 30,011 Wh that commits to a record.
    function _metered(bytes32 key, bytes memory record) internal pure returns (EvidenceLeaf memory leaf) {
        leaf = _leaf(key);
        leaf.meter = keccak256(bytes.concat(hex"03", SALT, record));
    }

    /// @dev A statement of `count` leaves, with `leaf` and its amounts at `index`, and how it is opened.
    function _stating(EvidenceLeaf memory leaf, int64 netE4, uint256 count, uint256 index, uint32 sequence)
        internal
        pure
        returns (DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory placed)
    {
        SumNode[] memory leaves = new SumNode[](count);
        for (uint256 i = 0; i < count; ++i) {
            bool isIt = i == index;
            bytes32 hash = isIt ? _hashOf(leaf) : keccak256(abi.encode("other", sequence, i));
            leaves[i] = _sumLeaf(hash, isIt ? netE4 : int64(int256(1_000 + i)));
        }
        SumNode memory root = ReferenceTrees.sumRoot(leaves);
        placed = IDisputeResolver.PlacedLeaf({
            leaf: leaf,
            dueE4: netE4 > 0 ? uint64(netE4) : 0,
            creditE4: netE4 < 0 ? uint64(-netE4) : 0,
            index: index,
            siblings: ReferenceTrees.pack(ReferenceTrees.sumProof(leaves, index))
        });
        stated = DisputeResolver.Stated({
            id: keccak256(abi.encode(root.hash, sequence)),
            pair: PAIR,
            cpo: CPO,
            msp: MSP,
            evidenceRoot: ReferenceTrees.root(_evidence(leaf, count, index, sequence)),
            sumRoot: root.hash,
            dueE4: root.dueE4,
            creditE4: root.creditE4,
            count: uint32(count),
            sequence: sequence,
            periodEnd: uint40(NOW - 1 days + sequence),
            isFinal: true
        });
    }

    function _stating(EvidenceLeaf memory leaf, int64 netE4)
        internal
        pure
        returns (DisputeResolver.Stated memory, IDisputeResolver.PlacedLeaf memory)
    {
        return _stating(leaf, netE4, 5, 2, 1);
    }

    /// @dev The evidence leaves of the same statement.
    function _evidence(EvidenceLeaf memory leaf, uint256 count, uint256 index, uint32 sequence)
        internal
        pure
        returns (bytes32[] memory hashes)
    {
        hashes = new bytes32[](count);
        for (uint256 i = 0; i < count; ++i) {
            hashes[i] = i == index ? _hashOf(leaf) : keccak256(abi.encode("other", sequence, i));
        }
    }

    function _hashOf(EvidenceLeaf memory leaf) internal pure returns (bytes32) {
        return keccak256(
            bytes.concat(
                hex"00",
                bytes1(leaf.kind),
                leaf.cdrKey,
                bytes8(leaf.importWh),
                bytes8(leaf.exportWh),
                leaf.commitment,
                leaf.meter
            )
        );
    }

    function _sumLeaf(bytes32 hash, int64 netE4) private pure returns (SumNode memory) {
        (uint64 dueE4, uint64 creditE4) = netE4 > 0 ? (uint64(netE4), uint64(0)) : (0, uint64(-netE4));
        return SumNode(keccak256(bytes.concat(hex"00", hash, bytes8(dueE4), bytes8(creditE4))), dueE4, creditE4);
    }

    function _id(DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory placed)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(stated.id, _hashOf(placed.leaf)));
    }

    // WORDS

    /// @dev Has parties sign for another resolver from now on.
    function _speakTo(DisputeResolver other) internal {
        _heardBy = address(other);
    }

    function _demandWord(bytes32 id, uint32 party) internal view returns (IDisputeResolver.Word memory) {
        return _word("Demand(bytes32 id,uint32 party,uint40 deadline)", id, party);
    }

    function _defence(bytes32 id, uint32 party) internal view returns (IDisputeResolver.Word memory) {
        return _word("Defence(bytes32 id,uint32 party,uint40 deadline)", id, party);
    }

    function _quarrelWord(bytes32 id, uint32 party, int64 claimedE4)
        internal
        view
        returns (IDisputeResolver.Word memory)
    {
        bytes32 typehash = keccak256("Quarrel(bytes32 id,uint32 party,int64 claimedE4,uint40 deadline)");
        return _signedWord(keccak256(abi.encode(typehash, id, party, claimedE4, _until())), party);
    }

    function _word(bytes memory form, bytes32 id, uint32 party) private view returns (IDisputeResolver.Word memory) {
        return _signedWord(keccak256(abi.encode(keccak256(form), id, party, _until())), party);
    }

    function _signedWord(bytes32 structHash, uint32 party) private view returns (IDisputeResolver.Word memory) {
        Signature memory signature = _sign(_key(party), _digest(_heardBy, "DisputeResolver", structHash));
        return IDisputeResolver.Word({party: party, deadline: _until(), signature: signature});
    }

    function _until() internal view returns (uint40) {
        return uint40(block.timestamp) + 1 hours;
    }

    // STEPS

    function _demand(DisputeResolver.Stated memory stated, IDisputeResolver.PlacedLeaf memory placed, uint32 party)
        internal
        returns (bytes32 id)
    {
        id = _id(stated, placed);
        IDisputeResolver.HiddenLeaf memory hidden = IDisputeResolver.HiddenLeaf({
            evidenceLeaf: _hashOf(placed.leaf),
            dueE4: placed.dueE4,
            creditE4: placed.creditE4,
            index: placed.index,
            siblings: placed.siblings
        });
        resolver.demand(abi.encode(stated), hidden, _demandWord(id, party));
    }

    function _quarrel(
        DisputeResolver.Stated memory stated,
        IDisputeResolver.PlacedLeaf memory placed,
        uint32 party,
        int64 claimedE4
    ) internal returns (bytes32 id) {
        id = _id(stated, placed);
        resolver.quarrel(abi.encode(stated), placed, claimedE4, _quarrelWord(id, party, claimedE4));
    }

    function _stage(bytes32 id) internal view returns (uint256) {
        return uint256(resolver.caseOf(id).stage);
    }

    function _reserved(uint32 party) internal view returns (uint256) {
        return vault.reservedBy(address(resolver), party);
    }

    function _corrected() internal view returns (int256) {
        return resolver.correctedE4(PAIR);
    }

    function assertEq(int256 actual, int256 expected, string memory what) internal pure {
        assertEq(uint256(actual), uint256(expected), what);
    }
}
