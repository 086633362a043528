// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {SumNode} from "../../src/trees/SumTree.sol";
import {AgreementKey} from "../../src/types/AgreementKey.sol";
import {PairFigures, packFigures} from "../../src/types/PairFigures.sol";
import {PairStatement, StatementRoots} from "../../src/types/PairStatement.sol";
import {ReferenceTrees} from "../base/ReferenceTrees.sol";
import {Settlement} from "../base/Settlement.sol";

contract VerifySumTest is Settlement {
    struct Amounts {
        bytes32 evidenceLeaf;
        uint64 dueE4;
        uint64 creditE4;
    }

    function testFuzz_EveryAmountIsProved(uint256 count, uint256 index, uint256 seed) public view {
        (Amounts[] memory amounts, SumNode[] memory leaves) = _leaves(count = bound(count, 1, 70), seed);
        index = bound(index, 0, leaves.length - 1);

        assertTrue(
            _verify(ReferenceTrees.sumRoot(leaves), count, amounts[index], index, _proof(leaves, index)), "proved"
        );
    }

    function testFuzz_AChangedAmountIsRefused(uint256 count, uint256 index, uint256 seed, uint256 change) public view {
        (Amounts[] memory amounts, SumNode[] memory leaves) = _leaves(count = bound(count, 1, 70), seed);
        index = bound(index, 0, leaves.length - 1);
        Amounts memory amount = amounts[index];
        uint64 flip = uint64(1) << uint64((change >> 8) % 32);
        if (change % 3 == 0) amount.dueE4 ^= flip;
        if (change % 3 == 1) amount.creditE4 ^= flip;
        if (change % 3 == 2) amount.evidenceLeaf ^= bytes32(uint256(flip));

        assertFalse(_verify(ReferenceTrees.sumRoot(leaves), count, amount, index, _proof(leaves, index)), "refused");
    }

    function testFuzz_StatementsThatDoNotAddUpAreRefused(uint256 count, uint256 index, uint256 seed, bool isDue)
        public
        view
    {
        (Amounts[] memory amounts, SumNode[] memory leaves) = _leaves(count = bound(count, 1, 70), seed);
        index = bound(index, 0, leaves.length - 1);
        SumNode memory root = ReferenceTrees.sumRoot(leaves);
        if (isDue) ++root.dueE4;
        else ++root.creditE4;

        assertFalse(_verify(root, count, amounts[index], index, _proof(leaves, index)), "refused");
    }

    function testFuzz_ANeighbourWithAnotherAmountIsRefused(uint256 count, uint256 index, uint256 seed) public view {
        (Amounts[] memory amounts, SumNode[] memory leaves) = _leaves(count = bound(count, 2, 70), seed);
        index = bound(index, 0, leaves.length - 1);
        SumNode memory root = ReferenceTrees.sumRoot(leaves);
        SumNode[] memory proof = ReferenceTrees.sumProof(leaves, index);
        ++proof[seed % proof.length].creditE4;

        assertFalse(_verify(root, count, amounts[index], index, ReferenceTrees.pack(proof)), "refused");
    }

    function testFuzz_SumsThatOutgrowTheirFieldProveNothing(bytes32 dice, uint64 dueE4) public view {
        // Signed figures that an overflow would reach: 2^64 more than what they say.
        dueE4 = uint64(bound(dueE4, 1, 1 << 56));
        bytes32 own = keccak256(bytes.concat(hex"00", dice, bytes8(dueE4), bytes8(0)));
        bytes memory sibling = abi.encodePacked(dice, type(uint64).max, uint64(0));
        bytes32 root = keccak256(bytes.concat(hex"01", own, bytes8(dueE4), bytes8(0), sibling));

        assertFalse(_verify(SumNode(root, dueE4 - 1, 0), 2, Amounts(dice, dueE4, 0), 0, sibling), "refused");
    }

    function testFuzz_AProofThatIsLongerOrShorterIsRefused(uint256 count, uint256 index, uint256 seed) public view {
        (Amounts[] memory amounts, SumNode[] memory leaves) = _leaves(count = bound(count, 2, 70), seed);
        index = bound(index, 0, leaves.length - 1);
        SumNode memory root = ReferenceTrees.sumRoot(leaves);
        bytes memory proof = _proof(leaves, index);
        bytes memory shorter = new bytes(proof.length - 1);
        for (uint256 i = 0; i < shorter.length; ++i) {
            shorter[i] = proof[i];
        }

        assertFalse(_verify(root, count, amounts[index], index, abi.encodePacked(proof, uint8(0))), "longer");
        assertFalse(_verify(root, count, amounts[index], index, shorter), "shorter");
    }

    function _verify(SumNode memory root, uint256 count, Amounts memory amount, uint256 index, bytes memory proof)
        private
        view
        returns (bool)
    {
        StatementRoots memory roots = StatementRoots("evidence", root.hash);
        PairFigures figures =
            packFigures(AgreementKey.wrap(1), uint56(root.dueE4), uint56(root.creditE4), uint24(count), 1, 0);
        PairStatement memory statement = PairStatement(figures, _rootsHash(roots));
        return book.verifySum(statement, roots, amount.evidenceLeaf, amount.dueE4, amount.creditE4, index, proof);
    }

    function _proof(SumNode[] memory leaves, uint256 index) private pure returns (bytes memory) {
        return ReferenceTrees.pack(ReferenceTrees.sumProof(leaves, index));
    }

    function _leaves(uint256 count, uint256 seed)
        private
        pure
        returns (Amounts[] memory amounts, SumNode[] memory leaves)
    {
        amounts = new Amounts[](count);
        leaves = new SumNode[](count);
        for (uint256 i = 0; i < count; ++i) {
            bytes32 dice = keccak256(abi.encode(seed, i));
            bool isDue = uint256(dice) % 4 != 0;
            uint64 e4 = uint32(uint256(dice) >> 64);
            amounts[i] = Amounts(dice, isDue ? e4 : 0, isDue ? 0 : e4);
            bytes32 hash = keccak256(bytes.concat(hex"00", dice, bytes8(amounts[i].dueE4), bytes8(amounts[i].creditE4)));
            leaves[i] = SumNode(hash, amounts[i].dueE4, amounts[i].creditE4);
        }
    }
}
