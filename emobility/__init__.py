"""What the business knows: domain, events, ports, protocols, adapters and runtime. Deployed by nobody, used by all."""
