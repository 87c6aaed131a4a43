"""A measurement is about content, not about a name: whatever has the same bytes, the same base and the same task settings answers the same.

Two names of the same content come from a version that was tagged twice, or pinned by digest and by name.
"""

from collections.abc import Iterable

from taskfleet.api.evaluation import EvaluationReport
from taskfleet.api.revision import TaskModelRevision


def same_content(one: TaskModelRevision, other: TaskModelRevision) -> bool:
    """Would both answer alike? Never said of an adapter whose digest is not known."""
    if one.metadata.name == other.metadata.name:
        return one.status.digest == other.status.digest
    digests_agree = one.status.digest is not None and one.status.digest == other.status.digest
    return digests_agree and one.spec.base == other.spec.base and one.spec.task == other.spec.task


def names_alike(name: str | None, revisions: Iterable[TaskModelRevision]) -> frozenset[str]:
    """The names of all revisions that have the content of the named one, its own among them."""
    known = list(revisions)
    named = next((revision for revision in known if revision.metadata.name == name), None)
    alike = {revision.metadata.name for revision in known if named is not None and same_content(named, revision)}
    return frozenset(alike | ({name} if name is not None else set()))


def adopted(report: EvaluationReport, *, candidate: str, stable: str | None) -> EvaluationReport:
    """A report about revisions of the same content, as one about these. Its message says whom it was measured as."""
    if report.candidate is None or (report.candidate.revision, report.stable.revision if report.stable else None) == (candidate, stable):
        return report
    words = f"measured as {report.candidate.revision}" + (f" beside {report.stable.revision}" if report.stable is not None else "")
    update: dict[str, object] = {"candidate": report.candidate.model_copy(update={"revision": candidate}), "message": words}
    if report.stable is not None and stable is not None:
        update["stable"] = report.stable.model_copy(update={"revision": stable})
    return report.model_copy(update=update)
