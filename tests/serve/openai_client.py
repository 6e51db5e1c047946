"""Asks a server everything that the official client can ask it.

    python openai_client.py http://127.0.0.1:8080/v1
"""

import json
import math
import sys

import openai
from openai import OpenAI

MODEL = "qwen"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "maximum": 120}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def messages(text):
    return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]


def models(client):
    assert [model.id for model in client.models.list()] == [MODEL]


def completions(client):
    ask = {"model": MODEL, "prompt": "1, 2, 3, 4,", "max_tokens": 6, "temperature": 0, "logprobs": 2}
    whole = client.completions.create(**ask)
    choice = whole.choices[0]
    assert "5" in choice.text, choice
    assert len(choice.logprobs.tokens) == whole.usage.completion_tokens == 6
    assert "".join(choice.logprobs.tokens) == choice.text
    pieces = list(client.completions.create(**ask, stream=True))
    assert "".join(piece.choices[0].text for piece in pieces) == choice.text


def chat(client):
    ask = {"model": MODEL, "messages": messages("Say yes."), "max_tokens": 16, "temperature": 0}
    whole = client.chat.completions.create(**ask)
    message = whole.choices[0].message
    assert message.role == "assistant" and "yes" in message.content.lower(), message
    assert whole.choices[0].finish_reason == "stop"
    options = {"include_usage": True}
    pieces = list(client.chat.completions.create(**ask, stream=True, stream_options=options))
    text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert text == message.content
    assert pieces[-1].usage.total_tokens == whole.usage.total_tokens


def logprobs(client):
    answer = client.chat.completions.create(
        model=MODEL, messages=messages("Say yes."), max_tokens=3, temperature=0, logprobs=True, top_logprobs=4
    )
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    for token in content:
        assert bytes(token.bytes).decode() == token.token
        assert len(token.top_logprobs) == 4
        assert math.isclose(token.top_logprobs[0].logprob, token.logprob)


def many(client):
    ask = {"model": MODEL, "messages": messages("Name a colour."), "max_tokens": 8, "temperature": 1.5, "seed": 1}
    three = client.chat.completions.create(**ask, n=3)
    texts = [choice.message.content for choice in three.choices]
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert len(set(texts)) > 1, texts
    assert client.chat.completions.create(**ask).choices[0].message.content == texts[0]


def schema(client):
    format = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": PERSON}}
    answer = client.chat.completions.create(
        model=MODEL, messages=messages("Ada is 36 years old."), response_format=format, max_tokens=80, temperature=0
    )
    person = json.loads(answer.choices[0].message.content)
    assert set(person) == {"name", "age"} and isinstance(person["age"], int), person


def tools(client):
    ask = {
        "model": MODEL, "messages": messages("How is the weather in Oslo?"),
        "tools": [WEATHER], "max_tokens": 80, "temperature": 0,
    }
    answer = client.chat.completions.create(**ask, tool_choice="required")
    assert answer.choices[0].finish_reason == "tool_calls", answer
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "get_weather"
    assert "city" in json.loads(call.function.arguments)
    pieces = list(client.chat.completions.create(**ask, tool_choice="required", stream=True))
    calls = [call for piece in pieces for call in piece.choices[0].delta.tool_calls or []]
    assert calls[0].function.arguments == call.function.arguments
    said = ask["messages"] + [
        answer.choices[0].message.to_dict(),
        {"role": "tool", "tool_call_id": call.id, "content": "It snows."},
    ]
    final = client.chat.completions.create(model=MODEL, messages=said, max_tokens=40, temperature=0)
    assert final.choices[0].message.content, final


def embeddings(client):
    texts = ["A cat sits on the mat.", "A kitten rests on a rug.", "fn main() { return 3; }"]
    answer = client.embeddings.create(model=MODEL, input=texts)
    cat, kitten, code = (item.embedding for item in answer.data)
    assert math.isclose(sum(x * x for x in cat), 1, rel_tol=1e-3)

    def likeness(a, b):
        return sum(x * y for x, y in zip(a, b))

    assert likeness(cat, kitten) > likeness(cat, code)
    plain = client.embeddings.create(model=MODEL, input=texts[0], encoding_format="float")
    assert all(math.isclose(x, y, abs_tol=1e-6) for x, y in zip(plain.data[0].embedding, cat))


def errors(client):
    def refused(kind, call):
        try:
            call()
        except kind as error:
            return error
        raise AssertionError(f"no {kind.__name__}")

    ask = {"model": MODEL, "messages": messages("Hi.")}
    error = refused(openai.BadRequestError, lambda: client.chat.completions.create(**ask, temperature=-1))
    assert error.param == "temperature" and error.code == "invalid_value", error
    unknown = {**ask, "model": "gpt-5"}
    error = refused(openai.NotFoundError, lambda: client.chat.completions.create(**unknown))
    assert error.code == "model_not_found", error
    stranger = OpenAI(base_url=client.base_url, api_key="wrong", max_retries=0)
    refused(openai.AuthenticationError, stranger.models.list)


CHECKS = [models, completions, chat, logprobs, many, schema, tools, embeddings, errors]


def main():
    client = OpenAI(base_url=sys.argv[1], api_key="secret", max_retries=0)
    for check in CHECKS:
        check(client)
        print(f"{check.__name__}: passed", flush=True)
    print(f"all {len(CHECKS)} passed")


if __name__ == "__main__":
    main()
