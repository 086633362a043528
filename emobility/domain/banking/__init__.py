"""Money between companies by bank: who is paid how much, and what an entry of a bank statement means for it."""
