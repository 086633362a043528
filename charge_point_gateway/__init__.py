"""The OCPP gateway: talks to charging stations, keeps what they say, sends what the back office asks."""
