"""Two hosted parties without a hub between them, and with one beside: one route, everything once."""

from __future__ import annotations

from typing import Any

from emobility.domain.identifiers import Role
from emobility.domain.tariff.tariff import PriceComponent, TariffDimension, TariffElement, TariffType
from emobility.protocols.ocpi.peers import PEER
from services.charging_operations.tariffs import TariffTerms
from services.driver_mobility.records import TARIFF
from tests.hub.two_offices import EMMA, TULIP, Overheard, TwoOffices, at, joined, joined_directly, terms, two_offices
from tests.hub.world import HUB_ORIGIN

DIRECT = "PUT http://msp.test/mobility/DE-EMA/ocpi/"
BY_HUB = f"PUT {HUB_ORIGIN}/hub/ocpi/"
TARIFFS = "/tariffs/receiver"


async def put_tariff(here: TwoOffices, price: str) -> None:
    element = TariffElement(components=(PriceComponent(dimension=TariffDimension.ENERGY, price=price),))  # type: ignore[arg-type]
    made = TariffTerms(currency="EUR", elements=(element,), tariff_type=TariffType.REGULAR)
    answer = await here.cpo.api("PUT", "/tariffs/W1", made)
    assert answer.status == 200, answer
    await here.quiet()


async def prices(here: TwoOffices) -> list[str]:
    async with here.msp.exchange.ports.units.begin() as unit:
        rows = await unit.table(TARIFF).select({"party_id": EMMA}, order_by=("in_force_from",))
    return [str(row.tariff.elements[0].components[0].price) for row in rows]


def heard(here: TwoOffices) -> Overheard:
    http: Any = here.world.http
    assert isinstance(http, Overheard)
    return http


async def test_two_parties_agree_and_push_without_any_hub() -> None:
    async with two_offices(is_through_hub=False) as here:
        await joined_directly(here)
        await put_tariff(here, "0.30")
        await here.agreed(terms())

        assert await prices(here) == ["0.30"]
        assert heard(here).called(HUB_ORIGIN) == []


async def test_whoever_is_reached_directly_and_through_the_hub_is_pushed_to_once_and_directly() -> None:
    async with two_offices() as here:
        await joined_directly(here)
        await here.agreed(terms())
        heard(here).urls.clear()

        await put_tariff(here, "0.30")

        assert (len(heard(here).called(DIRECT, TARIFFS)), heard(here).called(BY_HUB, TARIFFS)) == (1, [])
        assert await prices(here) == ["0.30"]


async def test_a_direct_route_that_comes_later_takes_over_from_the_hub_and_gives_back() -> None:
    async with two_offices() as here:
        await here.agreed(terms())
        await put_tariff(here, "0.30")
        by_hub = len(heard(here).called(BY_HUB, TARIFFS))

        await joined_directly(here)
        await here.quiet()
        here.clock.step_to(at(0.1))
        heard(here).urls.clear()
        await put_tariff(here, "0.31")
        directly, still_by_hub = len(heard(here).called(DIRECT, TARIFFS)), heard(here).called(BY_HUB, TARIFFS)
        async with here.msp.exchange.ports.units.begin() as unit:
            peer = await unit.table(PEER).get(EMMA, "nl-tul")
        assert peer is not None
        await here.msp.service.host.registrar.leave(await here.msp.service.host._identity(EMMA, peer), peer)
        here.clock.step_to(at(0.2))
        await put_tariff(here, "0.32")

        assert by_hub == 1
        assert (directly, still_by_hub) == (1, [])
        assert len(heard(here).called(BY_HUB, TARIFFS)) == 1
        assert await prices(here) == ["0.30", "0.31", "0.32"]


async def test_only_the_party_that_was_invited_registers_with_the_invitation() -> None:
    async with two_offices(is_through_hub=False) as here:
        invitation = {
            "versions_url": f"{here.cpo.base}/{TULIP}/ocpi/versions",
            "expected_party": "NL-OTH",
            "expected_role": Role.CPO,
        }
        answer = await here.msp.api("POST", "/ocpi-invitations", invitation)
        token_a = answer.body.decode().partition('"token_a":"')[2][:64]
        asked = {
            "versions_url": f"{here.msp.base}/{EMMA}/ocpi/versions",
            "token_a": token_a,
            "peer_id": "de-ema",
            "expected_party": EMMA.code,
            "expected_role": Role.EMSP,
        }

        refused = await here.cpo.api("POST", "/ocpi-register", asked)
        stranger = await here.msp.api("POST", "/ocpi-invitations", invitation, Authorization="Bearer no")

        assert (refused.status, stranger.status) == (502, 401)
        await joined(here.world, here.cpo, Role.CPO)
