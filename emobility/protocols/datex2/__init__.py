"""DATEX II version 3, energy infrastructure (CEN/TS 16157-10:2022): what access points take in and give out."""
