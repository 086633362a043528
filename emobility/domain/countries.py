"""ISO 3166: the two and the three letters of the countries around here."""

from __future__ import annotations

from typing import Final

ALPHA_3: Final = {
    both[:2]: both[2:]
    for both in (
        *("ADAND", "ALALB", "ATAUT", "AUAUS", "BABIH", "BEBEL", "BGBGR", "CACAN", "CHCHE", "CYCYP", "CZCZE", "DEDEU"),
        *("DKDNK", "EEEST", "ESESP", "FIFIN", "FRFRA", "GBGBR", "GRGRC", "HRHRV", "HUHUN", "IEIRL", "ISISL", "ITITA"),
        *("LILIE", "LTLTU", "LULUX", "LVLVA", "MCMCO", "MDMDA", "MEMNE", "MKMKD", "MTMLT", "NLNLD", "NONOR", "NZNZL"),
        *("PLPOL", "PTPRT", "ROROU", "RSSRB", "SESWE", "SISVN", "SKSVK", "SMSMR", "TRTUR", "UAUKR", "USUSA"),
    )
}
"""Two letters to three."""
ALPHA_2: Final = {three: two for two, three in ALPHA_3.items()}
"""Three letters to two."""
