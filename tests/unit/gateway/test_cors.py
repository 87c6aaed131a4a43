"""HEAD, OPTIONS and pages of other origins."""

from tests.unit.gateway.pods import Pod
from tests.unit.gateway.raw import connected
from tests.unit.gateway.world import CHAT, MODEL, Rights, World, running

PAGE = "https://tool.example"
PREFLIGHT = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, x-stainless-os"}


async def options(world: World, path: str, headers: dict[str, str] | None = None) -> tuple[int, dict[str, str]]:
    async with world.client.options(world.url + path, headers=headers) as response:
        assert not await response.read()
        return response.status, {name.lower(): value for name, value in response.headers.items()}


async def test_options_tells_the_methods_without_a_token() -> None:
    async with running(access=Rights()) as world:
        for path, allowed in (
            (CHAT, "POST, OPTIONS"),
            ("/v1/models", "GET, HEAD, OPTIONS"),
            ("/v1/models/finance/vendor", "GET, HEAD, OPTIONS"),
        ):
            status, headers = await options(world, path)
            assert (status, headers["allow"]) == (204, allowed)
        async with world.client.options(world.url + "/v1/nothing") as response:
            assert (response.status, (await response.json())["error"]["code"]) == (404, "not_found")


async def test_options_of_the_server_itself() -> None:
    async with running() as world, connected(world.url) as client:
        await client.send(b"OPTIONS * HTTP/1.1\r\nHost: gateway\r\n\r\n")
        assert (await client.answer()).status == 204


async def test_pages_of_other_origins_get_nothing_by_default() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        status, headers = await options(world, CHAT, PREFLIGHT)
        assert status == 204
        async with world.post(headers={"Origin": PAGE}) as response:
            assert response.status == 200
            headers |= {name.lower(): value for name, value in response.headers.items()}
        assert not [name for name in headers if name.startswith("access-control-")]


async def test_named_origin_may_call_and_read_answers_and_errors() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod, cors_origins=f"https://other.example,{PAGE}") as world:
        status, headers = await options(world, CHAT, PREFLIGHT)
        assert (status, headers["access-control-allow-origin"], headers["vary"]) == (204, PAGE, "Origin")
        assert "POST" in headers["access-control-allow-methods"]
        assert headers["access-control-allow-headers"].split(", ") == ["Authorization", "*"]
        assert "access-control-allow-credentials" not in headers
        for fields, expected in (({}, 200), ({"stream": True}, 200), ({"model": "finance/nothing"}, 404)):
            async with world.post(headers={"Origin": PAGE}, **fields) as response:
                assert (response.status, response.headers["Access-Control-Allow-Origin"]) == (expected, PAGE)
                assert "x-request-id" in response.headers["Access-Control-Expose-Headers"]


async def test_other_origins_are_not_meant() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod, cors_origins=PAGE) as world:
        for origin in (f"{PAGE}.evil.example", "https://tool.exampl", "null", "*", PAGE.upper()):
            status, headers = await options(world, CHAT, PREFLIGHT | {"Origin": origin})
            assert status == 204
            assert not [name for name in headers if name.startswith("access-control-")], origin


async def test_any_origin_where_all_are_allowed() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod, cors_origins="*") as world:
        _, headers = await options(world, CHAT, PREFLIGHT)
        assert (headers["access-control-allow-origin"], headers.get("vary")) == ("*", None)


async def test_head_is_get_without_its_body() -> None:
    async with Pod("a", models={MODEL}) as pod, running(pod) as world:
        async with world.client.get(world.url + "/v1/models") as response:
            length = response.headers["Content-Length"]
        async with world.client.head(world.url + "/v1/models") as response:
            assert (response.status, response.headers["Content-Length"], await response.read()) == (200, length, b"")
        async with world.client.head(world.url + CHAT) as response:
            assert (response.status, response.headers["Allow"]) == (405, "POST, OPTIONS")
