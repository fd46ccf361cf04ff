"""Small templates, one language feature each, for make_chat_template_golden.py. What Jinja refuses
must be refused by the interpreter too."""

SNIPPET_VALUES = {
    "text": "Hello, World",
    "unicode": "\u00c9t\u00e9 \u00e0 \u6771\u4eac \U0001f600 stra\u00dfe \u039f\u03b4\u03cc\u03c2",
    "spaced": "  a  b\tc \n d  ",
    "markup": "<a href=\"x\">Tom & 'Ann'</a>",
    "lines": "one\ntwo\n\nfour",
    "numbers": [3, 1, 2, 10, -5],
    "mixed": [1, "two", None, True, 2.5, [1, 2], {"k": "v"}],
    "names": ["bob", "Alice", "carol", "Bob"],
    "people": [
        {"name": "Ann", "age": 30, "tags": ["x", "y"], "home": {"city": "Rome"}},
        {"name": "bob", "age": 25, "tags": [], "home": {"city": "Oslo"}},
        {"name": "Cyd", "age": 30, "tags": ["z"]},
    ],
    "mapping": {"b": 2, "a": 1, "C": 3, "items": "shadowed", "n": None},
    "empty_text": "",
    "empty_list": [],
    "empty_mapping": {},
    "none_value": None,
    "yes": True,
    "no": False,
    "integer": 7,
    "negative": -7,
    "number": 2.5,
    "whole": 4.0,
    "huge": 1e20,
    "tiny": 1.5e-7,
    "quoted": "it's \"both\" \\ and\ttab \u0001 \u00a0 \u200b",
}

_EXPRESSIONS = r"""
1 + 2 * 3 - 4 / 2
7 // 2, -7 // 2, 7 % 3, -7 % 3, 7 % -3
7.5 // 2, -7.5 % 2, 7 / 2
2 ** 10, 2 ** -1, 2 ** 3 ** 2, -2 ** 2
1 / 0
1 // 0
1 % 0
integer + number, integer * number, whole, huge, tiny, 1e16, 123456789.125, 1.0, 0.1 + 0.2
1_000 + 2
"a" + "b"
"a" + 1
"a" ~ 1 ~ none ~ true ~ 2.0
"ab" * 3, [1, 2] * 2
[1] + [2, 3], (1, 2) + (3,)
[1] + (2,)
"a" "b" 'c'
'it\'s' ~ "q\"q" ~ '\n\t\\' ~ '\x41\u00e9\U0001F600' ~ '\q'
1 < 2 < 3, 1 < 3 < 2, 1 == 1.0, true == 1, "1" == 1
"a" < "b", [1, 2] < [1, 3], 1 < "a"
"a" < "b", [1, 2] < [1, 3]
3 in numbers, 4 not in numbers, "ell" in text, "a" in mapping, 1 in mapping
1 in "1"
not yes, not not yes, yes and no, yes or no, 0 or "x", "" and "y", none or none_value
1 if yes else 2, 1 if no else 2
(1 if no)
(1 if no) is defined
1 if yes else 2 if no else 3
numbers[0], numbers[-1], numbers[99] is defined, numbers[1:3], numbers[:-1], numbers[::-1], numbers[::2], numbers[-2:]
text[0], text[-1], text[1:4], text[::-1], text[20:], text[5:2], unicode[4:8], unicode[-3:]
text[0:5:2], numbers[4:0:-2], numbers[10:], numbers[::0] if no
numbers[::0]
mapping.a, mapping["a"], mapping.missing is defined, mapping["missing"] is defined, mapping.n is none
mapping.items() | list
mapping.items is defined
mapping["items"]
mapping.keys() | list, mapping.values() | list, mapping.get("a"), mapping.get("zz"), mapping.get("zz", 5)
people[0].home.city, people[2].home is defined
people[2].home.city
missing
missing.attribute
missing.attribute is defined
missing[0]
missing()
missing + 1
missing ~ "x"
missing == missing2, missing is undefined, missing is none
missing | length, missing | list, missing | join(","), missing | upper
missing | int
missing < 1
"a" in missing
-missing
none_value.x is defined
none_value + 1
none_value | length
text.upper(), text.lower(), text.title(), text.capitalize(), unicode.upper(), unicode.lower()
"hELLO wORLD it's x-ray 3rd".title(), "hELLO wORLD it's x-ray (abc) 3rd" | title, "hELLO wORLD" | capitalize
spaced.strip() ~ "|" ~ spaced.lstrip() ~ "|" ~ spaced.rstrip() ~ "|" ~ spaced | trim ~ "|"
"xxaxx".strip("x"), "abcba".lstrip("ab"), "abcba".rstrip("ab"), "xyz" | trim("xz"), "\u3000a\u00a0".strip()
text.split(", "), spaced.split(), "a,b,,c".split(","), "a,b,c".split(",", 1), "  a b  c ".split(none, 1), "".split(), "".split(",")
"a,b,c".rsplit(",", 1), " a b  c ".rsplit(none, 1), "a b".rsplit(), "abc".split("")
"a,b,c".rsplit(",", 1), " a b  c ".rsplit(none, 1), "a b".rsplit(), "a--b--c".split("--", maxsplit=1)
lines.splitlines(), "a\r\nb\n".splitlines(), "a\nb".splitlines(true)
text.startswith("He"), text.endswith("x"), text.startswith(("x", "H")), text.find("o"), text.find("zz"), unicode.find("\u6771"), text.rfind("o")
text.replace("l", "L"), text.replace("l", "L", 1), "aaa".replace("", "-"), text | replace("l", "L"), text | replace("l", "", 2), 121 | replace(1, 3)
"-".join(["a", "b"]), ", ".join(names), "-".join([1])
"-".join(["a", "b"]), text.count("l"), "aaaa".count("aa"), "abc".removeprefix("a"), "abc".removesuffix("c")
text | upper, text | lower, text | length, text | count, unicode | length, mapping | length, numbers | length
5 | length
text | first, text | last, numbers | first, numbers | last, empty_list | first, empty_text | last
numbers | sort, numbers | sort(reverse=true), names | sort, names | sort(case_sensitive=true), names | sort(true)
mixed | sort
people | sort(attribute="age") | map(attribute="name") | list, people | sort(attribute="age,name", reverse=true) | map(attribute="name") | list
mapping | dictsort, mapping | dictsort(true), {"b": 1, "a": 2} | dictsort(by="value"), mapping | dictsort(reverse=true)
numbers | reverse | list, text | reverse, names | unique | list, names | unique(true) | list, people | unique(attribute="age") | map(attribute="name") | list
numbers | sum, people | sum(attribute="age"), numbers | min, numbers | max, names | min, people | max(attribute="age"), [] | sum
numbers | join(", "), mixed | join("|"), people | join(", ", attribute="name"), text | join("-"), empty_list | join(",")
people | map(attribute="name") | list, people | map(attribute="home.city") | list, people | map(attribute="home.city", default="?") | list
people | map(attribute="home.city", default="?") | list
people | map(attribute="tags.0", default="-") | list, names | map("upper") | list, names | map("replace", "b", "X") | list, [1.5, 2.5] | map("int") | list
numbers | select("odd") | list, numbers | reject("odd") | list, numbers | select(">", 2) | list, mixed | select | list, mixed | reject | list
numbers | select("gt", 1) | list, numbers | select("in", [1, 2]) | list, mixed | select("string") | list, mixed | reject("none") | list
people | selectattr("age", "equalto", 30) | map(attribute="name") | list, people | selectattr("tags") | list | length, people | rejectattr("home") | list | length
people | selectattr("home", "defined") | list | length, people | rejectattr("age", "lt", 30) | list | length, people | selectattr("home.city", "eq", "Oslo") | list | length
numbers | map("no_such_filter") | list
none_value | map(attribute="x") | list, no | select | list, missing | map("upper") | list, none_value | selectattr("x") | list
numbers | select("no_such_test") | list
text | no_such_filter
text is no_such_test
text.no_such_method()
text | default("d"), missing | default("d"), missing | d("x"), none_value | default("d"), none_value | default("d", true), empty_text | default("e", boolean=true), missing | default
"42" | int, "x" | int, "x" | int(-1), "0x1f" | int(base=16) if no, "1f" | int(base=16), 3.9 | int, -3.9 | int, "0x1f" | int(base=16), true | int, " 7 " | int, "3.7" | int, [] | int(5)
"1.5" | float, "x" | float, "x" | float(2.5), 3 | float, "1e3" | float, -2 | abs, 2.5 | abs, -2.5 | abs
2.5 | round, 3.5 | round, 2.675 | round(2), 1234.5 | round(-2), 2.1 | round(method="ceil"), 2.19 | round(1, "floor"), 7 | round, 1250 | round(-2), 7 | round(1), 7 | round(0, "ceil"), -2.5 | round
integer | string, 1.0 | string, none | string, true | string, numbers | string, text | string
mixed, mapping, (1,), (), [], {}, ("a", "b"), "text", [none, true, false], quoted, [quoted], ["it's"], ['say "x"'], ["\n"]
mixed | tojson, mapping | tojson, text | tojson, none | tojson, 1.0 | tojson, quoted | tojson, markup | tojson, unicode | tojson, (1, 2) | tojson
mixed | tojson(indent=2)
mapping | tojson(indent=4), [] | tojson(indent=2), {} | tojson(indent=2), [[], {}] | tojson(indent=1)
mapping | tojson(sort_keys=true), mapping | tojson(separators=(",", ":")), unicode | tojson(ensure_ascii=true)
missing | tojson
markup | escape
(markup | e) ~ "x"
markup | safe
lines | indent, lines | indent(2), lines | indent(2, true), lines | indent(2, blank=true), lines | indent("> ", first=true), "" | indent, "a\n" | indent
text | list, numbers | list, mapping | list, mapping | items | list, missing | items | list
5 | list
none_value | list
text is string, numbers is string, mapping is mapping, numbers is mapping, text is iterable, mapping is iterable, 5 is iterable, numbers is sequence, text is sequence, mapping is sequence, 5 is sequence
5 is number, 5.0 is number, true is number, "5" is number, 5 is integer, 5.0 is integer, true is integer, 5.0 is float, 5 is float, true is boolean, 1 is boolean, none is none, none_value is none
true is true, 1 is true, false is false, 0 is false, text is true
4 is even, 5 is odd, 4 is odd, -3 is odd, 9 is divisibleby 3, 9 is divisibleby(2), 4.0 is even
3 is in numbers, 3 is in [1], "a" is in "abc", 3 is not in numbers
5 is eq 5, 5 is equalto(5), 5 is ne 6, 5 is gt 4, 5 is ge 5, 5 is lt 6, 5 is le(4), 5 is greaterthan 4, 5 is lessthan 4, 5 is sameas 5, 5 is not eq 5
yes is defined and no is defined, missing is not defined, text is defined or missing, not text is defined
"ab" is lower, "AB" is upper, "Ab" is lower
range(5) | list, range(2, 5) | list, range(5, 0, -2) | list, range(0) | list
range(0, 1, 0) | list
dict(a=1, b="x"), dict(mapping, z=1).z, dict([("k", 1)]).k
[1, 2,], {"a": 1,}, (1, 2,), [[1, [2]], {"x": {"y": [1]}}]
{"a": {"b": {"c": 1}}}["a"]["b"].c, {1: "one", none: "n", true: "t"}[1], {"a": 1}.a
{[1]: 2}
numbers.0, people.0.name, people[0]["tags"][1]
-integer, +integer, --integer, -number, - 5 | abs, -5 | abs
-text
+text
yes + yes, yes * 3, -yes
(text | upper).split(",")[0] | lower ~ "!"
(numbers | sort)[0], (numbers | map("string") | list)[1]
namespace(a=1).a, namespace({"b": 2}).b, namespace(a=1).missing is defined
raise_exception("wanted")
text.__class__ is defined
text.__class__.__mro__
numbers.__class__ is defined, mapping.__init__ is defined, range.__globals__ is defined
text["__class__"] is defined
"%s" % text if no
9223372036854775807
true and 1, false or 0, 1 and 2 and 3, 0 or none or "z", not 1 in [1], not (1 in [1])
1 not in [1] or 2 in [2] and 3 == 3
"a" if "b" in "abc" and not "z" in "abc" else "c"
text|length > 5 and text|length < 20
numbers|length + 1, (numbers|length - 1) * 2, text|length ~ "x"
"x".join(text[:3])
loop is defined, caller is defined, varargs is defined
"a".b.c
text(1)
5()
"""

_TEMPLATES = [
    "a\n{% if yes %}\nb\n{% endif %}\nc\n",
    "a\n  {% if yes %}  \n  b\n  {% endif %}\nc\n\n",
    "a  {%- if yes -%}  b  {%- endif -%}  c",
    "a\n  {%+ if yes %}b{% endif +%}\nc",
    "  {{ 1 }}\n  {{- 2 }}\n{{ 3 -}}\n  4",
    "x{# comment #}y\n  {# comment #}\nz {#- c -#} w",
    "a {#- b #}\n c\n{# d -#}\n e",
    "{% raw %}{{ x }}{% if %}{% endraw %} t\n{%- raw -%}  {{ y }}  {%- endraw -%}  z",
    "{%raw%}\n a{%endraw%}\nb",
    "a\r\nb\rc\n{{ 'd\r\ne' }}\r\n",
    "\n\n",
    "\n",
    "",
    "{{ '{{' }} {{ '%}' }} {{ \"}}\" }}{{ {'a': {'b': 1}} }}",
    "{ { % } # {x} {",
    "{%- set x = 1 -%} {{ x }}",
    "\t{% set x = 1 %}\n\t{{ x }}{% set y = 2 %}\n{{ y }}",
    "a {% set x = 1 %} b {% set y = 2 %}\nc",
    "{% for i in numbers %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }} {{ loop.previtem }}<{{ i }}>{{ loop.nextitem }};{% endfor %}",
    "{% for i in empty_list %}x{% else %}none{% endfor %}{% for i in [1] %}{{ i }}{% else %}none{% endfor %}",
    "{% for i in missing %}x{% else %}none{% endfor %}",
    "{% for i in none_value %}x{% endfor %}",
    "{% for i in 5 %}x{% endfor %}",
    "{% for c in 'h\u00e9y' %}{{ c }}.{% endfor %}",
    "{% for k in mapping %}{{ k }} {% endfor %}{% for k, v in mapping.items() %}{{ k }}={{ v }} {% endfor %}{% for k, v in mapping | items %}{{ k }}{% endfor %}",
    "{% for i in numbers if i > 1 %}{{ loop.index }}:{{ i }}/{{ loop.length }} {% else %}none{% endfor %}",
    "{% for i in numbers if i > 100 %}x{% else %}none{% endfor %}",
    "{% for p in people if p.tags and p.age > 26 %}{{ p.name }}{{ ', ' if not loop.last }}{% endfor %}",
    "{% for i in numbers %}{% if i == 2 %}{% continue %}{% endif %}{% if i == 10 %}{% break %}{% endif %}{{ i }} {% endfor %}",
    "{% for i in [1, 2] %}{% for j in [1, 2] %}{{ loop.depth }}{{ i }}{{ j }}{% if j == 1 %}{% continue %}{% endif %}b{% endfor %}{{ loop.depth0 }};{% endfor %}",
    "{% for a, b in [[1, 2], [3, 4]] %}{{ a }}{{ b }}{% endfor %}{% for (a, b) in [(1, 2)] %}{{ a }}{{ b }}{% endfor %}",
    "{% for a, b in [[1, 2, 3]] %}{{ a }}{% endfor %}",
    "{% for a, b in [1] %}{{ a }}{% endfor %}",
    "{% for x in 1, 2, 3 %}{{ x }}{% endfor %}",
    "{% for x in [3, 4] %}{{ loop.cycle('a', 'b') }}{{ loop.missing is defined }}{% endfor %}",
    "{% for x in range(3) %}{{ x }}{% endfor %}{{ x is defined }}",
    "{% set x = 0 %}{% for i in numbers %}{{ x }}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}",
    "{% set x = 0 %}{% if yes %}{% set x = 5 %}{% endif %}{{ x }}",
    "{% set ns = namespace(x=0, found=false) %}{% for i in numbers %}{% set ns.x = ns.x + i %}{% if i == 2 %}{% set ns.found = true %}{% endif %}{% endfor %}{{ ns.x }}{{ ns.found }}",
    "{% set d = {} %}{% set d.x = 1 %}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (c, d) = 'xy' %}{{ c }}{{ d }}{% set t = 1, 2 %}{{ t }}",
    "{% set x %}a{{ 1 + 1 }}b\n{% endset %}[{{ x }}]{{ x is string }}",
    "{% set x | upper | trim %} abc {% endset %}[{{ x }}]",
    "{% set ns = namespace() %}{% set ns.x %}cap{% endset %}{{ ns.x }}",
    "{% filter upper | replace('B', 'x') %}abc {{ text }}{% endfilter %}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}",
    "{% if no %}1{% elif integer == 7 %}2{% elif yes %}3{% else %}4{% endif %}",
    "{% if missing %}1{% else %}2{% endif %}{% if empty_mapping %}1{% endif %}{% if 0.0 %}1{% endif %}{% if 'x' %}3{% endif %}",
    "{% macro m(a, b='B', c=none) %}{{ a }}-{{ b }}-{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 2) }} {{ m(1, c=3) }} {{ m(b=1, a=2) }} {{ m() }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(z=1) }}",
    "{% macro m(a, a2=a) %}{{ a2 }}{% endmacro %}{{ m(4) }}",
    "{% macro f(n) %}{{ n }}{% if n > 0 %},{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% macro m() %}x{% endmacro %}{{ m() | upper }}{{ m() ~ m() }}{{ m() is string }}{{ (m() | length) }}",
    "{% set x = 1 %}{% macro m() %}{{ x }}{{ y }}{% set z = 3 %}{% endmacro %}{% set x = 2 %}{{ m() }}{{ z is defined }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}body {{ text }}{% endcall %}",
    "{% macro m(a) %}{% for i in a %}{{ caller(i) }}{% endfor %}{% endmacro %}{% call(x) m(numbers) %}<{{ x }}>{% endcall %}",
    "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}",
    "{% for i in [1, 2] %}{% macro m() %}{{ i }}{% endmacro %}{{ m() }}{% endfor %}",
    "{% generation %}\n a {{ text }}\n{% endgeneration %}\nb{% set v = 1 %}{% generation %}{% set v = 2 %}{% endgeneration %}{{ v }}",
    "{{ 1, 2 }}{{ (1) }}{{ () }}",
    "{% if 'a' in text %}y{% endif %}{% if not 'a' in text and text %}n{% endif %}",
    "{{ text if yes }}{{ text if no }}{{ 'x' if no else 'y' if no else 'z' }}",
    "{{- '\n' }}a{{ '\n' -}}\n\nb",
    "{% for m in people -%}\n  {{ m.name }}\n{%- endfor %}|",
    "{% for m in people %}\n  {{ m.name }}\n  {%- if not loop.last %}, {% endif %}\n{% endfor %}|",
    "    {%- if yes %}\n        x\n    {%- endif %}\n",
    "{%if yes%}1{%endif%}{{2}}{%-if yes-%} 3 {%-endif-%}",
    "{{ text\n | upper }}{{\n1 +\n2 }}",
    "{{ [\n 1,\n 2\n] }}{% set\n x\n=\n1 %}{{ x }}",
    "{% set x = namespace(l=[]) %}{% set x.l = x.l + [1] %}{% set x.l = x.l + [2] %}{{ x.l }}",
    "{% set text = 'shadow' %}{{ text }}{% for text in [1] %}{{ text }}{% endfor %}{{ text }}",
    "{{ 'a \\\nb' }}",
    # refused
    "{% if yes %}", "{% endif %}", "{{ 1", "{{ }}", "{% %}", "{{ 1 + }}", "{{ (1 }}", "{{ [1 }}", "{{ 'a }}", "{# never ends",
    "{% for %}{% endfor %}", "{% for i of x %}{% endfor %}", "{% set %}", "{% set 1 = 2 %}", "{% set none = 1 %}", "{% unknown %}", "{% raw %}x",
    "{{ a b }}", "{{ a.1b }}", "{{ 1 is }}", "{{ | upper }}", "{{ a | }}", "{{ f(a=1, 2) }}", "{{ {1 2} }}", "{{ x[] }}", "{{ ] }}", "{{ (] }}",
    "{% break %}", "{% continue %}", "{% macro m %}{% endmacro %}", "{% macro m(a=1, b) %}{% endmacro %}", "{% else %}", "{% if yes %}{% else %}{% else %}{% endif %}",
    "{{ 1 $ 2 }}", "{{ ! }}", "{{ 'a' is is }}", "{% for i in [1] %}{% endif %}", "{% endfor %}", "{{ not }}", "{{ a if }}", "{% include 'x' %}", "{% import 'x' as y %}",
    "{% extends 'x' %}", "{% call 5 %}{% endcall %}", "{% set x.y.z = 1 %}", "{% filter nosuch %}x{% endfilter %}", "{% do numbers.append(1) %}",
]

SNIPPETS = ["{{ " + line + " }}" for line in _EXPRESSIONS.strip().split("\n")] + _TEMPLATES
