"""Nodes as far as rollouts need any: pods of pools run beside agents that prove what they are told to hold, and evaluations end as a test wants."""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from taskfleet.names import LABEL_EVALUATION
from tests.apiserver.golden_sets import Question
from tests.apiserver.pods import ended_with, run_at
from tests.benchmarks.fleet_agents import fleet_agents
from tests.cluster.api import POD, Api, ApiError, Object

LOOK_SECONDS = 0.1

# Gives the termination message; None: it goes on running.
Answer = Callable[[Question], str | None]


def passes(question: Question) -> str:
    """As good as the stable revision."""
    return question.measured()


@dataclass(slots=True)
class Later:
    """Runs until a test says how it ends."""

    answer: Answer | None = None

    def __call__(self, question: Question) -> str | None:
        return self.answer(question) if self.answer is not None else None


@dataclass(slots=True)
class Nodes:
    """`answers` by TaskModel (`namespace/name`): each Job takes the next one, and the last one stays; a task without any passes. `asked` has each Job once, by TaskModel."""

    api: Api
    addresses: Sequence[str]
    namespaces: set[str] = field(default_factory=set)
    answers: defaultdict[str, deque[Answer]] = field(default_factory=lambda: defaultdict(lambda: deque([passes])))
    asked: defaultdict[str, list[Question]] = field(default_factory=lambda: defaultdict(list))
    _given: dict[str, Answer] = field(default_factory=dict)  # by UID of the pod
    _placed: set[str] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            for namespace in sorted(self.namespaces):
                for pod in self.api.list(POD, namespace, labels="app.kubernetes.io/managed-by=taskfleet"):
                    self._look(pod)

    def stop(self) -> None:
        self._over.set()

    def _look(self, pod: Object) -> None:
        if "deletionTimestamp" in pod["metadata"] or pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}:
            return
        try:
            if LABEL_EVALUATION in pod["metadata"]["labels"]:
                self._evaluate(pod)
            elif pod["metadata"]["uid"] not in self._placed:
                run_at(self.api, pod, self.addresses[len(self._placed)])
                self._placed.add(pod["metadata"]["uid"])
        except ApiError as error:
            if error.status != 404:
                raise

    def _evaluate(self, pod: Object) -> None:
        uid, question = pod["metadata"]["uid"], Question.of(pod)
        if uid not in self._given:
            answers = self.answers[question.task]
            self._given[uid] = answers.popleft() if len(answers) > 1 else answers[0]
            self.asked[question.task].append(question)
        message = self._given[uid](question)
        if message is not None:
            ended_with(self.api, pod, message)


@contextmanager
def nodes(api: Api, addresses: Sequence[str]) -> Iterator[Nodes]:
    """They look after the pods of the namespaces that are named to them. `addresses`: loopback ones, one for each pod of a pool that there will be."""
    found = Nodes(api, addresses)
    thread = threading.Thread(target=found.run, name="nodes", daemon=True)
    with fleet_agents(addresses):
        thread.start()
        try:
            yield found
        finally:
            found.stop()
            thread.join(timeout=30)
