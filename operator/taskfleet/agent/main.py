"""`taskfleet agent run`: puts the agent together, runs it, and ends it in order."""

import asyncio
import gc
import logging
import signal

import aiohttp
from aiohttp import web

from taskfleet import __version__, logs
from taskfleet.agent import proxy, server
from taskfleet.agent.administration import Administration
from taskfleet.agent.base_stage import BaseStage
from taskfleet.agent.board import Board
from taskfleet.agent.copies import Copies
from taskfleet.agent.desired import DesiredDocument, Offer
from taskfleet.agent.door import BACKLOG, Door
from taskfleet.agent.drain import Drain
from taskfleet.agent.engine_watch import EngineWatch
from taskfleet.agent.farewell import Farewell
from taskfleet.agent.flights import Flights
from taskfleet.agent.idle_drain import IdleDrain
from taskfleet.agent.metrics import AgentMetrics
from taskfleet.agent.pace import Pace
from taskfleet.agent.peers import Peers
from taskfleet.agent.pool_files import PoolFiles
from taskfleet.agent.proxy import Proxy
from taskfleet.agent.readiness import Readiness
from taskfleet.agent.residency import Surroundings
from taskfleet.agent.residents import Residents
from taskfleet.agent.settings import AgentSettings
from taskfleet.agent.staging import Staging
from taskfleet.agent.startup import Startup
from taskfleet.agent.tokens import TokenVerifier
from taskfleet.agent.version_watch import VersionWatch
from taskfleet.api.agent import DesiredState
from taskfleet.artifacts.access import Access
from taskfleet.artifacts.store import Store
from taskfleet.engines.drivers import driver
from taskfleet.logs import fields

log = logging.getLogger(__name__)

# How long connections may take to close once nothing is in flight any more.
CLOSE_SECONDS = 2.0
# Loads that the engine is asked for at a time. It works on one after the other; those that wait long would look like lost ones.
ENGINE_CHANGES = 4


def run(settings: AgentSettings, door: Door | None) -> None:
    """Runs until SIGTERM or SIGINT, behind the door where that is open already. Raises what no part of it could deal with: then the container is restarted."""
    logs.configure(level=settings.log_level, style=settings.log_style)
    asyncio.run(_run(settings, Pace(), door))


async def _run(settings: AgentSettings, pace: Pace, door: Door | None) -> None:
    end = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    async with proxy.engine_session() as session, asyncio.TaskGroup() as tasks:
        agent = Agent(settings, pace, session, tasks)
        runner = await agent.start(door)
        # What is there now stays, and is looked through no more, as in the gateway: nothing moves while the garbage collector looks at everything.
        gc.collect()
        gc.freeze()
        log.info(
            "agent is up", extra=fields(version=__version__, pod=settings.pod_name, address=settings.pod_ip, port=settings.listen_port)
        )
        await end.wait()
        log.info("agent is asked to end")
        await agent.drain.stop()
        agent.board.close()
        await agent.farewell.take(agent.drain.since)
        await runner.cleanup()
        agent.cancel()
    log.info("agent ends")


class Agent:
    """All parts, wired."""

    def __init__(self, settings: AgentSettings, pace: Pace, session: aiohttp.ClientSession, tasks: asyncio.TaskGroup) -> None:
        self._settings = settings
        self._tasks = tasks
        self._loops: list[asyncio.Task[None]] = []
        engine_url = f"http://127.0.0.1:{settings.engine_port}"
        engine = driver(settings.engine_type).client(session, engine_url)
        flights = Flights()
        self._idle_drain = IdleDrain(flights)
        self.board = Board(settings.pod_name, flights)
        metrics = AgentMetrics(self.board)
        self._store = Store(settings.store)
        self._access = Access(
            credentials_directory=settings.credentials_dir,
            claims_directory=settings.claims_dir,
            insecure_hosts=settings.insecure_hosts,
            allowed_networks=settings.networks,
            partials=self._store.partials,
        )
        self._peers = Peers(
            token_file=settings.peer_token,
            own_address=settings.pod_ip,
            fixed=settings.peer_addresses,
            ended=self._access.ended,
            metrics=metrics,
        )
        self._staging = Staging(
            self._store,
            self._access,
            self._peers,
            seconds=settings.stage_seconds,
            patience=pace.resolve,
            base_image=settings.base_image,
        )
        self._document = DesiredDocument(settings.store)
        self._base = BaseStage(self._document, self._staging, self.board, pace, settings.run)
        self._watch = EngineWatch(engine, self.board, pace)
        self._versions = VersionWatch(self._staging, self.board, pace)
        self._verifier = TokenVerifier()
        self._copies = Copies(verifier=self._verifier, store=self._store, metrics=metrics, bytes_per_second=settings.copy_bytes_per_second)
        self._residents = Residents(
            Surroundings(
                staging=self._staging,
                base=self._base,
                engine=engine,
                watch=self._watch,
                flights=flights,
                board=self.board,
                metrics=metrics,
                pace=pace,
                engine_slots=asyncio.Semaphore(ENGINE_CHANGES),
                demand_slots=asyncio.Semaphore(ENGINE_CHANGES),
            ),
            tasks,
        )
        self._startup = Startup(board=self.board, residents=self._residents)
        self.drain = Drain(
            folder=settings.run,
            flights=flights,
            idle=self._idle_drain,
            board=self.board,
            watch=self._watch,
            pace=pace,
            seconds=settings.drain_seconds,
        )
        self.farewell = Farewell(
            document=self._document,
            store=self._store,
            copies=self._copies,
            peers=self._peers,
            pace=pace,
            linger=settings.linger_seconds,
            seconds=settings.drain_seconds,
        )
        self._files = PoolFiles(settings.pool_dir, on_desired=self._offered_by_file, on_trust=self._verifier.use_trust, every=pace.file)
        self._base.on_staged = self._residents.kick
        self._watch.on_change = self._residents.kick
        self._watch.on_models = self._residents.compare
        self.application = self._application(session, engine_url, metrics)

    def _application(self, session: aiohttp.ClientSession, engine_url: str, metrics: AgentMetrics) -> web.Application:
        """The pod's open door."""
        return server.application(
            inference=Proxy(
                session=session,
                engine_url=engine_url,
                verifier=self._verifier,
                residents=self._residents,
                watch=self._watch,
                drain=self.drain,
                metrics=metrics,
            ),
            administration=Administration(
                verifier=self._verifier,
                document=self._document,
                board=self.board,
                staging=self._staging,
                idle_drain=self._idle_drain,
                taken_up=self._take_up,
            ),
            copies=self._copies,
            readiness=Readiness(base=self._base, watch=self._watch, residents=self._residents, board=self.board),
            metrics=metrics,
            max_body_bytes=self._settings.max_body_bytes,
        )

    async def start(self, door: Door | None) -> web.AppRunner:
        """Takes up what an earlier agent of this pod left, starts everything, and takes over the door, or opens it."""
        self._store.prepare()
        self.drain.prepare()
        self._document.restore()
        if self._document.current is not None:
            self._take_up(self._document.current)
        self._files.look()
        self._loops = [
            self._tasks.create_task(part)
            for part in (
                self._files.run(),
                self._base.run(),
                self._watch.run(),
                self.drain.run(),
                self._versions.run(),
                self._startup.run(),
            )
        ]
        # Cancelled with its client: what nobody waits for any more is not generated.
        runner = web.AppRunner(self.application, handler_cancellation=True, access_log=None, shutdown_timeout=CLOSE_SECONDS)
        await runner.setup()
        if door is not None:
            await web.SockSite(runner, await asyncio.to_thread(door.hand_over), backlog=BACKLOG).start()
        else:
            await web.TCPSite(runner, self._settings.pod_ip, self._settings.listen_port, backlog=BACKLOG).start()
        return runner

    def cancel(self) -> None:
        """Ends all parts: nothing is in flight any more."""
        self._access.ended.set()
        self._staging.cancel()
        for loop in self._loops:
            loop.cancel()
        self._residents.cancel()

    def _offered_by_file(self, document: DesiredState) -> None:
        # At the start what was kept counts more than a mounted document of the same generation: only the kept one can be the later of the two.
        verdict = self._document.offer(document, replaces_equal=bool(self._loops))
        if verdict is Offer.ACCEPTED:
            self._take_up(document)
        elif verdict is not Offer.UNCHANGED:
            log.warning("mounted document is not taken up", extra=fields(why=verdict.value, generation=document.generation))

    def _take_up(self, document: DesiredState) -> None:
        log.info("document is in force", extra=fields(generation=document.generation, adapters=len(document.adapters)))
        self._verifier.use_pool(document.pool)
        self._peers.use_pool(document.pool)
        self._store.limit(document.limits.store_bytes)
        self._residents.follow(document)
        self._versions.follow(document)
        self.board.report_document(document)
        self._base.kick()
