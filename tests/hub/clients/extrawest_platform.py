"""A CPO or an EMSP made with `extrawest-ocpi`, run by the Python of build/extrawest: what the library asks of its user.

Beside the library's own URLs it serves `/drive`, by which a test has it register, call, and tell what it holds.
"""

from __future__ import annotations

import argparse
import base64
import os
from typing import Any


def main() -> None:
    """Serve until it is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--role", choices=["CPO", "EMSP"], required=True)
    parser.add_argument("--country", required=True)
    parser.add_argument("--party", required=True)
    parser.add_argument("--port", type=int, required=True)
    asked = parser.parse_args()
    # The library reads its settings when it is imported.
    os.environ |= {
        "OCPI_HOST": f"127.0.0.1:{asked.port}",
        "PROTOCOL": "http",
        "COUNTRY_CODE": asked.country,
        "PARTY_ID": asked.party,
        "ENVIRONMENT": "testing",
    }
    import uvicorn

    uvicorn.run(platform(asked.role, asked.country, asked.party, asked.port), host="127.0.0.1", port=asked.port)


def platform(role: str, country: str, party: str, port: int) -> Any:
    """Return the app."""
    import httpx
    from fastapi import Body
    from py_ocpi import get_application
    from py_ocpi.core.authentication.authenticator import Authenticator
    from py_ocpi.core.crud import Crud
    from py_ocpi.core.endpoints import ENDPOINTS
    from py_ocpi.core.endpoints.v_2_2_1.utils import cpo_generator
    from py_ocpi.core.enums import Action, ModuleID, RoleEnum
    from py_ocpi.modules.credentials.v_2_2_1.schemas import Credentials
    from py_ocpi.modules.versions.enums import VersionNumber
    from py_ocpi.modules.versions.v_2_2_1.schemas import InterfaceRole

    own_token = f"token-b-of-{country}-{party}"
    hub: dict[str, Any] = {}
    held: dict[str, dict[str, Any]] = {module.value: {} for module in ModuleID}

    class Tokens(Authenticator):
        @classmethod
        async def get_valid_token_c(cls) -> list[str]:
            return [own_token, hub.get("token", own_token)]

        @classmethod
        async def get_valid_token_a(cls) -> list[str]:
            return []

    class Store(Crud):
        @classmethod
        async def get(cls, module: Any, role: Any, id: Any, *_: Any, **__: Any) -> Any:
            if module == ModuleID.commands:
                return {"result": "ACCEPTED"}
            return held[module.value].get(str(id).lower())

        @classmethod
        async def list(cls, module: Any, role: Any, filters: Any, *_: Any, **__: Any) -> Any:
            found = [*held[module.value].values()]
            return found, len(found), True

        @classmethod
        async def create(cls, module: Any, role: Any, data: Any, *_: Any, **__: Any) -> Any:
            held[module.value][str(data.get("id", data.get("uid"))).lower()] = data
            return data

        @classmethod
        async def update(cls, module: Any, role: Any, data: Any, id: Any, *_: Any, **__: Any) -> Any:
            held[module.value][str(id).lower()] = data
            return data

        @classmethod
        async def delete(cls, module: Any, role: Any, id: Any, *_: Any, **__: Any) -> Any:
            held[module.value].pop(str(id).lower(), None)

        @classmethod
        async def do(cls, module: Any, role: Any, action: Any, *_: Any, data: Any = None, **__: Any) -> Any:
            if action == Action.get_client_token:
                return hub["token"]
            if action == Action.authorize_token:
                token = held["tokens"][data["token_uid"].lower()]
                return {"allowed": "ALLOWED", "token": token, "authorization_reference": "auth-1"}
            return {"result": "ACCEPTED", "timeout": 30}

    # The library serves commands and forgets to list them in its version details.
    ENDPOINTS[VersionNumber.v_2_2_1][RoleEnum.cpo][ModuleID.commands] = cpo_generator.generate_endpoint(
        ModuleID.commands, InterfaceRole.receiver
    )
    modules = [each for each in ModuleID if each not in {ModuleID.client_info, ModuleID.charging_profile}]
    app = get_application(
        version_numbers=[VersionNumber.v_2_2_1],
        roles=[RoleEnum(role)],
        crud=Store,
        modules=modules,
        authenticator=Tokens,
        http_push=True,
    )

    def authorized(token: str) -> dict[str, str]:
        return {"Authorization": f"Token {base64.b64encode(token.encode()).decode()}"}

    @app.post("/drive/register")
    async def register(asked: dict[str, Any] = Body()) -> Any:
        """Register at a hub; the library has no client for it, only the objects."""
        own = Credentials(
            token=own_token,
            url=f"http://127.0.0.1:{port}/ocpi/versions",
            roles=[
                {
                    "role": role,
                    "party_id": party,
                    "country_code": country,
                    "business_details": {"name": "Extrawest", "website": None, "logo": None},
                }
            ],
        )
        async with httpx.AsyncClient() as client:
            versions = (await client.get(asked["versions_url"], headers=authorized(asked["token_a"]))).json()["data"]
            url = next(each["url"] for each in versions if each["version"] == "2.2.1")
            details = (await client.get(url, headers=authorized(asked["token_a"]))).json()["data"]
            endpoints = {(each["identifier"], each["role"]): each["url"] for each in details["endpoints"]}
            answer = await client.post(
                endpoints["credentials", "SENDER"], json=own.dict(), headers=authorized(asked["token_a"])
            )
        said = answer.json()
        if said["status_code"] == 1000:
            hub.update(token=said["data"]["token"], details_url=url, endpoints=endpoints)
        return {"http": answer.status_code, **said, "details_url": url, "token": hub.get("token")}

    @app.post("/drive/call")
    async def call(asked: dict[str, Any] = Body()) -> Any:
        """Call the hub as the library's user does where the library has no client."""
        url = hub["endpoints"][asked["module"], asked["role"]].rstrip("/") + asked["path"]
        async with httpx.AsyncClient() as client:
            answer = await client.request(
                asked["method"], url, json=asked["body"], headers={**authorized(hub["token"]), **asked["headers"]}
            )
        return {"http": answer.status_code, "body": answer.json()}

    @app.put("/drive/held/{module}/{object_id}")
    async def hold(module: str, object_id: str, asked: dict[str, Any] = Body()) -> Any:
        """Put an object into its store."""
        held[module][object_id.lower()] = asked
        return {}

    @app.get("/drive/held")
    async def show() -> Any:
        """Tell what it holds."""
        return held

    return app


if __name__ == "__main__":
    main()
