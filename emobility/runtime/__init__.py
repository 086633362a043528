"""Settings, telemetry, process life and the embedded servers."""
