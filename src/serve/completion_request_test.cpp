#include "serve/completion_request.h"

#include <gtest/gtest.h>

namespace adze::serve {
namespace {

const Json kUser = {{"role", "user"}, {"content", "x"}};

// "" where the request is accepted, else the field at fault.
std::string fault(const Json& body) {
  try {
    if (body.contains("messages")) {
      read_chat_request(body);
    } else {
      read_completion_request(body);
    }
  } catch (const ApiError& error) {
    const Json param = error.body()["error"]["param"];
    return param.is_string() ? param.get<std::string>() : "?";
  }
  return "";
}

Json with_call(const std::string& arguments) {
  Json function = {{"name", "f"}};
  function["arguments"] = arguments;
  Json call = {{"id", "c"}, {"type", "function"}};
  call["function"] = function;
  Json answer = {{"role", "assistant"}, {"content", nullptr}};
  answer["tool_calls"] = Json::array({call});
  Json body;
  body["messages"] = Json::array({kUser, answer});
  return body;
}

TEST(CompletionRequest, RefusesWhatCannotBeServed) {
  EXPECT_EQ(fault({{"prompt", "a"}, {"logit_bias", {{"5", nullptr}}}}), "logit_bias.5");
  EXPECT_EQ(fault({{"prompt", "a"}, {"stop", std::string(1025, 'x')}}), "stop");
  EXPECT_EQ(fault({{"prompt", "a"}, {"stop", std::string(1024, 'x')}}), "");
  EXPECT_EQ(fault({{"prompt", std::vector<std::string>(256, "a")}, {"n", 17}}), "n");
  EXPECT_EQ(fault({{"prompt", std::vector<std::string>(256, "a")}, {"n", 16}}), "");
  EXPECT_EQ(fault({{"prompt", std::vector<std::string>(257, "a")}}), "prompt");
  EXPECT_EQ(fault({{"prompt", "a"}, {std::string(1 << 20, 'x'), 1}}), std::string(80, 'x'));
}

TEST(CompletionRequest, ArgumentsOfCallsAreBounded) {
  const auto nested = [](size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  const std::string place = "messages[1].tool_calls[0].function.arguments";
  EXPECT_EQ(fault(with_call(nested(64))), "");
  EXPECT_EQ(fault(with_call("not JSON")), "");
  EXPECT_EQ(fault(with_call(std::string(4'000'000, '['))), "");  // not JSON either
  EXPECT_EQ(fault(with_call(nested(65))), place);
  EXPECT_EQ(fault(with_call(nested(4'000'000))), place);
  const CompletionRequest request = read_chat_request(with_call(R"({"a":[1]})"));
  EXPECT_EQ(request.messages[1]["tool_calls"][0]["function"]["arguments"]["a"][0], 1);
}

TEST(CompletionRequest, TakesAnswersAsClientsSendThemBack) {
  Json body = with_call("{}");
  for (const char* name : {"refusal", "audio", "function_call"}) {
    body["messages"][1][name] = nullptr;
  }
  body["messages"][1]["annotations"] = Json::array();
  EXPECT_EQ(fault(body), "");
  body["messages"][1]["refusal"] = "no";
  EXPECT_EQ(fault(body), "messages[1].refusal");
}

TEST(CompletionRequest, ToolsExcludeWhatWouldNotHoldBesideThem) {
  Json body;
  body["messages"] = Json::array({kUser});
  body["tools"] = Json::array({{{"type", "function"}, {"function", {{"name", "f"}}}}});
  EXPECT_EQ(fault(body), "");
  body["response_format"] = {{"type", "json_object"}};
  EXPECT_EQ(fault(body), "response_format");
  body["tool_choice"] = "none";
  EXPECT_EQ(fault(body), "");
  body["ignore_eos"] = true;
  EXPECT_EQ(fault(body), "ignore_eos");
}

TEST(CompletionRequest, MinusOneIsOffAndAny) {
  const CompletionRequest request =
      read_completion_request({{"prompt", "a"}, {"top_k", -1}, {"seed", -1}});
  EXPECT_EQ(request.sampling.top_k, 0);
  EXPECT_LT(request.sampling.seed, uint64_t{1} << 31);
  EXPECT_EQ(fault({{"prompt", "a"}, {"top_k", -2}}), "top_k");
}

}  // namespace
}  // namespace adze::serve
