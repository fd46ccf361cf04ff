// What strangers' templates must not be able to do, and the messages that users see. That ordinary
// templates come out right is in chat_template_golden_test.cpp.

#include "text/chat_template.h"

#include <thread>

#include <gtest/gtest.h>

#include "core/error.h"

namespace adze::text {
namespace {

using Json = nlohmann::ordered_json;

std::string repeat(const std::string& text, int count) {
  std::string repeated;
  for (int index = 0; index < count; ++index) {
    repeated += text;
  }
  return repeated;
}

// "" where it renders.
std::string failure_of(const std::string& source,
                       const Json& values = Json::object(),
                       const ChatTemplateLimits& limits = {.memory_bytes = 32 << 20}) {
  try {
    ChatTemplate(source, limits).render(values);
    return "";
  } catch (const core::Error& error) {
    return error.what();
  }
}

void expect_failure(const std::string& source,
                    const std::string& part,
                    const Json& values = Json::object()) {
  const std::string message = failure_of(source, values);
  EXPECT_NE(message.find(part), std::string::npos)
      << source.substr(0, 200) << "\n -> " << (message.empty() ? "rendered" : message);
}

TEST(ChatTemplate, ErrorsNameTheLine) {
  expect_failure("a\n\n{{ missing.name }}", "[chat template] line 3: 'missing' is undefined");
  expect_failure("\n{% if x %}\n", "line 2: a block without 'endif'");
  expect_failure("{% for i in [1] %}\n{{ 1 + 'a' }}{% endfor %}", "line 2: '+' does not work");
  expect_failure("{{ raise_exception('roles must\nalternate') }}", "line 1: roles must\nalternate");
  expect_failure("x\n{% include 'y' %}", "line 2: the statement 'include' is not supported");
  expect_failure("\r\n\r\n{{ x y }}", "line 3: expected '}}', got 'y'");
}

TEST(ChatTemplate, ValuesMustBeAnObject) {
  EXPECT_THROW((void)ChatTemplate("x").render(Json::array()), core::Error);
  EXPECT_EQ(ChatTemplate("x").render(Json::object()), "x");
}

TEST(ChatTemplate, GrowthOfTextMeetsALimit) {
  expect_failure("{{ 'x' * 1000000000 }}", "more than");
  expect_failure("{{ ('x' * 100000) * 100000 }}", "more than");
  expect_failure(
      "{% set ns = namespace(x='ab') %}{% for i in range(100) %}"
      "{% set ns.x = ns.x + ns.x %}{% endfor %}",
      "more than");
  expect_failure("{{ (('a' * 9999) | replace('a', 'b' * 9999)) | replace('b', 'c' * 999) }}",
                 "more than");
  expect_failure("{{ range(5000) | join('x' * 100000) }}", "more than");
  expect_failure("{% set x = 'line\n' * 9000 %}{{ x | indent('y' * 100000) }}", "more than");
  expect_failure("{{ [1] | tojson(indent=1000000000) }}", "indent");
  expect_failure("{{ 'x' | indent(1000000000) }}", "indent");
}

TEST(ChatTemplate, GrowthOfListsMeetsALimit) {
  expect_failure("{{ range(1000000000) | length }}", "more than");
  expect_failure("{{ [1] * 1000000000 }}", "more than");
  expect_failure("{% set l = [1] %}{% for x in l %}{% set y = l.append(1) %}{% endfor %}",
                 "more than");
  expect_failure(
      "{% set ns = namespace(l=[1]) %}{% for i in range(64) %}"
      "{% set ns.l = ns.l + ns.l %}{% endfor %}",
      "more than");
}

TEST(ChatTemplate, StepsMeetALimit) {
  expect_failure(repeat("{% for i in range(1000) %}", 10) + repeat("{% endfor %}", 10),
                 "more than 1000000 steps");
  expect_failure(
      "{% set t = 'a' * 900000 %}{% set p = 'a' * 400000 + 'b' %}"
      "{% for i in range(100) %}{{ p in t }}{% endfor %}",
      "steps");
  expect_failure(
      "{% set t = 'ab' * 400000 %}{% for i in range(90000) %}{% set x = t | upper %}"
      "{% endfor %}",
      "steps");
}

TEST(ChatTemplate, OutputMeetsALimit) {
  ChatTemplateLimits limits;
  limits.output_bytes = 1000;
  EXPECT_EQ(failure_of("{{ 'x' * 1000 }}", Json::object(), limits), "");
  EXPECT_NE(failure_of("{{ 'x' * 1001 }}", Json::object(), limits).find("output"),
            std::string::npos);
  // Output that is captured counts while it is open, and not twice.
  EXPECT_EQ(
      failure_of("{% set a %}{{ 'x' * 900 }}{% endset %}{% set a %}{{ 'x' * 900 }}{% endset %}",
                 Json::object(),
                 limits),
      "");
}

TEST(ChatTemplate, SourceMeetsALimit) {
  expect_failure(std::string((1 << 20) + 1, 'x'), "source: expected at most 1048576 bytes");
  expect_failure("{{ " + std::string(2'000, 'x') + " }}", "a name of 2000 bytes");
}

TEST(ChatTemplate, NestingMeetsALimit) {
  for (const auto& [open, close] :
       std::vector<std::pair<std::string, std::string>>{{"(", ")"},
                                                        {"[", "]"},
                                                        {"{1:", "}"},
                                                        {"not ", ""},
                                                        {"-", ""},
                                                        {"range(", ")"},
                                                        {"a[", "]"},
                                                        {"a|d(", ")"},
                                                        {"a is in [", "]"},
                                                        {"1 if 1 else ", ""}}) {
    SCOPED_TRACE(open);
    expect_failure("{{ " + repeat(open, 50'000) + "1" + repeat(close, 50'000) + " }}", "nested");
    EXPECT_EQ(
        failure_of("{{ " + repeat(open, 30) + "[]" + repeat(close, 30) + " }}").find("nested"),
        std::string::npos);
  }
  expect_failure(repeat("{% if 1 %}", 20'000) + repeat("{% endif %}", 20'000), "nested");
  expect_failure(repeat("{% for i in [1] %}", 20'000), "nested");
  expect_failure(repeat("{% macro m() %}", 20'000), "nested");
}

TEST(ChatTemplate, LongChainsAreNotNesting) {
  EXPECT_EQ(ChatTemplate("{{ 0" + repeat(" + 1", 50'000) + " }}").render(Json::object()), "50000");
  EXPECT_EQ(ChatTemplate("{{ 'a'" + repeat("|upper", 50'000) + " }}").render(Json::object()), "A");
  EXPECT_EQ(ChatTemplate("{{ 1" + repeat(" and 1", 50'000) + " }}").render(Json::object()), "1");
  EXPECT_EQ(ChatTemplate("{% if 0 %}" + repeat("{% elif 0 %}", 20'000) + "{% else %}x{% endif %}")
                .render(Json::object()),
            "x");
  expect_failure("{{ a" + repeat(".b", 50'000) + " }}", "'a' is undefined");
}

TEST(ChatTemplate, EndlessRecursionMeetsALimit) {
  expect_failure("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "deeper than");
  expect_failure(
      "{% macro f(x) %}{{ g(x) }}{% endmacro %}{% macro g(x) %}{{ f([x]) }}{% endmacro %}"
      "{{ f(1) }}",
      "deeper than");
  expect_failure("{% macro f(a=f()) %}{% endmacro %}{{ f() }}", "deeper than");
  expect_failure(
      "{% macro f() %}{{ caller() }}{% call f() %}{% endcall %}{% endmacro %}"
      "{% call f() %}{% endcall %}",
      "deeper than");
  // Deep source within deep recursion: the native stack must hold both.
  expect_failure("{% macro f() %}" + repeat("{% if 1 %}", 80) + "{{ [[[[f()]]]] }}" +
                     repeat("{% endif %}", 80) + "{% endmacro %}{{ f() }}",
                 "deeper than");
}

TEST(ChatTemplate, CyclesAndDeepValuesMeetALimit) {
  expect_failure("{% set l = [1] %}{% set x = l.append(l) %}{{ l }}", "nested deeper");
  expect_failure("{% set l = [1] %}{% set x = l.append(l) %}{{ l | tojson }}", "nested deeper");
  expect_failure(
      "{% set l = [] %}{% set m = [] %}{% set x = l.append(m) %}{% set x = m.append(l) %}"
      "{{ l == [m] and l == [[l]] and m == [[[m]]] and l < m }}",
      "");
  const std::string deep =
      "{% set ns = namespace(x=[], y=[]) %}{% for i in range(5000) %}"
      "{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}{% endfor %}";
  expect_failure(deep + "{{ ns.x }}", "nested deeper");
  expect_failure(deep + "{{ ns.x | tojson }}", "nested deeper");
  expect_failure(deep + "{{ ns.x == ns.y }}", "nested deeper");
  // Sharing makes the printed form exponential in the source.
  expect_failure(
      "{% set ns = namespace(x=[1]) %}{% for i in range(40) %}"
      "{% set ns.x = [ns.x, ns.x] %}{% endfor %}{{ ns.x }}",
      "more than");
  Json nested = Json::array();
  for (int level = 0; level < 5'000; ++level) {
    nested = Json::array({std::move(nested)});
  }
  expect_failure("x", "nested deeper", {{"nested", nested}});
}

TEST(ChatTemplate, IntegersNeverWrap) {
  for (const char* expression : {"9223372036854775807 + 1",
                                 "-9223372036854775807 - 2",
                                 "9223372036854775807 * 2",
                                 "-(-9223372036854775807 - 1)",
                                 "(-9223372036854775807 - 1) // -1",
                                 "2 ** 63",
                                 "3 ** 9223372036854775807",
                                 "9223372036854775808",
                                 "(-9223372036854775807 - 1) | abs"}) {
    expect_failure(std::string("{{ ") + expression + " }}", "64 bits");
  }
  EXPECT_EQ(ChatTemplate("{{ (-1) ** 9223372036854775807 }}{{ 1 ** 9223372036854775806 }}"
                         "{{ 'abc'[9223372036854775807:] }}{{ [1][-9223372036854775807:] }}"
                         "{{ [1, 2][::9223372036854775807] }}{{ 'ab' * -5 }}"
                         "{{ (-9223372036854775807 - 1) % -1 }}{{ 1e300 | int }}")
                .render(Json::object()),
            "-11[1][1]00");
  expect_failure("x", "64 bits", {{"big", uint64_t{1} << 63}});
}

TEST(ChatTemplate, NothingBeyondTheGivenValues) {
  for (const char* expression : {"''.__class__",
                                 "''.__class__.__mro__[1].__subclasses__()",
                                 "[]['__class__']['__base__']",
                                 "range.__globals__.os",
                                 "namespace.__init__.__globals__",
                                 "({}).__class__.__bases__[0]",
                                 "('a'|attr('__class__')).x",
                                 "raise_exception.__self__.x",
                                 "self.__init__.__globals__",
                                 "cycler.__init__.__globals__",
                                 "lipsum.__globals__['os'].popen('id')",
                                 "config.items()",
                                 "open('/etc/passwd')",
                                 "loop.__class__.x",
                                 "messages.__class__.x",
                                 "'{0.__class__}'.format(1)"}) {
    EXPECT_NE(failure_of(std::string("{{ ") + expression + ".x }}", {{"messages", Json::array()}}),
              "")
        << expression;
  }
  EXPECT_EQ(ChatTemplate("{{ ''.__class__ }}{{ messages.__class__ }}{{ self }}{{ os }}")
                .render({{"messages", Json::array()}}),
            "");
}

TEST(ChatTemplate, StrftimeNow) {
  const std::string output =
      ChatTemplate("{{ strftime_now('%Y-%m-%d|%%') }}").render(Json::object());
  EXPECT_EQ(output.size(), 12U);
  EXPECT_EQ(output.substr(4, 1) + output.substr(10), "-|%");
  expect_failure("{{ strftime_now('%9999d') }}", "strftime_now");
  expect_failure("{{ strftime_now('x' * 5000) }}", "strftime_now");
  expect_failure("{{ strftime_now(1) }}", "strftime_now");
}

TEST(ChatTemplate, ListsGrowWhileTheyAreWalked) {
  EXPECT_EQ(ChatTemplate("{% set l = [1, 2] %}{% for x in l %}{% if x < 3 %}"
                         "{% set y = l.append(x + 2) %}{% endif %}{{ x }}{% endfor %}")
                .render(Json::object()),
            "1234");
}

TEST(ChatTemplate, MacrosKeepTheScopeTheyWereDefinedIn) {
  EXPECT_EQ(
      ChatTemplate("{% set ns = namespace(f=none) %}{% for i in [1, 2, 3] %}{% set v = i * 2 %}"
                   "{% macro m() %}{{ i }}{{ v }}{% endmacro %}{% if i == 2 %}{% set ns.f = m %}"
                   "{% endif %}{% endfor %}{{ ns.f() }}")
          .render(Json::object()),
      "24");
}

TEST(ChatTemplate, InvalidUtf8PassesThrough) {
  EXPECT_EQ(ChatTemplate("\xFF{{ '\xC3' ~ x }}").render({{"x", "\x80z"}}), "\xFF\xC3\x80z");
  EXPECT_EQ(ChatTemplate("{{ x | length }}{{ x[1] }}{{ x | upper }}{{ x | trim }}")
                .render({{"x", "\x80z"}}),
            "2z\x80Z\x80z");
}

TEST(ChatTemplate, OneTemplateServesManyThreads) {
  const ChatTemplate chat_template("{% for m in messages %}{{ m ~ '-' ~ loop.index }}{% endfor %}");
  std::vector<std::string> outputs(4);
  std::vector<std::jthread> threads;
  threads.reserve(outputs.size());
  for (std::string& output : outputs) {
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        output = chat_template.render({{"messages", {"a", "b"}}});
      }
    });
  }
  threads.clear();
  EXPECT_EQ(outputs, std::vector<std::string>(4, "a-1b-2"));
}

TEST(ChatTemplate, LongConversationsFitTheLimits) {
  Json messages = Json::array();
  for (int index = 0; index < 2'000; ++index) {
    messages.push_back({{"role", index % 2 == 0 ? "user" : "assistant"},
                        {"content", repeat("A sentence of a talk. ", 40)}});
  }
  const std::string output =
      ChatTemplate(
          "{% set ns = namespace(text='') %}{% for m in messages %}"
          "{% if m['role'] == 'user' %}{{ '<|user|>' + m['content'] | trim }}{% else %}"
          "{{ '<|assistant|>' + m.content.strip() }}{% endif %}{% endfor %}")
          .render({{"messages", messages}});
  EXPECT_GT(output.size(), 1'700'000U);
}

}  // namespace
}  // namespace adze::text
