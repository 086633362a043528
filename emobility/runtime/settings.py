"""The only configuration: one class, read from the environment (`WATTROAM_...`) and checked at once.

What is not safe outside a developer's machine (a stepped clock, calls to loopback addresses) is refused here, before
any process of the system starts.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

INTERNAL_TOKEN_CHARACTERS_MIN: Final = 32
"""At least 128 bits when written in hex."""
_ACCOUNT: Final = re.compile(r"0x[0-9a-fA-F]{40}")
_MASTER_KEY: Final = re.compile(r"[0-9a-fA-F]{64}")


class Settings(BaseSettings):
    """Where things are and which secrets open them; each field is the variable `WATTROAM_<FIELD>`.

    Attributes:
        environment: `production` refuses whatever only a demo or a test may do. `embedded`, one machine that serves in
            earnest, refuses the same but for its own origins on loopback, which need no TLS.
        database_url: PostgreSQL, as a URL; embedded mode fills it in.
        event_log: Which log carries the events. `kafka` also needs `database_url` (rows, cursors, outbox).
        kafka_bootstrap: `host:port[,host:port]` of the brokers.
        public_url: How counterparties reach the business process; the base of every OCPI URL we state.
        business_url: How our own processes reach it.
        gateway_host: Address the gateway listens on, for stations and for its HTTP API.
        gateway_ocpp_port: Port of the OCPP-J WebSocket; 0 asks the system for one.
        gateway_plain: Whether stations may connect there without TLS (security profile 1); None: not in `production`.
        gateway_certificate_file: The gateway's own certificate for `gateway_wss_port`, PEM, with all between it and a
            root. With it and its key stations connect by TLS (profile 2). Files are read anew when they change.
        gateway_key_file: Its key, PEM, without passphrase.
        gateway_second_certificate_file: One of the other kind, RSA beside ECDSA, for stations that can do only that.
        gateway_second_key_file: Its key.
        gateway_wss_host: Address of the TLS port; None: `gateway_host`.
        gateway_wss_port: Port of the OCPP-J WebSocket over TLS; 0 asks the system for one.
        gateway_client_ca_file: CAs whose certificates stations may show (profile 3), PEM. Each may name stations of
            every party here.
        gateway_crl_file: Revocation lists of those CAs, PEM; a CA without one is not believed.
        gateway_ca_file: A CA of our own that signs stations' requests, PEM, its own certificate first, then what is
            between it and a root. What it issued is believed as long as our rows say so. Read at the start only.
        gateway_ca_key_file: Its key, PEM, without passphrase.
        gateway_ca_valid_days: How long a certificate it issues is valid.
        gateway_signing_url: A signing service instead of a CA of our own: takes a CSR by POST, PEM, and returns the
            chain. Its CA stands in `gateway_client_ca_file`.
        gateway_signing_token: The bearer token it asks for.
        contract_root_file: Roots of mobility operators, PEM, under which contract certificates are believed (Plug and
            Charge), and CAs below them that stations do not send along. None: no contract certificate is. Read at the
            start only, like the next one.
        v2g_root_file: V2G roots and CAs below them, PEM: whose certificates' revocation stations may ask for.
        contract_ocsp_unreachable: What becomes of a contract certificate whose revocation nobody can tell now:
            `refuse`, or `accept` at the operator's risk.
        contract_provisioning_url: Takes EVs' requests for contract certificates (M01, M02), by POST; None: they fail.
        pki_origins: Origins of OCSP responders, revocation lists and other services of PKIs, wherever they are. A URL
            in a certificate or a station's message is called only there.
        gateway_api_port: Port of the gateway's HTTP API.
        gateway_api_url: How our own processes reach that API.
        business_host: Address the business process listens on.
        business_port: Its port.
        settlement_url: How our own processes reach the settlement.
        settlement_host: Address the settlement process listens on.
        settlement_port: Its port.
        settlement_on: What is settled on: a `chain`, or a `ledger`, rows in our own database that parties countersign.
        chain_rpc_url: JSON-RPC endpoint of the chain that is settled on, or several with commas between, of which
            `chain_rpc_quorum` must say the same; None: accepted CDRs wait.
        chain_rpc_quorum: How many of several endpoints must agree on blocks, receipts and calls; more than half, which
            is taken when this is None.
        chain_final_blocks: A block is final when so many follow it: 0 where each block is final at once (Besu QBFT);
            None: the chain says so itself (`finalized`).
        chain_stuck_after_s: Seconds after which a transaction that waits is replaced by one that offers more.
        chain_fee_gwei_max: Most that is offered per gas, in 10^9 wei; while the chain asks for more, nothing is signed.
        chain_gwei_per_day: Most that the transactions of one account may cost on a day (UTC), in 10^9 wei; None: no
            limit.
        chain_transactions_per_hour: Most signatures of one account in an hour; None: no limit.
        chain_keystore: Folder of encrypted keys (`wattroam key new`) that send settlement transactions, in the order of
            the files' names; the last that the contracts let propose is the one that signs.
        chain_passphrase_file: Holds the keystore's passphrase; only its owner may read it.
        chain_passphrase_fd: Number of an open file descriptor that the passphrase is read from instead.
        chain_signer_url: A Web3Signer that keeps the keys instead, https or on loopback.
        chain_signer_addresses: Accounts of its keys, 0x and 40 hex digits, in the order in which they take over.
        chain_signer_ca_file: Authority of its certificate, PEM; None: the system's.
        chain_deployment: File of a consortium's contracts (`wattroam chain deploy`) on a chain that others administer;
            None: on a chain of our own they are made, elsewhere an operator has entered them in the database.
        chain_mnemonic: BIP-39 words of a chain of our own: account 0 deploys and administers, account 1 proposes.
        party_registry: Address of the `PartyRegistry` at `chain_rpc_url`, 0x and 40 hex digits; the hub then lets no
            party play a role that it does not back. None: the hub's operator vouches for parties by inviting them.
        settlement_lease_s: Seconds after which another settlement process takes over from one that is silent.
        statement_cdrs_max: A statement is closed before its period ends when so many CDRs wait; None: not for that.
        statement_value_e4_max: … when so much is owed either way, in ten-thousandths of the currency; None: not for
            that.
        statement_hours_max: … when the oldest waits so long; None: not for that.
        audit_processes: How many processes share a full audit of a period; None: as many as there are cores.
        settlement_crash_point: Where the settlement kills itself, for tests (`services/settlement/crash_points`).
        internal_token: Bearer token of our own processes; full rights.
        master_key: 32 bytes in hex; wraps the subjects' keys and keys every stored hash.
        clock_file: The stepped clock's file; None: real time. Only in `development`.
        run_folder: Where processes keep logs, sockets, passwords and embedded servers their data.
        seed: Seeds what a simulation draws; never a secret in production.
        fiscal_retention_years: How long bills, receipts and the CDRs under them are kept, counted from the end of the
            year they are of; None: as the law of each country says (`emobility/domain/retention.py`).
        station_retention_days: How long what stations tell - notices, events, streams, messages - is kept. What money
            or batteries hang on is kept for good.
        vat_register_url: REST interface of VIES, such as `https://ec.europa.eu/taxation_customs/vies/rest-api`; None:
            VAT numbers that drivers give at stations are judged by their form alone.
        internal_origins: More origins of our own processes, such as those of other gateways; besides `business_url` and
            `gateway_api_url`. Only calls with the internal token go there.
        embedded_origins: Origins that embedded mode started itself; only these may be http or a loopback address.
    """

    model_config = SettingsConfigDict(env_prefix="WATTROAM_", frozen=True, extra="forbid", hide_input_in_errors=True)

    environment: Literal["development", "embedded", "production"] = "production"
    database_url: str | None = Field(default=None, repr=False)  # a URL with the password in it
    event_log: Literal["postgres", "kafka", "memory"] = "postgres"
    kafka_bootstrap: str | None = None
    public_url: str = "http://127.0.0.1:8080"
    business_url: str = "http://127.0.0.1:8080"
    gateway_host: str = "127.0.0.1"
    gateway_ocpp_port: int = 8887
    gateway_plain: bool | None = None
    gateway_certificate_file: Path | None = None
    gateway_key_file: Path | None = None
    gateway_second_certificate_file: Path | None = None
    gateway_second_key_file: Path | None = None
    gateway_wss_host: str | None = None
    gateway_wss_port: int = 8886
    gateway_client_ca_file: Path | None = None
    gateway_crl_file: Path | None = None
    gateway_ca_file: Path | None = None
    gateway_ca_key_file: Path | None = None
    gateway_ca_valid_days: int = Field(default=90, ge=1, le=825)
    gateway_signing_url: str | None = None
    gateway_signing_token: SecretStr = SecretStr("")
    contract_root_file: Path | None = None
    v2g_root_file: Path | None = None
    contract_ocsp_unreachable: Literal["refuse", "accept"] = "refuse"
    contract_provisioning_url: str | None = None
    pki_origins: tuple[str, ...] = ()
    gateway_api_port: int = 8888
    gateway_api_url: str = "http://127.0.0.1:8888"
    business_host: str = "127.0.0.1"
    business_port: int = 8080
    settlement_url: str = "http://127.0.0.1:8081"
    settlement_host: str = "127.0.0.1"
    settlement_port: int = 8081
    settlement_on: Literal["chain", "ledger"] = "chain"
    chain_rpc_url: str | None = Field(default=None, repr=False)  # URLs may hold keys
    chain_rpc_quorum: int | None = Field(default=None, ge=1, le=9)
    chain_final_blocks: int | None = Field(default=None, ge=0, le=10_000)
    chain_stuck_after_s: int = Field(default=120, ge=0, le=86_400)
    chain_fee_gwei_max: int = Field(default=500, ge=1, le=10**9)
    chain_gwei_per_day: int | None = Field(default=None, ge=1, le=10**18)
    chain_transactions_per_hour: int | None = Field(default=None, ge=1, le=10**6)
    chain_keystore: Path | None = None
    chain_passphrase_file: Path | None = None
    chain_passphrase_fd: int | None = Field(default=None, ge=0)
    chain_signer_url: str | None = None
    chain_signer_addresses: tuple[str, ...] = ()
    chain_signer_ca_file: Path | None = None
    chain_deployment: Path | None = None
    chain_mnemonic: SecretStr | None = None
    party_registry: str | None = Field(default=None, pattern=r"^0x[0-9a-fA-F]{40}$")
    settlement_lease_s: float = Field(default=6, ge=0.1, le=600)
    statement_cdrs_max: int | None = Field(default=None, ge=1)
    statement_value_e4_max: int | None = Field(default=None, ge=1)
    statement_hours_max: int | None = Field(default=None, ge=1)
    audit_processes: int | None = Field(default=None, ge=1, le=64)
    settlement_crash_point: str | None = None
    internal_token: SecretStr = SecretStr("")
    master_key: SecretStr = SecretStr("")
    clock_file: Path | None = None
    run_folder: Path = Path("run")
    seed: int = 0
    fiscal_retention_years: int | None = Field(default=None, ge=1, le=30)
    station_retention_days: int = Field(default=400, ge=1, le=3_650)
    vat_register_url: str | None = None
    internal_origins: tuple[str, ...] = ()
    embedded_origins: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _secrets_are_given(self) -> Self:
        if len(self.internal_token.get_secret_value()) < INTERNAL_TOKEN_CHARACTERS_MIN:
            message = f"WATTROAM_INTERNAL_TOKEN needs at least {INTERNAL_TOKEN_CHARACTERS_MIN} characters"
            raise ValueError(message)
        if not _MASTER_KEY.fullmatch(self.master_key.get_secret_value()):
            raise ValueError("WATTROAM_MASTER_KEY needs 32 bytes as 64 hex digits")
        return self

    @model_validator(mode="after")
    def _demo_means_stay_in_development(self) -> Self:
        if self.environment == "development":
            return self
        if self.clock_file is not None:
            raise ValueError("WATTROAM_CLOCK_FILE: a stepped clock is refused outside WATTROAM_ENVIRONMENT=development")
        if self.settlement_crash_point is not None:
            raise ValueError("WATTROAM_SETTLEMENT_CRASH_POINT is refused outside WATTROAM_ENVIRONMENT=development")
        if self.chain_mnemonic is not None and self.environment == "production":
            raise ValueError("WATTROAM_CHAIN_MNEMONIC: a chain of our own is refused in production")
        if self.embedded_origins and self.environment == "production":
            raise ValueError("WATTROAM_EMBEDDED_ORIGINS is refused in WATTROAM_ENVIRONMENT=production")
        if not all(_is_on_loopback(origin) for origin in self.embedded_origins):
            raise ValueError("WATTROAM_EMBEDDED_ORIGINS: outside WATTROAM_ENVIRONMENT=development only on loopback")
        if self.event_log == "memory":
            raise ValueError("WATTROAM_EVENT_LOG=memory forgets everything: only for development")
        return self

    @model_validator(mode="after")
    def _kafka_has_an_address(self) -> Self:
        if self.event_log == "kafka" and not self.kafka_bootstrap:
            raise ValueError("WATTROAM_EVENT_LOG=kafka needs WATTROAM_KAFKA_BOOTSTRAP")
        return self

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        needs = (
            ("gateway_certificate_file", "gateway_key_file"),
            ("gateway_key_file", "gateway_certificate_file"),
            ("gateway_second_certificate_file", "gateway_second_key_file"),
            ("gateway_second_key_file", "gateway_second_certificate_file"),
            ("gateway_second_certificate_file", "gateway_certificate_file"),
            ("gateway_client_ca_file", "gateway_certificate_file"),
            ("gateway_client_ca_file", "gateway_crl_file"),
            ("gateway_crl_file", "gateway_client_ca_file"),
            ("gateway_ca_file", "gateway_ca_key_file"),
            ("gateway_ca_key_file", "gateway_ca_file"),
            ("gateway_signing_url", "gateway_client_ca_file"),
        )
        for given, needed in needs:
            if getattr(self, given) is not None and getattr(self, needed) is None:
                raise ValueError(f"WATTROAM_{given.upper()} needs WATTROAM_{needed.upper()}")
        if self.gateway_signing_url is not None and self.gateway_ca_file is not None:
            raise ValueError("WATTROAM_GATEWAY_SIGNING_URL and WATTROAM_GATEWAY_CA_FILE: one of them signs")
        if self.gateway_signing_url is not None and not self.gateway_signing_token.get_secret_value():
            raise ValueError("WATTROAM_GATEWAY_SIGNING_URL needs WATTROAM_GATEWAY_SIGNING_TOKEN")
        return self

    @model_validator(mode="after")
    def _registry_has_a_chain(self) -> Self:
        if self.party_registry is not None and self.chain_rpc_url is None:
            raise ValueError("WATTROAM_PARTY_REGISTRY needs WATTROAM_CHAIN_RPC_URL")
        return self

    @model_validator(mode="after")
    def _deployment_is_on_a_chain_of_others(self) -> Self:
        if self.chain_deployment is None:
            return self
        if self.chain_rpc_url is None or (self.chain_keystore is None and self.chain_signer_url is None):
            raise ValueError("WATTROAM_CHAIN_DEPLOYMENT needs WATTROAM_CHAIN_RPC_URL, and _KEYSTORE or _SIGNER_URL")
        if self.settlement_on == "ledger":
            raise ValueError("WATTROAM_CHAIN_DEPLOYMENT is not for WATTROAM_SETTLEMENT_ON=ledger")
        return self

    @model_validator(mode="after")
    def _one_keeps_the_keys(self) -> Self:
        endpoints = len((self.chain_rpc_url or "").split(","))
        if self.chain_rpc_quorum is not None and not endpoints // 2 < self.chain_rpc_quorum <= endpoints:
            raise ValueError("WATTROAM_CHAIN_RPC_QUORUM: more than half of WATTROAM_CHAIN_RPC_URL, and not above all")
        keepers = (self.chain_mnemonic, self.chain_keystore, self.chain_signer_url)
        if sum(each is not None for each in keepers) > 1:
            raise ValueError("WATTROAM_CHAIN_MNEMONIC, _KEYSTORE and _SIGNER_URL: one of them keeps the keys")
        if self.chain_keystore is not None and (self.chain_passphrase_file is None) == (
            self.chain_passphrase_fd is None
        ):
            raise ValueError("WATTROAM_CHAIN_KEYSTORE needs WATTROAM_CHAIN_PASSPHRASE_FILE or _FD")
        if (self.chain_signer_url is None) != (not self.chain_signer_addresses):
            raise ValueError("WATTROAM_CHAIN_SIGNER_URL and WATTROAM_CHAIN_SIGNER_ADDRESSES need each other")
        if not all(_ACCOUNT.fullmatch(each) for each in self.chain_signer_addresses):
            raise ValueError("WATTROAM_CHAIN_SIGNER_ADDRESSES: an account is 0x and 40 hex digits")
        if self.chain_signer_url is not None and not (
            self.chain_signer_url.startswith("https://") or _is_on_loopback(self.chain_signer_url)
        ):
            raise ValueError("WATTROAM_CHAIN_SIGNER_URL: https, or on loopback")
        return self

    @property
    def is_plain_served(self) -> bool:
        """Whether the gateway lets stations connect without TLS."""
        return self.environment != "production" if self.gateway_plain is None else self.gateway_plain

    @property
    def own_origins(self) -> tuple[str, ...]:
        """Where our own processes are reached, each once."""
        return tuple(
            dict.fromkeys((self.business_url, self.gateway_api_url, self.settlement_url, *self.internal_origins))
        )

    @property
    def master_key_bytes(self) -> bytes:
        """The master key as 32 bytes."""
        return bytes.fromhex(self.master_key.get_secret_value())


def _is_on_loopback(origin: str) -> bool:
    try:
        return ip_address(urlsplit(origin).hostname or "").is_loopback
    except ValueError:
        return False
