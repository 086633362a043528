"""The functions, events and errors of the settlement contracts that Python calls, reads or models.

A test holds each against the committed ABI. An error that no line here uses is not unused: why a contract refuses a
call is told to people by the names that stand here (`services/settlement/sending.error_name`).
"""

from __future__ import annotations

from typing import Final

from emobility.domain.batch.abi import Function
from emobility.domain.batch.hashing import keccak256

SIGNATURE: Final = "(bytes32,bytes32)"
STATEMENT: Final = "(uint256,bytes32)"
ROOTS: Final = "(bytes32,bytes32)"
ACCEPTANCE: Final = f"(uint32,uint256,{SIGNATURE})"
TERMS: Final = "(bytes32,uint32,uint32,bytes3,uint8,uint16,uint8,uint64,uint32,uint64)"
EVIDENCE_LEAF: Final = "(uint8,bytes32,uint64,uint64,bytes32,bytes32)"
PLACE: Final = "(bytes32,uint256,uint256,bytes32[])"


def signature_words(signature: bytes) -> tuple[bytes, bytes]:
    """Return a compact signature as it stands in a call (`SIGNATURE`)."""
    return signature[:32], signature[32:]


# Roles, of every contract

ADMIN_ROLE: Final = bytes(32)
BOOK_ROLE: Final = keccak256(b"BOOK_ROLE")
PROPOSER_ROLE: Final = keccak256(b"PROPOSER_ROLE")
PAUSER_ROLE: Final = keccak256(b"PAUSER_ROLE")
RESOLVER_ROLE: Final = keccak256(b"RESOLVER_ROLE")
MINTER_ROLE: Final = keccak256(b"MINTER_ROLE")
ANCHOR_ROLE: Final = keccak256(b"ANCHOR_ROLE")
ARBITER_ROLE: Final = keccak256(b"ARBITER_ROLE")
ROLE_GRANTED: Final = Function("RoleGranted(bytes32,address,address)")
ROLE_REVOKED: Final = Function("RoleRevoked(bytes32,address,address)")
GRANT_ROLE: Final = Function("grantRole(bytes32,address)")
RENOUNCE_ROLE: Final = Function("renounceRole(bytes32,address)")
HAS_ROLE: Final = Function("hasRole(bytes32,address)", "(bool)")
NOT_IN_ROLE: Final = Function("AccessControlUnauthorizedAccount(address,bytes32)")

# PartyRegistry

PARTY_WORDS: Final = "(bytes2,bytes3,uint32,address,address)"
REGISTER: Final = Function(f"register(bytes2,bytes3,address,address,uint48,uint64,{SIGNATURE})", "(uint32)")
ATTEST: Final = Function("attest(uint32,uint48)")
REVOKE_ATTESTATION: Final = Function("revokeAttestation(uint32)")
SET_CLAIMS: Final = Function(f"setClaims(uint32,uint16,uint32,bytes32,uint64,{SIGNATURE})")
SET_MESSAGE_KEY: Final = Function(f"setMessageKey(uint32,bytes32,uint64,{SIGNATURE})")
CANCEL_ROTATION: Final = Function(f"cancelRotation(uint32,uint64,{SIGNATURE})")
COMPLETE_ROTATION: Final = Function(f"completeRotation(uint32,uint64,{SIGNATURE})")
ENTRY: Final = Function(
    "entry(bytes2,bytes3)", f"((uint32,{PARTY_WORDS},uint48,uint16,uint32,bytes32,bytes32,address,uint64))"
)
ROTATE_SIGNER: Final = Function(f"rotateSigner(uint32,address,uint64,{SIGNATURE})")
PARTY: Final = Function("party(uint32)", f"({PARTY_WORDS})")
NUMBER_OF: Final = Function("numberOf(bytes2,bytes3)", "(uint32)")
SIGNER_OF: Final = Function("signerOf(uint32)", "(address)")
PARTY_REGISTERED: Final = Function("PartyRegistered(uint32,bytes2,bytes3,address,address)")
PARTY_ATTESTED: Final = Function("PartyAttested(uint32,address,uint48)")
CLAIMS_SET: Final = Function("ClaimsSet(uint32,uint16,uint32,bytes32)")
MESSAGE_KEY_SET: Final = Function("MessageKeySet(uint32,bytes32)")
SIGNER_NAMED: Final = Function("SignerNamed(uint32,address,uint64)")
ROTATION_CANCELED: Final = Function("SignerRotationCanceled(uint32,address)")
SIGNER_ROTATED: Final = Function("SignerRotated(uint32,address,address)")
KNOWN_PARTY: Final = Function("PartyRegistryKnownParty(uint32)")
UNKNOWN_PARTY: Final = Function("PartyRegistryUnknownParty(uint32)")
MALFORMED_ID: Final = Function("PartyRegistryMalformedId(bytes2,bytes3)")
ZERO_ADDRESS: Final = Function("PartyRegistryZeroAddress()")
REGISTRY_EXPIRED: Final = Function("PartyRegistryExpired(uint64)")
REGISTRY_WRONG_SIGNER: Final = Function("PartyRegistryWrongSigner(address)")
NO_SUCCESSOR: Final = Function("PartyRegistryNoSuccessor(uint32)")
TOO_EARLY: Final = Function("PartyRegistryTooEarly(uint64)")


def issuer_role(country_code: str) -> bytes:
    """Return the role of those who vouch for party ids of a country (ISO 3166 alpha-2)."""
    return keccak256(b"ISSUER_ROLE" + country_code.encode())


# EmbeddedCurrency

MINT: Final = Function("mint(address,uint256)")
APPROVE: Final = Function("approve(address,uint256)", "(bool)")
TRANSFER: Final = Function("Transfer(address,address,uint256)")
APPROVAL: Final = Function("Approval(address,address,uint256)")
TOKENS_OF: Final = Function("balanceOf(address)", "(uint256)")
DECIMALS: Final = Function("decimals()", "(uint8)")
TOKENS_SHORT: Final = Function("ERC20InsufficientBalance(address,uint256,uint256)")
ALLOWANCE_SHORT: Final = Function("ERC20InsufficientAllowance(address,uint256,uint256)")

# CollateralVault

DEPOSIT: Final = Function("deposit(uint32,uint256)")
COLLATERAL_OF: Final = Function("balanceOf(uint32)", "(uint256)")
FREE_OF: Final = Function("freeOf(uint32)", "(uint256)")
RESERVED_BY: Final = Function("reservedBy(address,uint32)", "(uint256)")
APPLY_NETS: Final = Function("applyNets(uint32[],int64[])")
RESERVE: Final = Function("reserve(uint32,uint64)")
RELEASE: Final = Function("release(uint32,uint64)")
TAKE_RESERVED: Final = Function("takeReserved(uint32,uint32,uint64)")
COLLATERAL_RESERVED: Final = Function("CollateralReserved(uint32,address,uint256)")
COLLATERAL_RELEASED: Final = Function("CollateralReleased(uint32,address,uint256)")
RESERVED_TAKEN: Final = Function("ReservedCollateralTaken(uint32,uint32,address,uint256)")
VAULT_SHORT: Final = Function("CollateralVaultShort(uint32,uint256,uint256)")
NOT_RESERVED: Final = Function("CollateralVaultNotReserved(uint32,uint256,uint256)")
UNEQUAL_LENGTHS: Final = Function("CollateralVaultUnequalLengths(uint256,uint256)")
NOT_ZERO_SUM: Final = Function("CollateralVaultNotZeroSum(int256)")
TOTAL_COLLATERAL: Final = Function("totalBalance()", "(uint256)")
TOKEN: Final = Function("token()", "(address)")
UNITS_PER_E4: Final = Function("unitsPerE4()", "(uint256)")
DELAY: Final = Function("delay()", "(uint64)")
DEPOSITED: Final = Function("Deposited(uint32,address,uint256)")
WITHDRAWN: Final = Function("Withdrawn(uint32,address,uint256)")
ZERO_AMOUNT: Final = Function("CollateralVaultZeroAmount()")

# SettlementBook

OPEN_AGREEMENT: Final = Function(f"openAgreement({TERMS},{SIGNATURE},{SIGNATURE})", "(uint64)")
PROPOSE: Final = Function(f"propose(bytes32,{STATEMENT}[],{ACCEPTANCE}[])")
ACCEPT: Final = Function(f"accept(bytes32,{STATEMENT}[],{ACCEPTANCE}[])")
FUND: Final = Function(f"fund(bytes32,{STATEMENT}[])")
CHALLENGE: Final = Function(f"challenge({STATEMENT},{PLACE})")
DECIDE_CHALLENGE: Final = Function(f"decideChallenge({STATEMENT},{PLACE},bool)")
CORRECT: Final = Function("correct(uint64,int64)")
FUND_CORRECTION: Final = Function("fundCorrection(uint64)")
DISCHARGE: Final = Function(f"discharge(uint64,int64,{SIGNATURE},{SIGNATURE})")
CALL_GUARANTEE: Final = Function("callGuarantee(uint64,uint24,uint64)")
GIVE_NOTICE: Final = Function("giveNotice(uint64)")
END_AFTER_NOTICE: Final = Function("endAfterNotice(uint64)")
END_AGREEMENT: Final = Function(f"endAgreement(uint64,{SIGNATURE},{SIGNATURE})")
PAUSE: Final = Function("pause()")
UNPAUSE: Final = Function("unpause()")
CLOSE: Final = Function("close()")
AGREEMENT_STATE: Final = Function(
    "agreementState(uint64)", "((bytes32,uint32,uint32,uint8,bool,uint64,uint24,uint24,int64,int64,uint32,uint40))"
)
BATCH: Final = Function("batch(bytes32)", "((bytes32,uint256,uint256,uint256,uint256,uint256,uint256,uint40))")
IS_FINAL: Final = Function("isFinal(uint64,uint24)", "(bool)")
IS_STATEMENT_FINAL: Final = Function(f"isStatementFinal({STATEMENT},{PLACE})", "(bool)")
VERIFY_EVIDENCE: Final = Function(f"verifyEvidence({STATEMENT},{ROOTS},{EVIDENCE_LEAF},uint256,bytes32[])", "(bool)")
VERIFY_SUM: Final = Function(f"verifySum({STATEMENT},{ROOTS},bytes32,uint64,uint64,uint256,bytes)", "(bool)")
AGREEMENT_ID: Final = Function(f"agreementId({TERMS})", "(bytes32)")
PAIRS_HASH: Final = Function(f"pairsHash({STATEMENT}[])", "(bytes32)")
CURRENCY: Final = Function("currency()", "(bytes3)")
WINDOW_S: Final = Function("windowS()", "(uint40)")
BOND_E4: Final = Function("bondE4()", "(uint64)")
IS_CLOSED: Final = Function("isClosed()", "(bool)")
REGISTRY: Final = Function("registry()", "(address)")
VAULT: Final = Function("vault()", "(address)")
AGREEMENT_OPENED: Final = Function("AgreementOpened(uint64,bytes32,bytes32,uint8,uint64,uint32)")
NOTICE_GIVEN: Final = Function("NoticeGiven(uint64,uint32,uint40)")
AGREEMENT_ENDED: Final = Function("AgreementEnded(uint64)")
BATCH_PROPOSED: Final = Function("BatchProposed(bytes32,bytes32,uint256)")
PAIRS_FINAL: Final = Function("PairsFinal(bytes32,uint256)")
PAIRS_UNFUNDED: Final = Function("PairsUnfunded(bytes32,uint256)")
PAIR_CHALLENGED: Final = Function("PairChallenged(bytes32,uint32,uint256)")
CHALLENGE_ENDED: Final = Function("ChallengeEnded(bytes32,uint256,bool)")
AGREEMENT_CORRECTED: Final = Function("AgreementCorrected(uint64,int64)")
CORRECTION_MET: Final = Function("CorrectionMet(uint64,int64)")
OBLIGATION_DISCHARGED: Final = Function("ObligationDischarged(uint64,uint24,int64,int64)")
GUARANTEE_CALLED: Final = Function("GuaranteeCalled(uint64,uint64,int64)")
BOOK_CLOSED: Final = Function("BookClosed()")
KNOWN_AGREEMENT: Final = Function("SettlementBookKnownAgreement(uint64)")
UNKNOWN_AGREEMENT: Final = Function("SettlementBookUnknownAgreement(uint64)")
UNSUITABLE_TERMS: Final = Function("SettlementBookUnsuitableTerms(bytes32)")
HAS_ENDED: Final = Function("SettlementBookEnded(uint64)")
NOT_ENDING: Final = Function("SettlementBookNotEnding(uint64,uint40)")
BOOK_EXPIRED: Final = Function("SettlementBookExpired(uint64)")
BOOK_WRONG_SIGNER: Final = Function("SettlementBookWrongSigner(uint32)")
BOOK_NOT_PARTY: Final = Function("SettlementBookNotParty(uint32,address)")
UNSUITABLE_WINDOW: Final = Function("SettlementBookUnsuitableWindow(uint40,uint64)")
BOOK_IS_CLOSED: Final = Function("SettlementBookIsClosed()")
BATCH_EXISTS: Final = Function("SettlementBookBatchExists(bytes32)")
UNSUITABLE_COUNT: Final = Function("SettlementBookUnsuitableCount(uint256)")
NOT_ASCENDING: Final = Function("SettlementBookNotAscending(uint256)")
MALFORMED_FIGURES: Final = Function("SettlementBookMalformedFigures(uint256)")
STALE_SEQUENCE: Final = Function("SettlementBookStaleSequence(uint256,uint24)")
OTHER_STATEMENTS: Final = Function("SettlementBookOtherStatements(bytes32)")
NOT_RIPENING: Final = Function("SettlementBookNotRipening(bytes32,uint256)")
NOT_CHALLENGED: Final = Function("SettlementBookNotChallenged(bytes32,uint256)")
DISCHARGE_EXCEEDS_OWED: Final = Function("SettlementBookDischargeExceedsOwed(uint64,int64,int64)")
CALL_EXCEEDS_OVERDUE: Final = Function("SettlementBookCallExceedsOverdue(uint64,uint64,int256)")
NOT_CORRECTED: Final = Function("SettlementBookNotCorrected(uint64)")
NOT_COVERED: Final = Function("SettlementBookNotCovered(uint64)")
TOO_MUCH: Final = Function("DisputableTooMuch(uint64)")
PAUSED: Final = Function("Paused(address)")
UNPAUSED: Final = Function("Unpaused(address)")
IS_PAUSED: Final = Function("EnforcedPause()")
IS_NOT_PAUSED: Final = Function("ExpectedPause()")
EMPTY_TREE: Final = Function("MerkleTreeEmpty()")

# DisputeResolver, of either book

PLACED_LEAF: Final = f"({EVIDENCE_LEAF},uint64,uint64,uint256,bytes)"
HIDDEN_LEAF: Final = "(bytes32,uint64,uint64,uint256,bytes)"
WORD: Final = f"(uint32,uint40,{SIGNATURE})"
CONTEST_DUPLICATE: Final = Function(f"contestDuplicate(bytes,{PLACED_LEAF},bytes,{EVIDENCE_LEAF},uint256,bytes32[])")
CONTEST_SIGNATURE: Final = Function(f"contestSignature(bytes,{PLACED_LEAF},bytes32,bytes)")
CONTEST_ENERGY: Final = Function(f"contestEnergy(bytes,{PLACED_LEAF},bytes32,bytes)")
CONTEST_CREDIT: Final = Function(f"contestCredit(bytes,{PLACED_LEAF},bytes32,{EVIDENCE_LEAF})")
DEMAND: Final = Function(f"demand(bytes,{HIDDEN_LEAF},{WORD})")
REVEAL: Final = Function(f"reveal(bytes32,{EVIDENCE_LEAF})")
QUARREL: Final = Function(f"quarrel(bytes,{PLACED_LEAF},int64,{WORD})")
DEFEND: Final = Function(f"defend(bytes32,{WORD})")
LAPSE: Final = Function("lapse(bytes32)")
CASE_OF: Final = Function("caseOf(bytes32)", "((uint8,uint8,uint40,uint32,uint32,bool,uint64,int64,int64,int64))")
BOOK: Final = Function("book()", "(address)")
EVIDENCE: Final = Function("evidence()", "(address)")
ARBITER: Final = Function("arbiter()", "(address)")
DEMAND_BOND_E4: Final = Function("demandBondE4()", "(uint64)")
QUARREL_BOND_E4: Final = Function("quarrelBondE4()", "(uint64)")
LEAF_DEMANDED: Final = Function("LeafDemanded(bytes32,uint32,uint40)")
LEAF_REVEALED: Final = Function("LeafRevealed(bytes32)")
AMOUNT_QUARRELLED: Final = Function("AmountQuarrelled(bytes32,uint32,int64,int64,uint40)")
AMOUNT_DEFENDED: Final = Function("AmountDefended(bytes32,uint40)")
AMOUNT_RULED: Final = Function("AmountRuled(bytes32,int64,uint32)")
LEAF_STRUCK: Final = Function("LeafStruck(bytes32,uint8,int64)")
STATEMENT_VOIDED: Final = Function("StatementVoided(bytes32,bytes32,uint8)")
NOT_IN_STATEMENT: Final = Function("DisputeResolverNotInStatement(bytes32)")
NOT_STATED: Final = Function("DisputeResolverNotStated(bytes32)")
TOO_LATE: Final = Function("DisputeResolverTooLate(uint256)")
WRONG_STAGE: Final = Function("DisputeResolverWrongStage(bytes32,uint8)")
NOTHING_WRONG: Final = Function("DisputeResolverNothingWrong(bytes32)")
OTHER_RECORD: Final = Function("DisputeResolverOtherRecord(bytes32)")
NO_DUPLICATE: Final = Function("DisputeResolverNoDuplicate(bytes32)")
NO_WORD: Final = Function("DisputeResolverNoWord(uint32)")
NOT_ITS_TURN: Final = Function("DisputeResolverNotItsTurn(uint32)")
UNSUITABLE_AMOUNT: Final = Function("DisputeResolverUnsuitableAmount(int64)")
PAST_DEADLINE: Final = Function("DisputeResolverDeadline(uint40)")
NOT_ARBITER: Final = Function("DisputeResolverNotArbiter(address)")

# MeterEvidence

IS_SIGNED: Final = Function("isSigned(bytes)", "(bool)")
ENERGY: Final = Function("energy(bytes)", "((bool,bool,uint64,uint64))")
METER_COMMITMENT: Final = Function("commitment(bytes32,bytes)", "(bytes32)")
UNKNOWN_CURVE: Final = Function("MeterEvidenceUnknownCurve(uint8)")
NO_ENERGY: Final = Function("MeterEvidenceNoEnergy()")
RECORD_CUT_SHORT: Final = Function("MeterRecordCutShort()")
PAYLOAD_UNREADABLE: Final = Function("OCMFPayloadUnreadable(uint256)")

# RootAnchor

ANCHOR: Final = Function("anchor(bytes32,uint32,uint64,bytes32)")
ROOT_OF: Final = Function("rootOf(bytes32,uint32,uint64)", "(bytes32)")
ROOT_ANCHORED: Final = Function("RootAnchored(bytes32,uint32,uint64,bytes32)")
ANCHOR_EXISTS: Final = Function("RootAnchorExists(bytes32,uint32,uint64)")
ANCHOR_NOT_ALLOWED: Final = Function("RootAnchorNotAllowed(uint32,address)")
ANCHOR_ZERO_ROOT: Final = Function("RootAnchorZeroRoot()")

# ConfidentialBook

PARTY_NET: Final = f"(uint32,int64,{SIGNATURE})"
SEALED_STATEMENT: Final = "(bytes32,uint32,uint32,uint32,uint32,uint40,bytes32,bytes32)"
OPENED: Final = f"(bytes32,{SIGNATURE},{SIGNATURE})"
HIDDEN_PLACE: Final = "(bytes32,uint256,uint256,bytes32[],uint256[])"
SETTLE: Final = Function(f"settle(bytes32,bytes32[],{PARTY_NET}[])")
CORRECT_NET: Final = Function("correct(uint32,uint32,uint64)")
HIDDEN_BATCH: Final = Function("batch(bytes32)", "(bytes32)")
NONCE_OF: Final = Function("nonceOf(uint32)", "(uint64)")
IS_SEALED_STATEMENT_FINAL: Final = Function(f"isStatementFinal({SEALED_STATEMENT},{OPENED},{HIDDEN_PLACE})", "(bool)")
ARE_AMOUNTS: Final = Function(f"areAmounts({SEALED_STATEMENT},bytes32,bytes32,uint64,uint64)", "(bool)")
BATCH_SETTLED: Final = Function("BatchSettled(bytes32,bytes32,uint256)")
TOO_WIDE: Final = Function("SafeCastOverflowedIntDowncast(uint8,int256)")
NET_CORRECTED: Final = Function("Corrected(uint32,uint32,uint64)")
HIDDEN_BATCH_EXISTS: Final = Function("ConfidentialBookBatchExists(bytes32)")
HIDDEN_UNSUITABLE_COUNT: Final = Function("ConfidentialBookUnsuitableCount(uint256)")
PARTIES_NOT_ASCENDING: Final = Function("ConfidentialBookPartiesNotAscending(uint256)")
HIDDEN_WRONG_SIGNER: Final = Function("ConfidentialBookWrongSigner(uint32,uint64)")

# BatteryPassport

ISSUER_ROLE: Final = keccak256(b"ISSUER_ROLE")
ISSUE_PASSPORT: Final = Function("issue(uint256,address,uint40,bytes32)")
APPEND_TO_PASSPORTS: Final = Function("append((uint256,uint256,bytes32)[])")
SUCCEED_BY: Final = Function("succeedBy(uint256[],uint256[],uint40,bytes32)")
PASSPORT: Final = Function("passport(uint256)", "((bytes24,uint40,uint16,uint8,uint8))")
LIFECYCLE_RECORDED: Final = Function("LifecycleRecorded(uint256,uint256,bytes32)")
