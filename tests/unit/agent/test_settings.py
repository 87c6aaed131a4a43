"""Settings of the agent."""

from pathlib import Path

import pytest

from taskfleet.agent.pace import Pace
from taskfleet.agent.settings import AgentSettings
from taskfleet.settings import SettingsError


def test_the_init_step_needs_no_settings_at_all() -> None:
    assert AgentSettings.from_environment({}).run == Path("/run/taskfleet")


def test_allowed_networks_are_a_list_of_networks() -> None:
    settings = AgentSettings.from_environment({"TASKFLEET_ALLOWED_NETWORKS": "10.20.0.0/16, fd00::/8,"})
    assert [str(network) for network in settings.networks] == ["10.20.0.0/16", "fd00::/8"]
    with pytest.raises(SettingsError, match="TASKFLEET_ALLOWED_NETWORKS"):
        AgentSettings.from_environment({"TASKFLEET_ALLOWED_NETWORKS": "10.20.0.1/16"})


def test_insecure_hosts_are_a_list() -> None:
    settings = AgentSettings.from_environment({"TASKFLEET_INSECURE_REGISTRIES": "Registry.local:5000, other ,"})
    assert settings.insecure_hosts == {"registry.local:5000", "other"}
    assert AgentSettings.from_environment({}).insecure_hosts == frozenset()


def test_peers_are_addresses() -> None:
    settings = AgentSettings.from_environment({"TASKFLEET_PEERS": "127.0.0.1:8080, ::1:9090", "TASKFLEET_POOL_DIR": "/pool"})
    assert settings.peer_addresses == (("127.0.0.1", 8080), ("::1", 9090))
    assert settings.peer_token == Path("/pool/peer-token")


def test_wrong_setting_is_told_by_its_variable() -> None:
    with pytest.raises(SettingsError, match="TASKFLEET_DRAIN_SECONDS"):
        AgentSettings.from_environment({"TASKFLEET_DRAIN_SECONDS": "soon"})


def test_retries_are_doubled_up_to_a_limit_and_spread() -> None:
    pace = Pace(first_retry=1.0, last_retry=60.0)
    assert [pace.retry(attempt, 0.0) for attempt in (1, 2, 3, 7, 1000)] == [1.0, 2.0, 4.0, 60.0, 60.0]
    assert pace.retry(3, 1.0) == 2.0
