"""Platforms that put the one object they answer into a list: others get the object, as the text wants it.

Asked for by the operator (`PeerTolerances.lists_single_objects`); what else such an answer holds keeps its bytes.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from emobility.ports.http import HttpResponse
from emobility.protocols.ocpi.v221 import InterfaceRole, NotAnOCPIObject, NotJSON, read, write
from roaming_hub.messages import Message
from roaming_hub.steps import Step


class SingleObjects(Step):
    """See the module's docstring."""

    async def returning(self, message: Message, answer: HttpResponse) -> HttpResponse:
        """Take the object out of a list of one; lists that were asked for stay lists."""
        incoming = message.incoming
        is_list = incoming.side is InterfaceRole.SENDER and not incoming.rest.strip("/")
        if not message.receiver.tolerances.lists_single_objects or is_list or incoming.side is None:
            return answer
        try:
            members = read(answer.body, dict[str, msgspec.Raw])
            found = read(bytes(members["data"]), list[msgspec.Raw])
        except (NotJSON, NotAnOCPIObject, KeyError):
            return answer
        return answer if len(found) != 1 else replace(answer, body=write({**members, "data": found[0]}))
