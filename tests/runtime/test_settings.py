from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from emobility.runtime.settings import Settings
from services.embedded.run_folder import Installation

GOOD: dict[str, Any] = {"internal_token": "t" * 32, "master_key": "ab" * 32}

TLS: dict[str, Any] = {"gateway_certificate_file": Path("c"), "gateway_key_file": Path("k")}


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(f"WATTROAM_{field.upper()}", raising=False)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATTROAM_INTERNAL_TOKEN", "t" * 32)
    monkeypatch.setenv("WATTROAM_MASTER_KEY", "AB" * 32)
    monkeypatch.setenv("WATTROAM_ENVIRONMENT", "development")
    monkeypatch.setenv("WATTROAM_EMBEDDED_ORIGINS", '["http://127.0.0.1:4000"]')
    monkeypatch.setenv("WATTROAM_GATEWAY_OCPP_PORT", "4001")

    settings = Settings()

    assert settings.master_key_bytes == b"\xab" * 32
    assert settings.embedded_origins == ("http://127.0.0.1:4000",)
    assert settings.gateway_ocpp_port == 4001


def test_secrets_do_not_show() -> None:
    settings = Settings(**GOOD)

    assert GOOD["internal_token"] not in repr(settings)
    assert GOOD["master_key"] not in str(settings)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"internal_token": ""}, "WATTROAM_INTERNAL_TOKEN"),
        ({"internal_token": "short"}, "WATTROAM_INTERNAL_TOKEN"),
        ({"master_key": ""}, "WATTROAM_MASTER_KEY"),
        ({"master_key": "zz" * 32}, "WATTROAM_MASTER_KEY"),
        ({"master_key": "ab" * 31}, "WATTROAM_MASTER_KEY"),
        ({"clock_file": Path("clock")}, "stepped clock is refused"),
        ({"settlement_crash_point": "BYTES_SENT"}, "WATTROAM_SETTLEMENT_CRASH_POINT"),
        ({"environment": "embedded", "settlement_crash_point": "BYTES_SENT"}, "WATTROAM_SETTLEMENT_CRASH_POINT"),
        ({"chain_mnemonic": "test junk"}, "WATTROAM_CHAIN_MNEMONIC"),
        ({"embedded_origins": ("http://127.0.0.1:1",)}, "WATTROAM_EMBEDDED_ORIGINS"),
        ({"event_log": "memory"}, "WATTROAM_EVENT_LOG"),
        ({"environment": "embedded", "clock_file": Path("clock")}, "stepped clock is refused"),
        ({"environment": "embedded", "event_log": "memory"}, "WATTROAM_EVENT_LOG"),
        ({"environment": "embedded", "embedded_origins": ("http://10.0.0.1:1",)}, "only on loopback"),
        ({"environment": "embedded", "embedded_origins": ("http://example.org",)}, "only on loopback"),
        ({"event_log": "kafka"}, "WATTROAM_KAFKA_BOOTSTRAP"),
        ({"event_log": "paper"}, "event_log"),
        ({"misspelt": 1}, "misspelt"),
        ({"gateway_certificate_file": Path("c")}, "CERTIFICATE_FILE needs WATTROAM_GATEWAY_KEY_FILE"),
        ({"gateway_key_file": Path("k")}, "KEY_FILE needs WATTROAM_GATEWAY_CERTIFICATE_FILE"),
        ({**TLS, "gateway_second_certificate_file": Path("c")}, "needs WATTROAM_GATEWAY_SECOND_KEY_FILE"),
        ({"gateway_second_certificate_file": Path("c"), "gateway_second_key_file": Path("k")}, "SECOND_CERTIFICATE"),
        ({"gateway_client_ca_file": Path("a")}, "CLIENT_CA_FILE needs WATTROAM_GATEWAY_CERTIFICATE_FILE"),
        ({**TLS, "gateway_client_ca_file": Path("a")}, "CLIENT_CA_FILE needs WATTROAM_GATEWAY_CRL_FILE"),
        ({**TLS, "gateway_crl_file": Path("r")}, "CRL_FILE needs WATTROAM_GATEWAY_CLIENT_CA_FILE"),
        ({"gateway_ca_file": Path("a")}, "CA_FILE needs WATTROAM_GATEWAY_CA_KEY_FILE"),
        ({"gateway_ca_key_file": Path("a")}, "CA_KEY_FILE needs WATTROAM_GATEWAY_CA_FILE"),
        ({"gateway_ca_valid_days": 0}, "gateway_ca_valid_days"),
    ],
)
def test_what_is_not_safe_or_not_possible_is_refused_by_name(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        Settings(**(GOOD | changes))


def test_a_developers_machine_may_step_the_clock() -> None:
    settings = Settings(**GOOD, environment="development", clock_file=Path("clock"), event_log="memory")

    assert settings.clock_file == Path("clock")


def test_neither_the_settings_nor_their_refusal_show_a_secret() -> None:
    secrets: dict[str, Any] = {
        "database_url": "postgresql://u:HUSH-database@h/d",
        "internal_token": "HUSH-token" * 4,
        "master_key": "ab" * 32,
    }

    assert "HUSH" not in repr(Settings(**secrets)) + str(Settings(**secrets))
    with pytest.raises(ValidationError) as refused:
        Settings(**{**secrets, "gateway_api_port": "HUSH-port"})
    with pytest.raises(ValidationError) as short:
        Settings(**{**secrets, "master_key": "HUSH"})
    assert "HUSH" not in str(refused.value) + str(short.value)


def test_an_installation_does_not_show_its_secrets() -> None:
    shown = repr(
        Installation(
            folder=Path("f"),
            event_log="postgres",
            internal_token="HUSH-token",
            master_key="HUSH-key",
            business_port=1,
            gateway_ocpp_port=2,
            gateway_api_port=3,
            database_url="postgresql://u:HUSH@h/d",
        )
    )

    assert "HUSH" not in shown


def test_what_serves_on_one_machine_refuses_a_stepped_clock_and_needs_no_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation = Installation.make(tmp_path, event_log="postgres")
    for name, value in installation.environment().items():
        monkeypatch.setenv(name, value)

    settings = Settings()

    assert settings.embedded_origins == installation.origins
    monkeypatch.setenv("WATTROAM_CLOCK_FILE", str(tmp_path / "clock"))
    with pytest.raises(ValidationError, match="stepped clock is refused"):
        Settings()


@pytest.mark.parametrize(
    ("environment", "said", "is_served"),
    [
        ("development", None, True),
        ("embedded", None, True),
        ("production", None, False),
        ("production", True, True),
        ("development", False, False),
    ],
)
def test_stations_without_tls_are_served_in_production_only_if_that_is_said(
    environment: Any, *, said: bool | None, is_served: bool
) -> None:
    assert Settings(**GOOD, environment=environment, gateway_plain=said).is_plain_served is is_served
