"""kafka-python: the event log beyond one machine."""
