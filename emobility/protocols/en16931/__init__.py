"""Invoices as XML: the CII syntax of EN 16931, as Factur-X and ZUGFeRD take it."""
