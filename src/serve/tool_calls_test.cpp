#include "serve/tool_calls.h"

#include <gtest/gtest.h>

namespace adze::serve {
namespace {

const std::vector<Tool> kTools = {{.name = "weather", .definition = {}, .parameters = {}},
                                  {.name = "clock", .definition = {}, .parameters = {}}};

// What the answer comes to: text as it is, calls as [name arguments].
std::string read(std::string_view text, size_t piece, bool only_call = false) {
  ToolCallReader reader(kTools, only_call);
  std::string result;
  int64_t calls = 0;
  const auto add = [&](const std::vector<AnswerPart>& parts) {
    for (const AnswerPart& part : parts) {
      if (part.kind == AnswerPart::Kind::kCall) {
        EXPECT_EQ(part.call, calls++);
        result += "[" + part.name + "]";
      } else {
        EXPECT_FALSE(part.text.empty());
        result += part.text;
      }
    }
  };
  for (size_t at = 0; at < text.size(); at += piece) {
    add(reader.push(text.substr(at, piece)));
  }
  add(reader.finish());
  EXPECT_EQ(reader.calls(), calls);
  return result;
}

TEST(ToolCallReader, ReadsCallsHoweverCut) {
  const std::string call = R"(<tool_call>
{"name": "weather", "arguments": {"city": "} \" {", "days": [1, {"a": 2}]}}
</tool_call>)";
  const std::string arguments = R"([weather]{"city": "} \" {", "days": [1, {"a": 2}]})";
  for (const size_t piece : {1, 2, 3, 7, 1000}) {
    EXPECT_EQ(read("Let me see. " + call, piece), "Let me see. " + arguments);
    EXPECT_EQ(read(call + "\n" + call + "\nDone.", piece), arguments + arguments + "Done.");
    EXPECT_EQ(read(R"(<tool_call>{"name":"clock","arguments":5 }done)", piece), "[clock]5done");
    EXPECT_EQ(read(R"({"name":"clock","arguments":{"a":{}}} )", piece, true), "[clock]{\"a\":{}}");
  }
}

TEST(ToolCallReader, LeavesTextThatIsNoCallOfATool) {
  for (const std::string text : {"a < b",
                                 "<tool_cal",
                                 "<tool_call>",
                                 "<tool_call>hello</tool_call>x",
                                 R"(<tool_call>{"name":"rm","arguments":{}}</tool_call>)",
                                 R"(<tool_call>{"arguments":{},"name":"clock"}</tool_call>)"}) {
    for (const size_t piece : {1, 5, 1000}) {
      EXPECT_EQ(read(text, piece), text);
    }
  }
  const std::string endless = "<tool_call>" + std::string(5000, '[');
  EXPECT_EQ(read(endless, 100), endless);
}

TEST(ToolCallReader, GivesWhatThereIsOfACutCall) {
  EXPECT_EQ(read(R"(<tool_call>{"name":"clock","arguments":{"zone": "U)", 3),
            R"([clock]{"zone": "U)");
  EXPECT_EQ(read(R"({"name":"clock","arguments":{"zone": "U)", 3, true), R"([clock]{"zone": "U)");
}

TEST(ToolCallReader, KnowsWhetherTheLastCallIsWhole) {
  const auto whole = [](std::string_view text, bool only_call) {
    ToolCallReader reader(kTools, only_call);
    reader.push(text);
    reader.finish();
    return reader.whole();
  };
  const std::string call = R"({"name":"clock","arguments":{"zone": "U"}})";
  for (const bool only_call : {false, true}) {
    const std::string tag = only_call ? "" : "<tool_call>";
    for (size_t length = 0; length < call.size(); ++length) {
      EXPECT_FALSE(whole(tag + call.substr(0, length), only_call)) << length;
    }
    EXPECT_TRUE(whole(tag + call, only_call));
  }
  const std::string tagged = "<tool_call>" + call + "</tool_call>";
  EXPECT_TRUE(whole(tagged + " and more", false));
  EXPECT_FALSE(whole(tagged + R"(<tool_call>{"name":"clock","arguments":{)", false));
  EXPECT_FALSE(whole("no call", false));
}

TEST(ToolCallReader, SurvivesDeepArguments) {
  const std::string deep(1'000'000, '[');
  EXPECT_EQ(read(R"(<tool_call>{"name":"clock","arguments":)" + deep, 1000), "[clock]" + deep);
}

}  // namespace
}  // namespace adze::serve
