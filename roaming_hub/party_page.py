"""The hub operator's page: parties and their states, registrations, rules, consents, and claims that were refused."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Final

from emobility.domain.errors import MalformedInput
from emobility.domain.identifiers import PartyId, Role
from emobility.runtime.operator_page import Field, Form, Link, Section, Shown, Visit
from roaming_hub.party_desk import PartyDesk
from roaming_hub.party_records import ANY, Direction, SetBy

BELOW: Final = "/admin/page"
LINKS: Final = (Link(text="Parties", path="/"), Link(text="Claims", path="/claims"))
_ROLES: Final = tuple(role.value for role in Role if role is not Role.HUB)


class NotADate(MalformedInput):
    """A date is written as 2026-12-31."""


def moment(at: datetime | None) -> str:
    """Return a moment as the page writes it, UTC to the second."""
    return "-" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"


class PartyPage:
    """Its pages."""

    def __init__(self, desk: PartyDesk) -> None:
        self._desk = desk
        self.routes = (
            ("GET", "/", self.parties),
            ("GET", "/claims", self.claims),
            ("POST", "/invite", self.invite),
            ("GET", "/parties/{party_id}", self.party),
            ("POST", "/parties/{party_id}/{what}", self.act),
        )

    async def parties(self, _: Visit) -> Shown:
        """List the parties."""
        rows = [
            (
                Link(text=each.party_id.code, path=f"/parties/{each.party_id}"),
                each.role,
                each.status,
                each.business_name or "-",
                ", ".join(each.modules) or "-",
                "app" if each.is_app else "-",
                moment(each.last_heard_at),
            )
            for each in await self._desk.overview()
        ]
        columns = ("Party", "Role", "State", "Name", "Modules", "Kind", "Heard last")
        form = Form(
            action="/invite",
            button="Invite",
            fields=(
                Field(name="party_id", label="Party, such as NL-TNM"),
                Field(name="role", label="Role", choices=_ROLES),
                Field(name="versions_url", label="Its versions URL", kind="url"),
            ),
        )
        text = "It registers once, with the token you are shown."
        return Shown(
            title="Parties",
            sections=(
                Section(heading="At this hub", columns=columns, rows=rows),
                Section(heading="Invite a party", text=text, forms=(form,)),
            ),
        )

    async def claims(self, _: Visit) -> Shown:
        """List claims and why they were refused."""
        rows = [
            (each.party_id, each.role, each.peer_id, each.state, each.reason or "-", moment(each.checked_at))
            for each in await self._desk.claims()
        ]
        columns = ("Party", "Role", "Platform", "State", "Why", "Since")
        return Shown(title="Claims", sections=(Section(heading="What the registry backs", columns=columns, rows=rows),))

    async def invite(self, visit: Visit) -> Shown:
        """Invite a party; its token is shown this once."""
        party, role = PartyId(visit.said("party_id")), Role(visit.said("role"))
        token = await self._desk.invite(party, role, visit.said("versions_url"))
        return self._token_of(party, token)

    async def party(self, visit: Visit) -> Shown:
        """Show one party."""
        return await self._party(PartyId(visit.request.path_params["party_id"]))

    async def act(self, visit: Visit) -> Shown:
        """Do something about one party and show it."""
        party, what = PartyId(visit.request.path_params["party_id"]), visit.request.path_params["what"]
        if what == "resume":
            return self._token_of(party, await self._desk.resume(party))
        if what == "suspend":
            await self._desk.suspend(party)
        elif what == "rotate":
            await self._desk.rotate(party)
        elif what in {"app", "no-app"}:
            await self._desk.name_app(party, is_app=what == "app")
        elif what == "rule":
            await self._desk.set_rule(
                party,
                counterparty=visit.said("counterparty"),
                module=visit.said("module"),
                direction=Direction(visit.said("direction")),
                is_allowed=visit.said("verdict") == "allow",
                by=SetBy.OPERATOR,
            )
        elif what == "drop-rule":
            await self._desk.drop_rule(
                party,
                counterparty=visit.said("counterparty"),
                module=visit.said("module"),
                direction=Direction(visit.said("direction")),
            )
        elif what == "consent":
            await self._desk.consent(
                party,
                app=visit.said("app"),
                module=visit.said("module"),
                expires_at=_end_of(visit.said("until")),
                by=SetBy.OPERATOR,
            )
        elif what == "withdraw":
            await self._desk.withdraw(party, app=visit.said("app"), module=visit.said("module"))
        return await self._party(party, notice="Done.")

    async def _party(self, party: PartyId, *, notice: str | None = None) -> Shown:
        roles = [each for each in await self._desk.overview() if each.party_id == party]
        is_app = any(each.is_app for each in roles)
        actions = [("suspend", "Suspend"), ("resume", "Resume"), ("rotate", "Rotate tokens")]
        actions.append(("no-app", "It is no app") if is_app else ("app", "It is a third party's app"))
        state = Section(
            heading="State",
            columns=("Role", "State", "Name", "Versions", "Heard last"),
            rows=[
                (
                    each.role,
                    each.status,
                    each.business_name or "-",
                    each.versions_url or "-",
                    moment(each.last_heard_at),
                )
                for each in roles
            ],
            forms=tuple(Form(action=f"/parties/{party}/{what}", button=button) for what, button in actions),
        )
        return Shown(
            title=party.code, sections=(state, await self._rules(party), await self._consents(party)), notice=notice
        )

    async def _rules(self, party: PartyId) -> Section:
        rules = await self._desk.rules(party)
        which = (
            Field(name="counterparty", label="Counterparty, * for any", value=ANY),
            Field(name="module", label="Module, * for any", value=ANY),
            Field(name="direction", label="What it", choices=tuple(each.value for each in Direction)),
        )
        verdict = Field(name="verdict", label="Verdict", choices=("deny", "allow"))
        return Section(
            heading="Rules",
            text="The most particular rule wins; without one all is allowed.",
            columns=("Direction", "Counterparty", "Module", "Verdict", "Set by", "Since"),
            rows=[
                (
                    each.direction,
                    each.counterparty,
                    each.module,
                    "allow" if each.is_allowed else "deny",
                    each.set_by,
                    moment(each.set_at),
                )
                for each in rules
            ],
            forms=(
                Form(action=f"/parties/{party}/rule", button="Set rule", fields=(*which, verdict)),
                Form(action=f"/parties/{party}/drop-rule", button="Forget rule", fields=which),
            ),
        )

    async def _consents(self, party: PartyId) -> Section:
        which = (Field(name="app", label="App, such as NL-APP"), Field(name="module", label="Module", value=ANY))
        until = Field(name="until", label="Until the end of (UTC)", kind="date")
        return Section(
            heading="Consents to apps",
            columns=("App", "Module", "From", "Until", "Withdrawn", "Set by"),
            rows=[
                (
                    each.app_id,
                    each.module,
                    moment(each.granted_at),
                    moment(each.expires_at),
                    moment(each.withdrawn_at),
                    each.set_by,
                )
                for each in await self._desk.consents(party)
            ],
            forms=(
                Form(action=f"/parties/{party}/consent", button="Record consent", fields=(*which, until)),
                Form(action=f"/parties/{party}/withdraw", button="Withdraw", fields=which),
            ),
        )

    def _token_of(self, party: PartyId, token: str) -> Shown:
        url = f"{self._desk.host.ocpi_url(self._desk.hub)}/versions"
        rows = (("Credentials token (TOKEN_A), shown once", token), ("Our versions URL", url))
        return Shown(
            title=f"{party} may register",
            sections=(Section(heading="Hand this over", columns=("What", "Value"), rows=rows),),
        )


def _end_of(date: str) -> datetime:
    try:
        day = datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError as error:
        raise NotADate(f"{date[:20]!r} is no date such as 2026-12-31") from error
    return datetime.combine(day, time.max, tzinfo=UTC).replace(microsecond=0)
