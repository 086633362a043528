"""Judge an OCPI platform or hub from outside, over HTTP, line by line of a checklist (`wattroam ocpi check URL`).

Reads and writes OCPI by itself: what this repository serves is judged by none of the code that serves it. Parties that
a hub can call back are played by `mock.MockParty`, which newcomers can run alone (`wattroam ocpi mock`).
"""
