"""What `docs/how-to/agree-on-roaming.md` signs with openssl is an offer."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Final

from emobility.domain.agreement_offer import OfferState
from emobility.protocols.ocpi.agreement_exchange import Word
from emobility.protocols.ocpi.v221 import read
from tests.hub.test_agreements import said
from tests.hub.two_offices import EMMA, two_offices

PAGE: Final = (Path(__file__).parents[2] / "docs" / "how-to" / "agree-on-roaming.md").read_text()
COMMANDS_S: Final = 20


async def test_the_commands_make_an_offer_that_counts(tmp_path: Path) -> None:
    found = re.search(r"<!-- run by tests/docs/test_agree_on_roaming.py -->\n```bash\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None

    subprocess.run(["bash", "-euc", found[1]], cwd=tmp_path, check=True, timeout=COMMANDS_S)  # noqa: ASYNC221
    word = read((tmp_path / "word.json").read_bytes(), Word)

    async with two_offices() as here:
        await said(here, word)
        talk = await here.cpo.talk()
        assert talk is not None
        assert (talk.state, talk.said_by, talk.agreement.tariff_ids) == (OfferState.OPEN, EMMA, ("W1",))
