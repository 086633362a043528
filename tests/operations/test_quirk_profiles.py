"""An operator enters quirk profiles in the back office; the gateways keep and obey them."""

from __future__ import annotations

from typing import Any

from charge_point_gateway.gateway import build as build_gateway
from emobility.protocols.station_control.quirks import QuirkProfile, Tolerance
from emobility.runtime.settings import Settings
from tests.operations.world import CPO, GATEWAY, INTERNAL_TOKEN, MASTER_KEY, World, open_for_business

PROFILE = QuirkProfile(tolerances=(Tolerance.OTHER_CASE,), who="Ada", why="lower case in firmware 1", vendor="acme")


def with_a_gateway(here: World) -> None:
    settings = Settings(
        environment="development",
        internal_token=INTERNAL_TOKEN,  # type: ignore[arg-type]
        master_key=MASTER_KEY.hex(),  # type: ignore[arg-type]
        business_url="http://business.test",
        gateway_api_url=GATEWAY,
    )
    here.http.mount(GATEWAY, build_gateway(settings, here.ports).app)


async def test_a_profile_is_entered_shown_and_taken_away() -> None:
    async with open_for_business() as here:
        with_a_gateway(here)

        entered = await here.api("PUT", f"/{CPO}/quirks/acme_case", PROFILE)
        shown = (await here.api("GET", f"/{CPO}/quirks")).json()
        taken = await here.api("DELETE", f"/{CPO}/quirks/acme_case")
        left = (await here.api("GET", f"/{CPO}/quirks")).json()

    assert (entered.status_code, taken.status_code) == (200, 200)
    own: list[dict[str, Any]] = [each for each in shown if not each["is_built_in"]]
    assert [(each["name"], each["profile"]["tolerances"]) for each in own] == [("acme_case", ["other_case"])]
    assert all(each["is_built_in"] for each in left)


async def test_what_is_no_profile_and_whose_party_is_not_hosted_is_refused() -> None:
    async with open_for_business() as here:
        with_a_gateway(here)
        everybody = QuirkProfile(tolerances=(), who="Ada", why="all of them")

        answers = [
            await here.api("PUT", f"/{CPO}/quirks/all", everybody),
            await here.api("PUT", f"/{CPO}/quirks/acme", {"tolerances": ["make_it_up"], "who": "a", "why": "b"}),
            await here.api("PUT", "/NL-XXX/quirks/acme", PROFILE),
            await here.api("DELETE", f"/{CPO}/quirks/growatt_times"),
            await here.api("GET", f"/{CPO}/quirks", token="t" * 40),
        ]

    assert [each.status_code for each in answers] == [422, 422, 404, 404, 401]
