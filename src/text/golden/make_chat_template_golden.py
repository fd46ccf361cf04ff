"""Writes chat_template_golden.json: what Jinja 3.1.6 makes of the templates in templates/ and of the
snippets in chat_template_snippets.py, in the environment that chat templates are published for
(trim_blocks, lstrip_blocks, loop controls, JSON without HTML escapes).

    python3 make_chat_template_golden.py        needs: jinja2==3.1.6
"""

import itertools
import json
import pathlib

import jinja2
import jinja2.ext
import jinja2.sandbox

from chat_template_snippets import SNIPPETS, SNIPPET_VALUES

FOLDER = pathlib.Path(__file__).parent

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a place \u2013 now.",
        "parameters": {
            "type": "object",
            "properties": {
                "place": {"type": "string", "description": "City & country, e.g. <Paris>"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"], "default": "celsius"},
                "days": {"type": "integer"},
                "where": {
                    "type": "object",
                    "properties": {"north": {"type": "number"}, "names": {"type": "array", "items": {"type": "string"}}},
                    "required": ["north"],
                },
            },
            "required": ["place"],
        },
        "return": {"type": "string"},
    },
}
NOTHING = {
    "type": "function",
    "function": {"name": "stop", "description": "", "parameters": {"type": "object", "properties": {}}},
}

USER = {"role": "user", "content": "  What is the weather in \u6771\u4eac?\nAnd \"there\"? "}
ANSWER = {"role": "assistant", "content": "Sunny, 21.5 \u00b0C \U0001f31e.\n"}
THOUGHT = {"role": "assistant", "content": "<think>\nEasy.\n</think>\n\nIt rains."}
THANKS = {"role": "user", "content": "Thanks, it's <b>fine</b> & good!"}
SYSTEM = {"role": "system", "content": "Be brief.\n\n  Indented line.  "}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {
            "id": "call12345",
            "type": "function",
            "function": {"name": "get_weather", "arguments": {"place": "\u6771\u4eac", "days": 2, "share": 0.5, "now": True, "unit": None}},
        }
    ],
}
CALLS = {
    "role": "assistant",
    "content": "Both at once.",
    "tool_calls": [
        {"id": "call00001", "type": "function", "function": {"name": "get_weather", "arguments": {"place": "Rome"}}},
        {"id": "call00002", "type": "function", "function": {"name": "stop", "arguments": {}}},
    ],
}
RESULT = {"role": "tool", "name": "get_weather", "tool_call_id": "call12345", "content": "{\"sky\": \"clear\"}"}
PARTS = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " Look at this. "}]}

CONVERSATIONS = {
    "one turn": [USER],
    "system": [SYSTEM, USER],
    "several turns": [USER, ANSWER, THANKS],
    "system, several turns": [SYSTEM, USER, THOUGHT, THANKS, ANSWER],
    "tool call": [SYSTEM, USER, CALL, RESULT],
    "tool call, answered": [USER, CALL, RESULT, ANSWER, THANKS],
    "tool calls": [USER, CALLS, RESULT, RESULT, THOUGHT],
    "roles out of order": [USER, USER, ANSWER],
    "parts": [PARTS, ANSWER],
    "empty texts": [{"role": "system", "content": ""}, {"role": "user", "content": ""}],
    "none at all": [],
}

OPTIONS = [
    {"add_generation_prompt": True},
    {"add_generation_prompt": False},
    {"add_generation_prompt": True, "tools": [WEATHER, NOTHING]},
    {"add_generation_prompt": True, "tools": None, "enable_thinking": False},
    {"add_generation_prompt": False, "tools": [WEATHER], "tools_in_user_message": False, "builtin_tools": ["search", "code_interpreter"]},
]


class Generation(jinja2.ext.Extension):
    """{% generation %}: a block whose output stays as it is."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def make_environment():
    def to_json(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals["raise_exception"] = raise_exception
    return environment


def render(environment, source, values):
    """The output, or None where Jinja reports an error."""
    try:
        return environment.from_string(source).render(**values)
    except Exception:  # whatever is wrong with it, the interpreter under test must say so too
        return None


def dump_rows(value):
    """One row a line, so that changes can be read."""
    dump = lambda item: json.dumps(item, ensure_ascii=False)
    return "[\n" + ",\n".join(dump(item) for item in value) + "\n]" if isinstance(value, list) else dump(value)


def main():
    environment = make_environment()
    cases = []
    outputs = []  # each once: many cases share one
    for path in sorted((FOLDER / "templates").glob("*.jinja")):
        source = path.read_text(encoding="utf-8")
        for conversation, option in itertools.product(CONVERSATIONS, range(len(OPTIONS))):
            values = {"messages": CONVERSATIONS[conversation], "bos_token": "<s>", "eos_token": "</s>", **OPTIONS[option]}
            expected = render(environment, source, values)
            if expected not in outputs:
                outputs.append(expected)
            cases.append([path.stem, conversation, option, outputs.index(expected)])
    snippets = [[source, render(environment, source, SNIPPET_VALUES)] for source in SNIPPETS]
    golden = {
        "made_by": f"make_chat_template_golden.py, jinja2 {jinja2.__version__}",
        "conversations": CONVERSATIONS,
        "options": OPTIONS,
        "outputs": outputs,
        "cases": cases,
        "snippet_values": SNIPPET_VALUES,
        "snippets": snippets,
    }
    text = ",\n".join(f"{json.dumps(key)}: {dump_rows(value)}" for key, value in golden.items())
    (FOLDER / "chat_template_golden.json").write_text("{" + text + "}\n", encoding="utf-8")



if __name__ == "__main__":
    main()
