"""Where the keys that send to a chain are kept: an encrypted folder, a Web3Signer, a key management service."""
