"""Invoices as EN 16931-1 means them: what is in one, and the rules that one keeps."""
