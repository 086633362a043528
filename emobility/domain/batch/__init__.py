"""What two parties sign for a period: leaves, trees, proofs, statements. Byte for byte what the contracts compute."""
