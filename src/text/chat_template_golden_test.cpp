// Output of templates equals Jinja's, byte for byte; what Jinja refuses is refused. The golden data
// and how it was made: golden/make_chat_template_golden.py.

#include <fstream>
#include <optional>
#include <sstream>
#include <string>

#include <gtest/gtest.h>

#include "core/error.h"
#include "text/chat_template.h"

namespace adze::text {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kFolder = "src/text/golden/";

std::string read_file(const std::string& path) {
  std::ifstream file(kFolder + path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

const Json& golden() {
  static const Json data = Json::parse(read_file("chat_template_golden.json"));
  return data;
}

// nullopt where the template is refused or rendering fails; the message then goes to `message`.
std::optional<std::string> render(const std::string& source,
                                  const Json& values,
                                  std::string& message) {
  try {
    return ChatTemplate(source).render(values);
  } catch (const core::Error& error) {
    message = error.what();
    return std::nullopt;
  }
}

void expect_same(const std::string& source, const Json& values, const Json& expected) {
  std::string message;
  const auto output = render(source, values, message);
  if (expected.is_null()) {
    EXPECT_EQ(output, std::nullopt);
    EXPECT_NE(message.find("line "), std::string::npos) << message;
  } else {
    EXPECT_EQ(output, expected.get<std::string>()) << message;
  }
}

TEST(ChatTemplateGolden, PublishedFamilies) {
  ASSERT_GT(golden()["cases"].size(), 500U);
  for (const Json& test : golden()["cases"]) {
    SCOPED_TRACE(test.dump());
    Json values = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
    values["messages"] = golden()["conversations"][test[1].get<std::string>()];
    values.update(golden()["options"][test[2].get<size_t>()]);
    expect_same(read_file("templates/" + test[0].get<std::string>() + ".jinja"),
                values,
                golden()["outputs"][test[3].get<size_t>()]);
  }
}

TEST(ChatTemplateGolden, Snippets) {
  for (const Json& snippet : golden()["snippets"]) {
    SCOPED_TRACE(snippet[0].get<std::string>());
    expect_same(snippet[0].get<std::string>(), golden()["snippet_values"], snippet[1]);
  }
}

}  // namespace
}  // namespace adze::text
