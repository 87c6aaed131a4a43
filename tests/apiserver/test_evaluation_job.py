"""A real API server takes an evaluation's account and Job as they are built, and makes its pod under Pod Security `restricted`."""

import json
from collections.abc import Callable

from taskfleet import names
from taskfleet.resources.evaluation import evaluation_job, evaluator_account
from tests.apiserver.conftest import ApiServer
from tests.apiserver.test_pool_children import in_namespace, lost
from tests.cluster.api import POD, Object, eventually
from tests.unit.resources.test_evaluation import SETTINGS, draft


def test_the_job_is_taken_whole_and_its_pod_is_made(api_server: ApiServer, new_namespace: Callable[[str], str]) -> None:
    api, namespace = api_server.api, new_namespace("evaluation")
    api_server.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    job = evaluation_job(draft(), SETTINGS, image_pull_secrets=["pull"])
    for made in (evaluator_account(namespace, []), job):
        applied = in_namespace(made, namespace)
        text = api_server.kubectl(
            "apply", "--server-side", "--field-manager=taskfleet-operator", "-o", "json", "-f", "-", stdin=json.dumps(applied)
        )
        assert lost(applied, json.loads(text)) == []

    def made_pod() -> Object:
        found = api.list(POD, namespace)
        assert found, "there is none"
        return found[0]

    pod = eventually(made_pod, what="Kubernetes makes the pod")
    labels = pod["metadata"]["labels"]
    assert labels[names.LABEL_EVALUATION] == draft().revision
    # Neither a token nor a volume was put in by anyone.
    assert {volume["name"] for volume in pod["spec"]["volumes"]} == {volume["name"] for volume in template(job)["volumes"]}
    assert schema_of(pod) == draft().output_schema, "what looks like a reference to a variable is none"


def template(job: Object) -> Object:
    found: Object = job["spec"]["template"]["spec"]
    return found


def schema_of(pod: Object) -> str:
    """As the kubelet gives it to the container: $$ is one $, and there is no reference."""
    (value,) = (one["value"] for one in pod["spec"]["containers"][0]["env"] if one["name"] == "TASKFLEET_OUTPUT_SCHEMA")
    assert "$(" not in value.replace("$$", "")
    return str(value).replace("$$", "$")
