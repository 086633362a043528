"""PDF/A-3 (ISO 19005-3, level B): pages of text and rules, with files attached; of the same content the same bytes."""
