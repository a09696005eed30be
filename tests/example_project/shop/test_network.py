"""Calls to others, on a running server."""

import json
from typing import Any

import pytest

from example_project.shop import network


@pytest.mark.django_db(transaction=True)
@pytest.mark.urls("example_project.urls")
class PostTests:
    @pytest.fixture(autouse=True)
    def _real_network(self, _instant_network: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        monkeypatch.setattr(network, "TIMEOUT_SECONDS", 60)

    def test_answers_with_the_status(self, live_server: Any) -> None:
        body = json.dumps({"id": "evt_1"}).encode()
        url = f"{live_server.url}/bank/payments/"

        assert network.post(url, body, {"Bank-Signature": "0"}) == 403
        assert network.post(f"{live_server.url}/", body, {}) == 405

    def test_raises_if_nobody_answers(self, refusing_port: int) -> None:
        with pytest.raises(OSError, match="refused"):
            network.post(f"http://127.0.0.1:{refusing_port}/", b"{}", {})
