from __future__ import annotations

import pytest

from emobility.domain.identifiers import Role
from tests.hub.world import CPO, MSP, World, bare_world


@pytest.fixture
def bare() -> World:
    return bare_world()


@pytest.fixture
async def world(bare: World) -> World:
    """A hub with a CPO and an MSP registered."""
    await bare.join(CPO, Role.CPO)
    await bare.join(MSP, Role.EMSP)
    return bare
