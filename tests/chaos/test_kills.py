"""kill -9 and pulled plugs at random moments, over every command that writes; see `campaign` and `power`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.chaos import cases
from tests.chaos.campaign import Campaign
from tests.chaos.forking import Forks
from tests.chaos.power import CASES, PowerCampaign

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]
SEED = int(os.environ.get("CHAOS_SEED", "0"))


def test_every_command_is_killed(tmp_path: Path) -> None:
    rounds = int(os.environ.get("CHAOS_ROUNDS", "2"))  # of each command
    with Forks() as forks:
        campaign = Campaign(tmp_path, forks, SEED)
        for case in cases.all_cases() * rounds:
            campaign.run(case)
    print("\n" + campaign.table())
    assert not campaign.problems(), "\n".join(campaign.problems())


def test_the_plug_is_pulled(tmp_path: Path) -> None:
    rounds = int(os.environ.get("CHAOS_PLUGS", "6"))
    chosen = [case for case in cases.all_cases() if case.name in CASES]
    with Forks() as forks:
        campaign = PowerCampaign(tmp_path, forks, SEED)
        for case in chosen * rounds:
            campaign.run(case)
    print(f"\n{campaign.table()}\n{campaign.lost} files lost or spoilt, {campaign.repaired} sessions repaired")
    assert not campaign.problems(), "\n".join(campaign.problems())
