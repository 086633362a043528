"""The whole checklist: importing this module enters every group."""

from ocpi_check import (
    broadcast,
    client_info,
    credentials,
    get_all,
    modules,
    open_routing,
    paging,
    routing,
    transport,
)
from ocpi_check.table import CHECKS

GROUPS = {
    "T": transport,
    "P": paging,
    "C": credentials,
    "R": routing,
    "B": broadcast,
    "O": open_routing,
    "G": get_all,
    "H": client_info,
    "M": modules,
}
CHECKS.sort(key=lambda each: (list(GROUPS).index(each.rule[0]), int(each.rule[1:])))

__all__ = ["CHECKS", "GROUPS"]
