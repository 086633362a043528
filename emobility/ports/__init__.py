"""What the business asks of the world, as Protocols. Adapters answer; only wiring knows which."""
