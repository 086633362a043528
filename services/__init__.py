"""Back offices and the programs on top of them."""
