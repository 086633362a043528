"""From the socket to a module's handler by the shortest way: a platform's messages come by the thousand.

A service's web framework tries its routes one after another, each by a regular expression, and asks every layer it has.
OCPI needs none of these layers, and the first two parts of a path tell which few of the routes there are to be tried.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from starlette.routing import BaseRoute, Match, Mount, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

_KEY_PARTS: Final = 2
"""Version and module."""
KEYS_MAX: Final = 1_000
"""Beginnings of paths whose routes are remembered; others, which nobody serves, are looked for each time."""

_Key = tuple[str, ...]


class NarrowedRouter(Router):
    """A router that first tries the routes whose paths begin as the request's does; all are in place before it serves.

    What none of these takes in full goes the usual way through all of them, and gets its 404 or 405 there.
    """

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        super().__init__(routes=[*routes], redirect_slashes=False)
        self._by_key: dict[_Key, list[BaseRoute]] = {}

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request to its route (ASGI)."""
        if scope["type"] == "http":
            for route in self._likely(_key_of(scope["path"].removeprefix(scope.get("root_path", "")))):
                match, found = route.matches(scope)
                if match is Match.FULL:
                    scope["route"] = route
                    scope.update(found)
                    await route.handle(scope, receive, send)
                    return
        await super().app(scope, receive, send)

    def _likely(self, key: _Key) -> list[BaseRoute]:
        likely = self._by_key.get(key)
        if likely is None:
            # In the order of all routes: the first that matches is the one that would have been found.
            likely = [route for route in self.routes if _may_begin(route, key)]
            if len(self._by_key) < KEYS_MAX:
                self._by_key[key] = likely
        return likely


def straight(app: ASGIApp, mount: Mount) -> ASGIApp:
    """Return `app` with what `mount` serves served before `app` sees it, to the same effect."""

    async def served(scope: Scope, receive: Receive, send: Send) -> None:
        match, found = mount.matches(scope) if scope["type"] == "http" else (Match.NONE, {})
        if match is Match.FULL:
            await mount.app({**scope, **found}, receive, send)
        else:
            await app(scope, receive, send)

    return served


def _key_of(path: str) -> _Key:
    return tuple(path.split("/", _KEY_PARTS + 1)[1 : _KEY_PARTS + 1])


def _may_begin(route: BaseRoute, key: _Key) -> bool:
    """Tell whether a path that begins with `key` may be one of the route's."""
    if not isinstance(route, Route):
        return True
    own = _key_of(route.path)
    return len(own) <= len(key) and all("{" in part or part == asked for part, asked in zip(own, key, strict=False))
