"""M: what the modules ask of whoever serves them; at a hub, what arrives and comes back through it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from ocpi_check import objects
from ocpi_check.mock import MockParty
from ocpi_check.mock_modules import COMMANDS
from ocpi_check.routing import result_url, start_session
from ocpi_check.run import VERSIONS, Run, Way
from ocpi_check.table import CPO, EMSP, HUB, SINCE_230, SUCCESS, NotApplicable, check, expect, hold
from ocpi_check.transport import pushing
from ocpi_check.wire import Party

STRANGER: Final = Party("ZZ", "ZZZ")


@check("M1", "mod_locations.asciidoc#mod_locations_put_method", roles=(*EMSP, "NSP"))
async def locations(run: Run) -> None:
    """PUT and PATCH of a Location, an EVSE and a Connector; what a change stands in is as new as the change."""
    way = await run.way("locations", "RECEIVER")
    owner, number, at = way.sender.party, run.number(), run.later()
    base = f"/{owner.path}/LOC{number}"
    expect(await way.call("PUT", base, objects.location(owner, number, at)), http=201, code=SUCCESS)
    for path, whole in (
        (f"{base}/EVSE{number}", objects.evse(owner, number, at + timedelta(minutes=1))),
        (f"{base}/EVSE{number}/1", objects.connector(at + timedelta(minutes=2))),
    ):
        answer = expect(await way.call("PUT", path, whole), http=(200, 201), code=SUCCESS)
        _carried(way, answer.sent, path)
    first, second, newest = (objects.stamp(at + timedelta(minutes=each)) for each in (3, 4, 5))
    for path, change in (
        (base, {"name": "Renamed", "last_updated": first}),
        (f"{base}/EVSE{number}", {"status": "CHARGING", "last_updated": second}),
        (f"{base}/EVSE{number}/1", {"max_amperage": 16, "last_updated": newest}),
    ):  # fmt: skip
        answer = expect(await way.call("PATCH", path, change), http=200, code=SUCCESS)
        _carried(way, answer.sent, path)
    kept = expect(await way.call("GET", base), http=200, code=SUCCESS).data
    evse = kept["evses"][0]
    facts = (kept["name"], evse["status"], evse["connectors"][0]["max_amperage"])
    hold(facts == ("Renamed", "CHARGING", 16), expected="all three changes", got=str(facts), sent="GET Location")
    stamps = {kept["last_updated"], evse["last_updated"], evse["connectors"][0]["last_updated"]}
    hold({_plain(each) for each in stamps} == {_plain(newest)}, expected=f"last_updated {newest} on all three levels",
         got=str(stamps), sent="GET Location")  # fmt: skip


@check("M2", "transport_and_format.asciidoc#transport_and_format_patch", roles=(*EMSP, "NSP"))
async def patch_without_a_time(run: Run) -> None:
    """PATCH without last_updated is S 2001."""
    way = await run.way("locations", "RECEIVER")
    owner, number = way.sender.party, run.number()
    path = f"/{owner.path}/LOC{number}"
    expect(await way.call("PUT", path, objects.location(owner, number, run.later())), code=SUCCESS)
    expect(await way.call("PATCH", path, {"name": "Renamed"}), http=200, code=2001)


@check("M3", "transport_and_format.asciidoc#transport_and_format_errors")
async def other_id_in_the_body(run: Run) -> None:
    """An id in the URL that differs from the body's is S 2001."""
    way, path, pushed = await pushing(run)
    expect(await way.call("PUT", f"{path}-x", pushed), http=200, code=2001)


@check("M4", "transport_and_format.asciidoc#transport_and_format_errors")
async def foreign_owner(run: Run) -> None:
    """A country and party in the URL that are not the sender's are answered HTTP 404."""
    way, path, pushed = await pushing(run)
    foreign = {**pushed, "country_code": STRANGER.country_code, "party_id": STRANGER.party_id}
    expect(await way.call("PUT", f"/{STRANGER.path}/{path.rsplit('/', 1)[1]}", foreign), http=404)


@check("M5", "mod_tokens.asciidoc#mod_tokens_real-time_authorization", roles=EMSP)
async def authorisation(run: Run) -> None:
    """An unknown token is HTTP 404 with S 2004 and no data; a known one is answered with what the CPO may do."""
    way = await run.way("tokens", "SENDER")
    unknown = await way.call("POST", "/NO-SUCH-CARD/authorize?type=RFID", {"location_id": "LOC1"})
    expect(unknown, http=404, code=2004)
    hold(unknown.data is None, expected="no data", got=str(unknown.data), sent=unknown.sent)
    if way.receiver is None:
        listed = expect(await way.call("GET", "?limit=5"), http=200, code=SUCCESS).data
        if not listed:
            raise NotApplicable("the platform lists no token to ask for")
        uid = listed[0]["uid"]
    else:
        uid = "CARD-ALWAYS"
        where = await way.call("POST", "/CARD-NEVER/authorize?type=RFID")
        expect(where, "a location is needed", http=200, code=2002)
        answer = expect(await way.call("POST", "/CARD-NEVER/authorize", {"location_id": "LOC1"}), code=SUCCESS)
        hold(answer.data["token"]["whitelist"] == "NEVER", expected="whitelist NEVER as the EMSP says", got=answer)
    answer = expect(await way.call("POST", f"/{uid}/authorize?type=RFID", {"location_id": "LOC1"}), code=SUCCESS)
    allowed = answer.data["allowed"]
    values = {"ALLOWED", "BLOCKED", "EXPIRED", "NO_CREDIT", "NOT_ALLOWED"}
    hold(allowed in values, expected=f"one of {sorted(values)}", got=str(allowed), sent=answer.sent)


@check("M6", "mod_commands.asciidoc#mod_commands_cpo_post_method", roles=CPO)
async def commands(run: Run) -> None:
    """Five commands, each answered with its timeout; an unknown location is S 2003 or REJECTED."""
    way = await run.way("commands", "RECEIVER")
    token = objects.token(way.sender.party, "CARD1", run.later())
    bodies: dict[str, dict[str, Any]] = {
        "START_SESSION": {"token": token, "location_id": "LOC1", "evse_uid": "EVSE1"},
        "STOP_SESSION": {"session_id": "SESSION1"},
        "RESERVE_NOW": {"token": token, "expiry_date": objects.stamp(run.later() + timedelta(hours=1)),
                        "reservation_id": "R1", "location_id": "LOC1"},
        "CANCEL_RESERVATION": {"reservation_id": "R1"},
        "UNLOCK_CONNECTOR": {"location_id": "LOC1", "evse_uid": "EVSE1", "connector_id": "1"},
    }  # fmt: skip
    for name in COMMANDS:
        body = {"response_url": result_url(run, way, f"m6-{name}"), **bodies[name]}
        answer = await way.call("POST", f"/{name}", body)
        if way.receiver is None and not answer.is_success:
            expect(answer, http=(200, 404), code=range(2000, 3000))
            continue
        expect(answer, http=200, code=SUCCESS)
        results = {"ACCEPTED", "REJECTED", "NOT_SUPPORTED", "UNKNOWN_SESSION"}
        hold(answer.data["result"] in results, expected=f"one of {sorted(results)}", got=answer)
        hold(isinstance(answer.data["timeout"], int), expected="a timeout in seconds", got=str(answer.data),
             sent=answer.sent)  # fmt: skip
        if way.receiver is not None:
            _carried(way, answer.sent, f"/{name}")
    body = start_session(run, way, result_url(run, way, "m6-nowhere"), location_id="NOWHERE")
    answer = await way.call("POST", "/START_SESSION", body)
    is_refused = answer.code == 2003 or (isinstance(answer.data, dict) and answer.data.get("result") == "REJECTED")
    hold(is_refused, expected="S 2003 or REJECTED", got=answer)


@check("M7", "mod_cdrs.asciidoc#mod_cdrs_post_method", roles=EMSP)
async def cdrs(run: Run) -> None:
    """POST of a CDR gives its Location; it can't be changed; a credit CDR names what it credits."""
    way = await run.way("cdrs", "RECEIVER")
    msp = way.to_party or STRANGER
    original = objects.cdr(way.sender.party, msp, f"CDR{run.number()}", run.later(), run.target.version)
    created = expect(await way.call("POST", "", original), http=(200, 201), code=SUCCESS)
    place = created.headers.get("location", "")
    hold(place.startswith("http"), expected="Location of the CDR", got=repr(place), sent=created.sent)
    back = expect(await way.call("GET", place), http=200, code=SUCCESS)
    hold(back.data["id"] == original["id"], expected=original["id"], got=str(back.data)[:100], sent=back.sent)
    changed = await way.call("PUT", f"/{original['id']}", {**original, "total_energy": Decimal("2.2")})
    hold(not changed.is_success, expected="a refusal: a CDR is sealed", got=changed)
    again = expect(await way.call("GET", place), http=200, code=SUCCESS)
    hold(again.data == back.data, expected="the CDR as it was", got=str(again.data)[:200], sent=again.sent)
    credit = objects.credit_of(original, run.later(), run.target.version)
    answer = expect(await way.call("POST", "", credit), http=(200, 201), code=SUCCESS)
    if way.receiver is not None:
        arrived = way.arrived(answer).json
        hold(arrived == credit, expected="the credit CDR as it was sent", got=str(arrived)[:200], sent=answer.sent)


@check("M8", "mod_sessions.asciidoc#mod_sessions_patch_method", roles=EMSP)
async def sessions(run: Run) -> None:
    """PATCH of a Session's charging_periods adds to them."""
    way = await run.way("sessions", "RECEIVER")
    msp = way.to_party or STRANGER
    session = objects.session(way.sender.party, msp, run.number(), run.later(), run.target.version)
    path = f"/{way.sender.party.path}/{session['id']}"
    expect(await way.call("PUT", path, session), http=(200, 201), code=SUCCESS)
    later = run.later()
    period = {"start_date_time": objects.stamp(later), "dimensions": [{"type": "ENERGY", "volume": Decimal("2.20")}]}
    change = {"kwh": Decimal("3.30"), "charging_periods": [period], "last_updated": objects.stamp(later)}
    expect(await way.call("PATCH", path, change), http=200, code=SUCCESS)
    kept = expect(await way.call("GET", path), http=200, code=SUCCESS).data
    facts = (Decimal(kept["kwh"]), len(kept["charging_periods"]))
    hold(facts == (Decimal("3.3"), 2), expected="kwh 3.3 and 2 charging periods", got=str(facts), sent="GET Session")


@check("M9", "mod_charging_profiles.asciidoc#mod_charging_profiles_cpo_put_method", roles=HUB)
async def smart_charging(run: Run) -> None:
    """Charging preferences and charging profiles, from an EMSP and from a Smart Charging Service Provider."""
    way = await run.way("sessions", "SENDER")
    wishes = {"profile_type": "CHEAP", "departure_time": objects.stamp(run.later()), "energy_need": Decimal("10.0")}
    answer = expect(await way.call("PUT", "/SESSION1/charging_preferences", wishes), http=200, code=SUCCESS)
    hold(answer.data == "ACCEPTED", expected="the CPO's ACCEPTED", got=str(answer.data), sent=answer.sent)
    cpo, scsp = await run.cpo(), await run.party("scsp", "SCSP")
    for sender in (await run.emsp(), scsp):
        way = Way(run, sender, run.endpoint(sender, "chargingprofiles", "RECEIVER"), cpo.party, cpo)
        url = f"{sender.base_url}/ocpi/{run.target.version}/chargingprofiles/sender/m9-{run.number()}"
        body = {
            "charging_profile": {"charging_rate_unit": "W", "min_charging_rate": Decimal("0.0")},
            "response_url": url,
        }
        for method, path, sent in (
            ("PUT", "/SESSION1", body),
            ("GET", f"/SESSION1?duration=900&response_url={url}", None),
            ("DELETE", f"/SESSION1?response_url={url}", None),
        ):
            answer = expect(await way.call(method, path, sent), http=200, code=SUCCESS)
            heard = way.arrived(answer, method)
            at = heard.json["response_url"] if sent else heard.query.get("response_url", "")
            is_hub = at.startswith("http") and not at.startswith(sender.base_url)
            hold(is_hub, expected="a response_url of the hub", got=repr(at), sent=answer.sent)
    session = objects.session(cpo.party, (await run.emsp()).party, run.number(), run.later(), run.target.version)
    to_scsp = Way(run, cpo, run.endpoint(cpo, "sessions", "RECEIVER"), scsp.party, scsp)
    expect(await to_scsp.call("PUT", f"/{cpo.party.path}/{session['id']}", session), http=(200, 201), code=SUCCESS)


@check("M10", "mod_tariffs.asciidoc#mod_tariffs_delete_method", roles=(*EMSP, "NSP"))
async def deleted_tariff(run: Run) -> None:
    """DELETE of a Tariff removes it."""
    way = await run.way("tariffs", "RECEIVER")
    owner = way.sender.party
    tariff = objects.tariff(owner, run.number(), run.later(), run.target.version)
    path = f"/{owner.path}/{tariff['id']}"
    expect(await way.call("PUT", path, tariff), http=(200, 201), code=SUCCESS)
    expect(await way.call("DELETE", path), http=200, code=SUCCESS)
    expect(await way.call("GET", path), http=404)


@check("M11", "mod_invoice_reconciliation.asciidoc#mod_invoice_reconciliation_module", roles=HUB, versions=SINCE_230)
async def modules_since_230(run: Run) -> None:
    """Invoice reconciliation, payments (terminals, financial advice confirmations) and bookings are carried."""
    cpo, emsp = await run.cpo(), await run.emsp()
    way = Way(run, cpo, run.endpoint(cpo, "invoicereconciliation", "RECEIVER"), emsp.party, emsp)
    record = objects.reconciliation(cpo.party, f"IR{run.number()}", run.later())
    path = f"/{cpo.party.path}/{record['id']}"
    for method, where, body in (
        ("POST", "", record),
        ("GET", path, None),
        ("PUT", path, {**record, "cdrs": ["CDR1", "CDR2"]}),
        ("DELETE", path, None),
    ):
        way.arrived(expect(await way.call(method, where, body), http=(200, 201), code=SUCCESS), method)
    listing = Way(run, emsp, run.endpoint(emsp, "invoicereconciliation", "SENDER"), cpo.party, cpo)
    listing.arrived(expect(await listing.call("GET", "?limit=1"), http=200, code=SUCCESS))
    await _payments(run)
    bookings = Way(run, emsp, run.endpoint(emsp, "bookings", "SENDER"), cpo.party, cpo)
    bookings.arrived(expect(await bookings.call("GET", "/booking_locations?limit=1"), http=200, code=SUCCESS))
    told = Way(run, cpo, run.endpoint(cpo, "bookings", "RECEIVER"), emsp.party, emsp)
    booking = {"id": "B1", "country_code": cpo.party.country_code, "party_id": cpo.party.party_id,
               "last_updated": objects.stamp(run.later())}  # fmt: skip
    told.arrived(expect(await told.call("PUT", f"/{cpo.party.path}/B1", booking), http=(200, 201), code=SUCCESS))


async def _payments(run: Run) -> None:
    cpo, ptp = await run.cpo(), await run.party("ptp", "PTP")
    asking = Way(run, cpo, run.endpoint(cpo, "payments", "SENDER"), ptp.party, ptp)
    terminal = {"terminal_id": "T1", "last_updated": objects.stamp(run.later())}
    for method, path, body in (
        ("GET", "/terminals?limit=1", None),
        ("PUT", "/terminals/T1", terminal),
        ("PATCH", "/terminals/T1", {"location_ids": ["LOC1"], "last_updated": objects.stamp(run.later())}),
        ("POST", "/terminals/activate", terminal),
        ("POST", "/terminals/T1/deactivate", None),
    ):
        answer = expect(await asking.call(method, path, body), http=(200, 201), code=SUCCESS)
        _carried(asking, answer.sent, path.partition("?")[0])
    telling = Way(run, ptp, run.endpoint(ptp, "payments", "RECEIVER"), cpo.party, cpo)
    advice = {"id": "F1", "total_costs": objects.price("2.3.0", "1.00", "1.21"),
              "last_updated": objects.stamp(run.later())}  # fmt: skip
    answer = await telling.call("POST", "/financial-advice-confirmations", advice)
    telling.arrived(expect(answer, http=(200, 201), code=SUCCESS), "POST")


@check("M12", "changelog.asciidoc", roles=HUB)
async def bridging(run: Run) -> None:
    """Between a party of 2.2.1 and one of 2.3.0 prices and tariffs are translated, and loss is reported."""
    cpo = await run.cpo()
    theirs = next(each for each in VERSIONS if each != run.target.version)
    msp = await run.party("bridged", "EMSP", version=theirs)
    number, at = run.number(), run.later()
    tariff = objects.tariff(cpo.party, number, at, run.target.version)
    way = Way(run, cpo, run.endpoint(cpo, "tariffs", "RECEIVER"), msp.party, msp)
    answer = expect(await way.call("PUT", f"/{cpo.party.path}/{tariff['id']}", tariff), http=(200, 201), code=SUCCESS)
    heard = way.arrived(answer)
    hold(f"/ocpi/{theirs}/" in heard.path, expected=f"an endpoint of {theirs}", got=heard.path, sent=answer.sent)
    hold(("tax_included" in heard.json) == (theirs == "2.3.0"), expected=f"tax_included as {theirs} has it",
         got=str(heard.json)[:300], sent=answer.sent)  # fmt: skip
    price = heard.json["elements"][0]["price_components"][0]["price"]
    hold(str(price) == "0.30", expected="price 0.30", got=str(price), sent=answer.sent)
    cdr = objects.cdr(cpo.party, msp.party, f"CDR{number}", at, run.target.version)
    posting = Way(run, cpo, run.endpoint(cpo, "cdrs", "RECEIVER"), msp.party, msp)
    answer = expect(await posting.call("POST", "", cdr), http=(200, 201), code=SUCCESS)
    cost = posting.arrived(answer).json["total_cost"]
    if theirs == "2.3.0":
        taxes = sum((tax["amount"] for tax in cost.get("taxes", [])), Decimal())
        facts = (Decimal(cost.get("before_taxes", 0)), taxes)
        hold(facts == (Decimal("0.33"), Decimal("0.07")), expected="before_taxes 0.33 and taxes 0.07", got=str(cost),
             sent=answer.sent)  # fmt: skip
    else:
        facts = (Decimal(cost.get("excl_vat", 0)), Decimal(cost.get("incl_vat", 0)))
        hold(facts == (Decimal("0.33"), Decimal("0.40")), expected="excl_vat 0.33 and incl_vat 0.40", got=str(cost),
             sent=answer.sent)  # fmt: skip
    await _back(run, msp, cpo)
    if theirs == "2.2.1":
        await _told_of_loss(run, msp, cpo)


async def _back(run: Run, msp: MockParty, cpo: MockParty) -> None:
    """Have the bridged party pull: the answer is in its version."""
    pulling = Way(run, msp, run.endpoint(msp, "tariffs", "SENDER"), cpo.party, cpo)
    listed = expect(await pulling.call("GET", "?limit=1"), http=200, code=SUCCESS)
    is_newer = run.target.version == "2.2.1"
    hold(("tax_included" in listed.data[0]) == is_newer, expected="a list in the asking party's version",
         got=str(listed.data[0])[:300], sent=listed.sent)  # fmt: skip


async def _told_of_loss(run: Run, msp: MockParty, cpo: MockParty) -> None:
    """Push what 2.2.1 has no field for: the sender is told, in a header or in status_message."""
    way = Way(run, cpo, run.endpoint(cpo, "locations", "RECEIVER"), msp.party, msp)
    location = {**objects.location(cpo.party, run.number(), run.later()), "help_phone": "+31201234567"}
    answer = await way.call("PUT", f"/{cpo.party.path}/{location['id']}", location)
    expect(answer, http=(200, 201), code=SUCCESS)
    heard = way.arrived(answer).json
    is_lost = heard.get("help_phone") is None
    told = f"{answer.envelope.get('status_message', '')} {answer.headers}"
    hold(not is_lost or "help_phone" in told, expected="to be told that help_phone is lost", got=told[:300],
         sent=answer.sent)  # fmt: skip


def _carried(way: Way, sent: str, path: str) -> None:
    """See that a hub's receiver got it at the same path."""
    if way.receiver is None:
        return
    hold(way.receiver.heard[-1].path.endswith(path) or way.receiver.heard_at(path), expected=f"a URL with {path}",
         got="nothing there", sent=sent)  # fmt: skip


def _plain(stamp: str) -> str:
    return stamp.replace(".000Z", "Z").replace("+00:00", "Z")
