# ruff: noqa: E501  each text is one cell of a table
"""What to do about each reason of a condition, and about each metric. `taskfleet.api.troubleshooting` makes the page from here, and refuses where a text is missing.

What a reason or a metric *means* stands where it is defined. Here stands what its reader should do, addressed to them, with the field or command in question.
"""

from collections.abc import Mapping

from taskfleet.api.conditions import Reason

_NOTHING = "Nothing."
_WAIT = "Wait; it goes on by itself."

OF_REASONS: Mapping[Reason, str] = {
    # Accepted
    Reason.VALID: _NOTHING,
    Reason.INVALID_SPEC: "Correct the field that the message names and apply again. What served before goes on.",
    Reason.INVALID_SCHEMA: "Correct `spec.task.inputSchema` or `outputSchema`: the message quotes the place. Both are the text of one JSON Schema, as JSON or YAML.",
    Reason.UNSUPPORTED_SOURCE: "Use a source with a scheme that this version reads: see [artifacts](operations.md#artifacts-and-credentials).",
    Reason.CLAIM_NOT_OFFERED: "Check the claim's name in the source, or have its owner offer it: `kubectl label pvc CLAIM -n NAMESPACE taskfleet.dev/artifacts=true`. It is noticed by itself.",
    Reason.NO_DEFAULT_CLASS: 'Name a class in `spec.servingClassName`, or have an administrator mark one with the annotation `taskfleet.dev/is-default-class: "true"`.',
    Reason.CLASS_NOT_FOUND: "`kubectl get servingclasses` lists those that exist. Name one of them, or create the missing one; no TaskModel has to be touched then.",
    Reason.CLASS_NOT_ALLOWED: "Use another class, or have an administrator allow the namespace in the class's `spec.allowedNamespaces`.",
    Reason.CLASS_INVALID: "`kubectl describe servingclass NAME`: its own condition `Accepted` names the field. An administrator corrects it; all its TaskModels follow.",
    # Assigned
    Reason.MEMBER_OF_POOL: _NOTHING,
    Reason.WAITING_FOR_POOL: "Wait some seconds. If it stays, the operator is not working: see [the operator](#the-operator-restarts-or-does-nothing).",
    Reason.SUSPENDED: "Set `spec.suspend: false` when the task may change again.",
    # AdapterReady
    Reason.PROVEN: _NOTHING,
    Reason.RESOLVING: f"{_WAIT} A pool at zero pods is started for it.",
    Reason.LOADING: f"{_WAIT} Large adapters take as long as their download; the agent's log tells how far it is.",
    Reason.SOURCE_NOT_ALLOWED: "Check the host that the message names. If it is yours and at a private address, the administrator can add its network to the "
    "chart's value `artifacts.allowedNetworks`. It is asked again with growing pauses.",
    Reason.SOURCE_UNAVAILABLE: "Look at the source: the message quotes its answer. It is asked again with growing pauses; nothing has to be applied when it is back.",
    Reason.ARTIFACT_NOT_FOUND: "Check `source` and `version` for spelling, and that the version was pushed. It is looked up again by itself.",
    Reason.ARTIFACT_INVALID: "The message says what is wrong: a file that is missing or forbidden, shapes of another base, a rank or size above the class's limit. Push a corrected version and name it; a limit is the administrator's to raise.",
    Reason.ENGINE_REJECTED: "The engine's own words are in the message. Usually a module or a rank that it does not support: train for what it supports, or raise `adapters.maxRank` of the class.",
    Reason.DIGEST_MISMATCH: "Somebody replaced the bytes of this version. Push them as a version of their own and name that one, or, where the pin is wrong, correct `spec.adapter.digest`. The recorded bytes go on serving.",
    Reason.STORE_FULL: "Raise `store.sizeLimit` of the class, which rolls its pods, or give the pool fewer or smaller adapters. It is tried again by itself; what serves goes on.",
    Reason.CREDENTIALS_MISSING: "Add the entry to the Secret `taskfleet-credentials` of the namespace, or correct `credentialsKey`. Pods pick it up within two minutes, without a restart.",
    # Available, and pools
    Reason.SERVING: _NOTHING,
    Reason.AT_ZERO: "Nothing. Where the first request must not wait for a pod, set `scaling.minReplicas` to 1: see [scaling](scaling.md).",
    Reason.WAKING: f"{_WAIT} How long it takes is how long a pod of the class takes to start.",
    Reason.NO_READY_PODS: "Look at the pool's pods: see [pool pods don't start](#pool-pods-dont-start). Requests are held for a while, then answered with 503.",
    Reason.UNSCHEDULABLE: "The scheduler's words are in the message: free or add devices, or correct `accelerator` and `scheduling` of the class. It is tried again by itself.",
    Reason.IMAGE_UNAVAILABLE: "Check the image's name in the class (engine) or in the chart's values (agent), `imagePullSecrets`, and that nodes reach the registry.",
    Reason.ENGINE_CRASHING: "Read the engine's last words: `kubectl logs POD -c engine --previous`. Often too little memory for the model, or an argument in `engine.args`.",
    Reason.CONTAINER_FAILING: "`kubectl describe pod POD` names the container; its log, or the message where it can't be created, says why: a missing claim, Secret or ConfigMap.",
    Reason.POD_REFUSED: "The message is the refusal: a ResourceQuota, a LimitRange, Pod Security or an admission policy of the namespace. Raise the quota or lower the class's requests.",
    Reason.STARTING: f"{_WAIT} How long an engine's start may take is `engine.startupSeconds` of the class.",
    Reason.PROGRESSING: _WAIT,
    # Rollout
    Reason.UP_TO_DATE: _NOTHING,
    Reason.ROLLING: _WAIT,
    Reason.CANDIDATE_FAILED: "The message carries the cause. Name a version that works; going back to the old one is enough. The stable revision serves meanwhile.",
    Reason.GATE_FAILED: "The message has the scores. The log of the Job that `taskfleet rollout status` names has the outcome of every example. Train a better version and name it, or, where the golden set was wrong, correct it and retry the revision (`taskfleet rollout retry`).",
    Reason.ANALYSIS_BREACHED: "The message has the figures of both revisions. All traffic went back by itself. Find out why it was worse, then name another version, or retry this one (`taskfleet rollout retry`).",
    Reason.ABORTED: "Nothing: somebody meant it. `taskfleet rollout retry` takes it back.",
    Reason.GATE_UNMEASURABLE: "The message says what kept the golden set from being run: the dataset, the judge or the pods. Once that is put right, retry the revision (`taskfleet rollout retry`). The stable revision serves meanwhile.",
    Reason.NO_TRAFFIC: "Send the task requests, or promote by hand (`taskfleet rollout promote`) if you know enough of the revision. `rollout.analysis.minRequests` says how many requests a step needs.",
    Reason.INCONCLUSIVE: "Look at the figures (`taskfleet rollout status`) and decide: `taskfleet rollout promote` or `taskfleet rollout abort`.",
    Reason.PAUSED: "Nothing, until you want it to go on: `taskfleet rollout resume`.",
    # VersionMoved
    Reason.NEW_BYTES_UPSTREAM: "Push the new bytes under a version of their own and name it in `spec.adapter.version`, or give the old version its bytes back. What was recorded first goes on serving.",
    Reason.GATEWAY_NOT_HEARD: "See that the operator reaches port 9090 of every gateway pod (NetworkPolicies, a gateway that hangs); `taskfleet_measured_gateways` says how many it hears. Pools may still grow. It goes on by itself.",
    # FieldsWithoutEffect
    Reason.NOT_IN_THIS_VERSION: "Nothing, if you can do without: the fields are kept for a later version. Otherwise remove them, so that nobody relies on them.",
    # Operator's own trouble
    Reason.API_REFUSED: "The API server's words are in the message: often an admission policy that refuses the operator's objects, or a chart whose roles are older than its image. It is tried again by itself.",
    Reason.NAME_TAKEN: "Rename or delete the object that the message names, if nobody needs it: the operator neither takes over nor deletes what it did not make. It goes on by itself within half a minute.",
}

# By the name that a scrape shows.
OF_METRICS: Mapping[str, str] = {
    # operator
    "taskfleet_agent_calls_total": "Codes other than 2xx for long: the operator can't tell agents what to serve. 0: pods are out of reach (NetworkPolicy). 401: the operator's token is refused.",
    "taskfleet_applies_total": "`sent` that grows while nobody changes anything: something else writes the same fields. `kubectl get --show-managed-fields` names it.",
    "taskfleet_cached_objects": "Smaller than the cluster's own count: a watch misses objects. The comparison of every few minutes repairs it.",
    "taskfleet_cold_start_phase_seconds": "The phase with most of it is where a start can be made shorter: see [starts](scaling.md#how-long-a-start-takes).",
    "taskfleet_cold_start_seconds": "Longer than the gateway's `timeouts.hold`: requests for a pool at zero are answered 503 while it wakes. `taskfleet pool status NAME` shows the parts of the last start.",
    "taskfleet_device_seconds_total": "A task that costs more than it is worth: raise its `scaling.targetConcurrency`, lower `idleSeconds`, or let it sleep (`minReplicas: 0`). The sum over a pool's tasks is the pool's.",
    "taskfleet_events_dropped_total": "Grows: the API server refuses Events, usually for a quota of the namespace. Conditions still tell everything.",
    "taskfleet_events_total": "Many of type `Warning`: `kubectl get events -A --field-selector type=Warning`.",
    "taskfleet_kube_request_seconds": "A p99 of seconds: the API server is slow, and every change with it.",
    "taskfleet_kube_requests_total": "Code 403: the chart's roles are older than the image. 409 and 422 again and again: a conflict with another writer. 429 and 5xx: the API server is overloaded. 0: out of reach.",
    "taskfleet_kube_throttled_seconds": "Seconds, for long: more changes than the operator lets itself write. Changes wait in their queue; nothing is lost.",
    "taskfleet_leader": "The sum over all replicas must be 1. 0 for more than a minute: nobody reconciles; see [the operator](#the-operator-restarts-or-does-nothing).",
    "taskfleet_leader_changes_total": "More than a few a day: the leader loses its Lease. Look for restarts, throttled CPU, a slow API server.",
    "taskfleet_measured_gateways": "The leader's must be the number of gateway replicas. Less for minutes: the operator does not get to their internal port (NetworkPolicy), canaries stand still, and no pool gets smaller.",
    "taskfleet_objects": '`condition="Stalled",status="True"` above 0: somebody must act on these objects; their conditions say how. `condition="Available",status="False"`: tasks that can\'t answer.',
    "taskfleet_pool_replicas_actual": "Less than `taskfleet_pool_replicas_desired` for longer than a start takes: `taskfleet pool status` says what keeps pods from starting.",
    "taskfleet_pool_replicas_desired": "At the greatest `maxReplicas` of the pool's tasks for long: see the reason in `taskfleet_pool_scaling_info`; requests may wait for want of pods.",
    "taskfleet_pool_requests": "By pool, from the leader alone: what pods are wanted for, and what an HPA or KEDA can follow. Far above `targetConcurrency` times the pods that are Ready: requests wait.",
    "taskfleet_pool_scaling_info": '`reason="AtMaximum"`: more is needed than `maxReplicas` allows. `reason="DemandUnknown"`: a gateway is not heard, and nothing is taken away until it is.',
    "taskfleet_pool_wakeups_total": "Each one let requests wait for a pod's start. Many an hour: raise `scaling.idleSeconds`, or keep a pod with `scaling.minReplicas: 1`.",
    "taskfleet_queue_depth": "Above 0 for minutes: the operator does not keep up, or a key fails again and again; see the next line.",
    "taskfleet_reconcile_seconds": '`_count` with `result="error"` grows: a defect or a refusing API server; the operator\'s log has the traceback.',
    "taskfleet_relist_corrections_total": "Grows: watches lose events, usually through a proxy between operator and API server. Nothing is lost, but changes are seen late.",
    "taskfleet_gate_score_percent": "Near `minScorePercent`: the next version may fail its gate by chance. More examples narrow the interval.",
    "taskfleet_rollback_seconds": "More than a second: the API server is slow, or the operator does not keep up with its queue; a bad candidate has its traffic so much longer.",
    "taskfleet_rollout_seconds": "Days: somebody is to decide; `taskfleet rollout status` says what a rollout waits for.",
    "taskfleet_rollout_share_percent": "The same for days: the rollout is held; its TaskModel says why.",
    "taskfleet_rollouts_total": "Outcomes other than `Promoted`: versions that did not get through. `taskfleet rollout history` has the figures of each.",
    # gateway
    "taskfleet_gateway_buffered_body_bytes": "Near `gateway.limits.maxBufferedBodyBytes`: the next bodies get 429. Add replicas, or raise it together with the memory limit.",
    "taskfleet_gateway_completion_tokens_total": "What tasks cost; no sign of trouble.",
    "taskfleet_gateway_connections_closed_total": "By `reason`. `stalled`: clients that do not take their answers. `head-timeout`, `malformed`, `head-too-large`: no HTTP clients, or scanners. "
    "`too-many`: raise `gateway.limits.maxConnections` or add replicas.",
    "taskfleet_gateway_errors_total": "By status code; see [requests get errors](#requests-get-an-error).",
    "taskfleet_gateway_held_requests": "Above 0 for long: pools without a Ready pod, or none that has the adapter.",
    "taskfleet_gateway_held_seconds": 'Requests with `outcome="refused"`: no pod came in time. `reason="cold-start"`: pools that sleep or have lost their pods; others: see [requests get errors](#requests-get-an-error).',
    "taskfleet_gateway_in_flight_requests": "Grows without end at a steady load: pods answer slower than clients ask. Add replicas.",
    "taskfleet_gateway_loop_delay_seconds": "Above 0.1 s: the replica lacks CPU. Raise its limits or add replicas.",
    "taskfleet_gateway_open_requests": "Near `gateway.limits.maxOpenRequests`: the next requests get 429. Add replicas.",
    "taskfleet_gateway_prompt_tokens_total": "What tasks cost; no sign of trouble.",
    "taskfleet_gateway_request_duration_seconds": "Whole answers: compare with the time to the first token, which tells a slow start from long answers.",
    "taskfleet_gateway_requests_total": "By TaskModel, revision and code. 5xx: see [requests get errors](#requests-get-an-error). 499: clients do not wait as long as answers take.",
    "taskfleet_gateway_retries_total": "Attempts that another pod had to take over, by `reason`. `not-here` for long: pods without an adapter that has a route. `refused`: pods vanish without saying so.",
    "taskfleet_gateway_supervised": "0 for minutes: canaries stand still, and stable revisions answer everything. The operator has no leader, or does not get to the gateway's internal "
    "port; or the API server is out of this replica's reach.",
    "taskfleet_gateway_task_models": "Less than the cluster has: the replica's watch is behind; its requests get 404. It is not ready until it has listed all.",
    "taskfleet_gateway_corrections_total": "By TaskModel and revision; the rest of `taskfleet_gateway_votes_total` came without. The texts are not kept: collect them where the application asks for them.",
    "taskfleet_gateway_votes_total": "By TaskModel, revision and `verdict`. Many `bad` of one revision, and few of the one before: its users see what its golden set does not; add what they complain about to it.",
    "taskfleet_gateway_wake_ups_total": "Many an hour of one TaskModel: it is called just after it has been put to sleep, again and again. Raise its `idleSeconds`, or give it `minReplicas: 1`.",
    "taskfleet_gateway_time_to_first_token_seconds": "Grows with the load: engines queue. More than `adapters.maxActive` tasks at once on a pod make a cliff; see [slow](#requests-are-slow).",
    # agent
    "taskfleet_agent_adapter_load_seconds": "Grows: the engine is busy, or its CPU slots for adapters are too few.",
    "taskfleet_agent_adapter_demand_loads_total": "Many a second: more adapters are in use at once than `adapters.maxResident`, and they push each other out. Raise it.",
    "taskfleet_agent_adapter_demand_wait_seconds": "Above 0.5 s: the engine is busy with long steps when it is to load; see `taskfleet_agent_adapter_load_seconds`.",
    "taskfleet_agent_adapter_stage_seconds": "Grows: the source is slow; new versions and new pods take longer.",
    "taskfleet_agent_adapters": '`phase="Failed"` above 0: a pod that can\'t serve an adapter; the TaskModel says why.',
    "taskfleet_agent_adapters_loaded": "Above `adapters.maxResident` for long: so many adapters have requests in flight at once. The engine swaps them in its batches; raise the limit.",
    "taskfleet_agent_copied_bytes_total": "Grows while pods start: they copy from this one. Grows all the time: pods are replaced again and again.",
    "taskfleet_agent_copies_total": "`failed`: a pod that may have a copy could not give it, and the source was asked; its log says why. `none` for every start: `POOL-peers` leads to no pod, or a NetworkPolicy keeps the pool's pods apart.",
    "taskfleet_agent_engine_healthy": "0: the engine does not answer. The pod takes no requests; look at its log.",
    "taskfleet_agent_engine_starts_total": "More than 1 in a pod's life: the engine ended. `kubectl logs POD -c engine --previous`.",
    "taskfleet_agent_requests_in_flight": "Uneven between the pods of a pool: adapters keep to few pods each by design; between pools: give the busy one replicas.",
    "taskfleet_agent_requests_total": "421: a request for an adapter that this pod has not proven; the gateway takes it elsewhere. 401: somebody else than the gateway asks. 502, 503: the engine is gone or starting.",
}
