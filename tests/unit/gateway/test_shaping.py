"""What a task makes of a request, and what it lets callers set."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.api.taskmodel import Task
from taskfleet.gateway.errors import BadRequestError
from taskfleet.gateway.shaping import InvalidTaskError, Kind, compile_task

SCHEMA = '{"type": "object", "properties": {"total": {"type": "string"}}, "required": ["total"]}'


def shaped(settings: dict[str, Any], body: dict[str, Any], kind: Kind = Kind.CHAT) -> dict[str, Any]:
    compile_task(Task.model_validate(settings)).shape(body, kind)
    return body


def chat(*contents: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content} for content in contents], **fields}


def test_task_without_settings_changes_nothing() -> None:
    assert compile_task(Task()).idle
    assert shaped({}, chat("x", temperature=0.3, unknown={"a": [1]})) == chat("x", temperature=0.3, unknown={"a": [1]})


def test_system_prompt_comes_first() -> None:
    body = shaped({"systemPrompt": "Be brief."}, chat("one", "two"))
    assert body["messages"] == [{"role": "system", "content": "Be brief."}, *chat("one", "two")["messages"]]


@pytest.mark.parametrize("role", ["system", "developer"])
def test_own_system_prompt_is_refused_where_the_task_has_one(role: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        shaped({"systemPrompt": "Be brief."}, {"messages": [{"role": role, "content": "Be long."}]})
    assert (refused.value.param, refused.value.reason) == ("messages", "override_not_allowed")


def test_own_system_prompt_replaces_the_tasks_where_allowed() -> None:
    body = {"messages": [{"role": "system", "content": "Be long."}, {"role": "user", "content": "x"}]}
    assert shaped({"systemPrompt": "Be brief.", "allowOverrides": ["SystemPrompt"]}, dict(body)) == body


def test_own_system_prompt_is_the_callers_business_where_the_task_has_none() -> None:
    body = {"messages": [{"role": "system", "content": "Be long."}]}
    assert shaped({"defaults": {"maxTokens": 5}}, dict(body)) == body | {"max_tokens": 5}


def test_template_stands_around_every_turn_of_the_user() -> None:
    body = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]}
    shaped({"promptTemplate": "<{input}>"}, body)
    assert [message["content"] for message in body["messages"]] == ["<a>", "b", "<c>"]


def test_template_takes_text_parts_together() -> None:
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]}
    assert shaped({"promptTemplate": "<{input}>"}, body)["messages"][0]["content"] == "<ab>"


def test_template_refuses_what_is_no_text() -> None:
    body = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]}
    with pytest.raises(BadRequestError, match="must be text"):
        shaped({"promptTemplate": "<{input}>"}, body)


def test_template_stands_around_prompts_of_completions() -> None:
    assert shaped({"promptTemplate": "<{input}>"}, {"prompt": "a"}, Kind.COMPLETION)["prompt"] == "<a>"
    assert shaped({"promptTemplate": "<{input}>"}, {"prompt": ["a", "b"]}, Kind.COMPLETION)["prompt"] == ["<a>", "<b>"]
    with pytest.raises(BadRequestError) as refused:
        shaped({"promptTemplate": "<{input}>"}, {"prompt": [1, 2, 3]}, Kind.COMPLETION)
    assert refused.value.param == "prompt"


def test_completion_cannot_leave_out_the_tasks_system_prompt() -> None:
    with pytest.raises(BadRequestError, match="chat/completions") as refused:
        shaped({"systemPrompt": "Be brief."}, {"prompt": "a"}, Kind.COMPLETION)
    assert (refused.value.param, refused.value.reason) == ("prompt", "override_not_allowed")
    free = {"systemPrompt": "Be brief.", "allowOverrides": ["SystemPrompt"]}
    assert shaped(free, {"prompt": "a"}, Kind.COMPLETION) == {"prompt": "a"}


def test_braces_in_the_input_are_text() -> None:
    assert shaped({"promptTemplate": "<{input}>"}, {"prompt": "{input} {x} {{"}, Kind.COMPLETION)["prompt"] == "<{input} {x} {{>"


def test_defaults_fill_what_the_request_leaves_out() -> None:
    settings = {"defaults": {"maxTokens": 64, "temperature": 0, "topP": 0.5, "topK": 3, "stop": ["\n"], "seed": 7}}
    assert shaped(settings, {}, Kind.COMPLETION) == {
        "max_tokens": 64,
        "temperature": 0,
        "top_p": 0.5,
        "top_k": 3,
        "stop": ["\n"],
        "seed": 7,
    }


def test_requests_override_generation_defaults_unless_the_task_forbids() -> None:
    settings: dict[str, Any] = {"defaults": {"maxTokens": 64, "temperature": 0}}
    assert shaped(settings, chat("x", max_completion_tokens=9, temperature=1))["max_completion_tokens"] == 9
    assert "max_tokens" not in shaped(settings, chat("x", max_completion_tokens=9))
    for wrong in ({"max_tokens": 9}, {"max_completion_tokens": 9}, {"max_tokens": 64, "max_completion_tokens": 65}):
        with pytest.raises(BadRequestError) as refused:
            shaped(settings | {"allowOverrides": []}, chat("x", **wrong))
        assert refused.value.param in wrong


def test_saying_what_the_task_says_anyway_is_no_override() -> None:
    settings = {"defaults": {"maxTokens": 64, "temperature": 0}, "allowOverrides": []}
    assert shaped(settings, chat("x", max_tokens=64, temperature=0.0)) == chat("x", max_tokens=64, temperature=0)


@pytest.mark.parametrize("kind", [Kind.CHAT, Kind.COMPLETION])
@pytest.mark.parametrize("text", [SCHEMA, "type: object\nproperties: {total: {type: string}}\nrequired: [total]\n"])
def test_output_schema_becomes_the_engines_structured_output(kind: Kind, text: str) -> None:
    body = shaped({"outputSchema": text}, chat("x"), kind)
    assert body["response_format"]["type"] == "json_schema"
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["total"]


@pytest.mark.parametrize(
    "field", ["response_format", "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar"]
)
def test_output_schema_can_be_got_round_by_no_other_field(field: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        shaped({"outputSchema": SCHEMA}, chat("x", **{field: {"type": "text"}}))
    assert refused.value.param == field


def test_output_schema_gives_way_where_allowed() -> None:
    body = shaped({"outputSchema": SCHEMA, "allowOverrides": ["OutputSchema"]}, chat("x", structured_outputs={"regex": "a+"}))
    assert "response_format" not in body


@pytest.mark.parametrize(
    "text", ["{x", "[1, 2]", "just text", "a: &a [1]\nb: [*a, *a]", "when: 2026-01-01", "[" * 5000, '{"a": NaN}', "? [1]\n: 2"]
)
def test_schema_that_is_none_is_found_before_any_request(text: str) -> None:
    with pytest.raises(InvalidTaskError):
        compile_task(Task(output_schema=text))


@given(
    st.dictionaries(st.text(max_size=8).filter(lambda key: key not in ("messages", "max_tokens", "max_completion_tokens")), st.integers())
)
def test_unknown_fields_come_through(extra: dict[str, int]) -> None:
    body = shaped({"systemPrompt": "s", "defaults": {"maxTokens": 1}}, chat("x") | extra)
    assert {key: body[key] for key in extra} == extra
