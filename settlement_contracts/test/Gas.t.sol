// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AgreementKey} from "../src/types/AgreementKey.sol";
import {RootAnchor} from "../src/RootAnchor.sol";
import {ISettlementBook} from "../src/interfaces/ISettlementBook.sol";
import {EvidenceLeaf} from "../src/trees/EvidenceTree.sol";
import {packFigures} from "../src/types/PairFigures.sol";
import {PairStatement, StatementRoots} from "../src/types/PairStatement.sol";
import {Settlement} from "./base/Settlement.sol";

/// @notice What one call of each function costs, as a transaction of its own.
/// forge-config: default.isolate = true
contract GasTest is Settlement {
    function test_Registry() public {
        _registerParties(1);
        _snap("PartyRegistry.register");
        registry.setClaims(1, 3, 7, "platform", NOW, _sign(_key(1), _claimsDigest(1, 3, 7, "platform", 0, NOW)));
        _snap("PartyRegistry.setClaims");
        registry.setMessageKey(1, "key", NOW, _sign(_key(1), _messageKeyDigest(1, "key", 1, NOW)));
        _snap("PartyRegistry.setMessageKey");
        registry.rotateSigner(1, _signer(9), NOW, _sign(_key(1), _rotationDigest(1, _signer(9), 2, NOW)));
        _snap("PartyRegistry.rotateSigner");
        registry.cancelRotation(
            1, NOW, _sign(_key(1), _successionDigest("RotationCancellation", 1, _signer(9), 3, NOW))
        );
        _snap("PartyRegistry.cancelRotation");
        _rotate(1, 9, 4);
        _snap("PartyRegistry.completeRotation");
        registry.attest(1, ATTESTED_UNTIL + 1);
        _snap("PartyRegistry.attest");
        registry.revokeAttestation(1);
        _snap("PartyRegistry.revokeAttestation");
    }

    function test_Vault() public {
        _registerParties(1);
        _deposit(1, 1_000);
        _snap("CollateralVault.deposit");
        vm.prank(_signer(1));
        vault.requestWithdrawal(1, 400);
        _snap("CollateralVault.requestWithdrawal");
        vm.warp(NOW + DELAY);
        vm.prank(_signer(1));
        vault.withdraw(1);
        _snap("CollateralVault.withdraw");
    }

    function test_Book() public {
        _registerParties(2);
        AgreementKey prefunded = _openPrefunded(1, 2);
        _snap("SettlementBook.openAgreement");
        PairStatement[] memory statements = _batchOf(_statement(prefunded, 100, 0, 1));
        book.propose("batch", statements, _nobody());
        _snap("SettlementBook.propose: one pair");
        book.accept("batch", statements, _acceptances("batch", statements, 1, 2, 1));
        _snap("SettlementBook.accept: both sides, no cover");
        _deposit(2, 100);
        book.fund("batch", statements);
        _snap("SettlementBook.fund: one pair");
    }

    function test_Discharge() public {
        _registerParties(2);
        AgreementKey agreement = _openCreditLine(1, 2, 1_000);
        PairStatement[] memory statements = _batchOf(_statement(agreement, 800, 0, 1));
        book.propose("batch", statements, _acceptances("batch", statements, 1, 2, 1));
        _snap("SettlementBook.propose: one pair on a credit line, both sides");
        bytes32 digest = _dischargeDigest(agreement, 0, 300);
        book.discharge(agreement, 300, _sign(_key(1), digest), _sign(_key(2), digest));
        _snap("SettlementBook.discharge");
    }

    function test_VerifyEvidenceOfOneInTenThousand() public {
        StatementRoots memory roots = StatementRoots("evidence", "sums");
        PairStatement memory statement =
            PairStatement(packFigures(AgreementKey.wrap(1), 0, 0, 10_000, 1, 0), _rootsHash(roots));
        book.verifyEvidence(
            statement, roots, EvidenceLeaf(0, "key", 1, 0, "commitment", "meter"), 5_000, new bytes32[](14)
        );
        _snap("SettlementBook.verifyEvidence: 10,000 leaves");
    }

    function test_Anchor() public {
        _registerParties(1);
        RootAnchor anchor = new RootAnchor(registry, address(this));
        vm.prank(_signer(1));
        anchor.anchor("kind", 1, NOW, "root");
        _snap("RootAnchor.anchor");
    }

    function _snap(string memory name) private {
        vm.snapshotGasLastCall("Gas", name);
    }
}
