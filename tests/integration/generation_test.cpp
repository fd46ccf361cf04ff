// Text and conversations of the default model: what may not change them, and what must be refused.

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/error.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "infer/conversation.h"
#include "tests/support/default_model.h"

namespace adze::infer {
namespace {

// Words of many alphabets, digits and symbols in random order: few of them are likely, so a wrong
// bit anywhere soon changes the text.
std::string random_prompt(uint64_t seed) {
  const std::vector<std::string> words = {"the",
                                          "river",
                                          "Because",
                                          "x = 3;",
                                          "naïve",
                                          "42",
                                          "Москва",
                                          "\n\n",
                                          "and then",
                                          "{\"a\"",
                                          "数",
                                          "question",
                                          "remember",
                                          "!?",
                                          "😀",
                                          "winter",
                                          "- one",
                                          "of course"};
  core::Rng rng(seed);
  std::string text;
  for (uint64_t count = 36 + rng.next_uint64() % 10; count > 0; --count) {
    text += words[rng.next_uint64() % words.size()];
    text += rng.next_uint64() % 8 == 0 ? "" : " ";
  }
  return text + "it";
}

TextRequest request(int64_t max_tokens, double temperature, uint64_t seed = 0) {
  TextRequest result;
  result.generation.max_tokens = max_tokens;
  result.generation.sampling.temperature = temperature;
  result.generation.sampling.seed = seed;
  return result;
}

bool read_on(std::string_view) {
  return true;
}

class GenerationTest : public DefaultModelTest {
 protected:
  ~GenerationTest() override { core::set_num_threads(threads_); }

  // Token ids, their log-probabilities and the text, all to the bit.
  struct Answer {
    std::string text;
    std::vector<int32_t> tokens;
    std::vector<float> logprobs;
    bool operator==(const Answer&) const = default;
  };

  Answer generate(const CacheOptions& options, const std::string& prompt, TextRequest wanted) {
    Generator generator(loaded_->model, options);
    kv::Sequence sequence = generator.new_sequence();
    wanted.generation.sampling.logprobs = 0;
    const TextAnswer got = answer(generator,
                                  loaded_->tokenizer,
                                  sequence,
                                  loaded_->tokenizer.encode(prompt, text::SpecialTokens::kPlain),
                                  wanted,
                                  read_on);
    Answer result{.text = got.text, .tokens = {}, .logprobs = {}};
    for (const SampledToken& sampled : got.result.tokens) {
      result.tokens.push_back(sampled.token);
      result.logprobs.push_back(*sampled.logprob);
    }
    return result;
  }

 private:
  int threads_ = core::num_threads();
};

TEST_F(GenerationTest, ThreadsAndChunksDoNotChangeTheText) {
  struct Setting {
    const char* store;
    const char* policy;
    double temperature;
  };
  const std::vector<Setting> settings = {
      {"f16", "full", 0.8}, {"f32", "full", 0}, {"f16", "window:sinks=4,window=28", 0.8}};
  constexpr int64_t kWhole = 65536;
  for (size_t i = 0; i < settings.size(); ++i) {
    const std::string prompt = random_prompt(i + 1);
    // A chunk of 64 has to cut it.
    ASSERT_GT(loaded_->tokenizer.encode(prompt, text::SpecialTokens::kPlain).size(), 66U);
    CacheOptions options{.kv_store = settings[i].store, .kv_policy = settings[i].policy};
    const auto wanted = request(8, settings[i].temperature, i);
    core::set_num_threads(1);
    options.prefill_chunk = kWhole;
    const Answer expected = generate(options, prompt, wanted);
    EXPECT_FALSE(expected.tokens.empty());
    std::vector<std::pair<int, int64_t>> others = {{2, 1}, {1, 7}, {2, 64}};
    if (i == 0) {
      others.insert(others.end(), {{1, 1}, {1, 64}, {2, 7}, {2, kWhole}});
    }
    for (const auto& [threads, chunk] : others) {
      core::set_num_threads(threads);
      options.prefill_chunk = chunk;
      ASSERT_EQ(generate(options, prompt, wanted), expected)
          << "prompt " << i + 1 << ", threads " << threads << ", chunk " << chunk << ", "
          << options.kv_store << ", " << options.kv_policy;
    }
  }
}

// Guesses that repetition suggests are checked, not believed.
TEST_F(GenerationTest, GuessesChangeSpeedOnly) {
  const std::string list = "apple, pear, plum, cherry, quince, fig, grape, melon, ";
  int64_t steps = 0;
  int64_t tokens = 0;
  for (const double temperature : {0.0, 0.8}) {
    for (const std::string& prompt : {list + list + "apple, pear,", random_prompt(3)}) {
      const auto ids = loaded_->tokenizer.encode(prompt, text::SpecialTokens::kPlain);
      const auto run = [&](int64_t guesses, int64_t max_tokens) {
        Generator generator(loaded_->model, {});
        kv::Sequence sequence = generator.new_sequence();
        TextRequest wanted = request(max_tokens, temperature, 5);
        wanted.generation.guesses = guesses;
        wanted.generation.sampling.logprobs = 0;
        const TextAnswer got =
            answer(generator, loaded_->tokenizer, sequence, ids, wanted, read_on);
        Answer result{.text = got.text, .tokens = {}, .logprobs = {}};
        for (const SampledToken& sampled : got.result.tokens) {
          result.tokens.push_back(sampled.token);
          result.logprobs.push_back(*sampled.logprob);
        }
        if (guesses > 0) {
          steps += got.result.decode_steps;
          tokens += got.result.decoded_tokens;
        }
        return std::pair(result, sequence.num_tokens());
      };
      for (const int64_t max_tokens : {1, 2, 17, 40}) {
        const auto expected = run(0, max_tokens);
        for (const int64_t guesses : {1, 4, 15}) {
          ASSERT_EQ(run(guesses, max_tokens), expected) << prompt << ' ' << guesses;
        }
      }
    }
  }
  EXPECT_LT(steps * 3, tokens * 2) << "guesses were of no use: " << steps << " for " << tokens;
}

TEST_F(GenerationTest, GuessesAreRefusedWherePagesMayGo) {
  TextRequest wanted = request(4, 0);
  for (const int64_t guesses : {-1, 16}) {
    wanted.generation.guesses = guesses;
    EXPECT_THROW(generate({}, "a", wanted), core::InvalidOption);
  }
  wanted.generation.guesses = 2;
  EXPECT_THROW(generate({.kv_policy = "window:sinks=4,window=28"}, "a", wanted),
               core::InvalidOption);
}

TEST_F(GenerationTest, SeedsMatterOnlyWhereSomethingIsDrawn) {
  const std::string prompt = random_prompt(9);
  EXPECT_EQ(generate({}, prompt, request(6, 0, 1)), generate({}, prompt, request(6, 0, 2)));
  EXPECT_NE(generate({}, prompt, request(6, 1.5, 1)), generate({}, prompt, request(6, 1.5, 2)));
}

class ConversationTest : public GenerationTest {
 protected:
  ConversationTest()
      : folder_(std::filesystem::temp_directory_path() /
                ("adze-conversation-" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(folder_);
    core::set_num_threads(
        1);  // short steps: two threads gain little, and nothing on a busy machine
  }
  ~ConversationTest() override { std::filesystem::remove_all(folder_); }

  std::string reply(Conversation& conversation, const std::string& message, int64_t tokens = 12) {
    last_ = conversation.reply(message, request(tokens, 0.8, 3), read_on).result;
    return conversation.messages().back().content;
  }

  // The message of the core::Error that `action` throws; other exceptions pass and fail the test.
  static std::string refusal(const std::function<void()>& action) {
    try {
      action();
    } catch (const core::Error& failure) {
      return failure.what();
    }
    return "nothing was thrown";
  }

  static void expect_parts(const std::string& message, const std::vector<std::string>& parts) {
    for (const std::string& part : parts) {
      EXPECT_NE(message.find(part), std::string::npos) << part << " is not in: " << message;
    }
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  }

  std::filesystem::path folder_;
  GenerationResult last_;
};

TEST_F(ConversationTest, LoadedConversationsGoOnWithoutComputingAnew) {
  for (const CacheOptions& options : {CacheOptions{},
                                      CacheOptions{.kv_store = "f32"},
                                      CacheOptions{.kv_policy = "window:sinks=4,window=60"}}) {
    Generator generator(loaded_->model, options);
    Conversation first(*loaded_, generator, "You know the sea.");
    reply(first, "Tell me about the tides, and why there are two of them in a day.");
    first.save(folder_ / "chat");
    const int64_t known = first.sequence().num_tokens();
    const std::string expected = reply(first, "And at the coast?");
    const int64_t fed = last_.prompt_tokens;

    Generator other(loaded_->model, options);  // as another process: nothing is shared
    Conversation second(*loaded_, other, std::nullopt);
    second.load(folder_ / "chat");
    EXPECT_EQ(second.sequence().num_tokens(), known);
    EXPECT_GT(second.sequence().cached_tokens(0), 0);
    EXPECT_EQ(second.messages().size(), 3U);
    EXPECT_EQ(reply(second, "And at the coast?"), expected) << options.kv_policy;
    EXPECT_EQ(last_.prompt_tokens, fed);
    EXPECT_LT(last_.prompt_tokens, 20);  // the message and its frame, nothing that came before
    EXPECT_EQ(second.sequence().num_tokens(), first.sequence().num_tokens());
  }
}

TEST_F(ConversationTest, StoppedAnswersStayInTheCache) {
  Generator generator(loaded_->model, {});
  Conversation conversation(*loaded_, generator, std::nullopt);
  std::string shown;
  int pieces = 0;
  conversation.reply("Tell me a long story.", request(64, 0), [&](std::string_view text) {
    shown += text;
    return ++pieces < 5;  // as Ctrl-C does
  });
  EXPECT_EQ(conversation.messages().back().content, shown);
  const int64_t known = conversation.sequence().num_tokens();
  reply(conversation, "Go on.");
  EXPECT_LT(last_.prompt_tokens, 20);
  EXPECT_GT(conversation.sequence().num_tokens(), known);
}

TEST_F(ConversationTest, WindowsOutliveTheirSize) {
  const CacheOptions options{.kv_policy = "window:sinks=4,window=60", .context = 96};
  Generator generator(loaded_->model, options);
  Conversation conversation(*loaded_, generator, std::nullopt);
  for (int turn = 0; turn < 5; ++turn) {
    EXPECT_FALSE(reply(conversation, "Name three birds, and say where they live.", 24).empty());
    EXPECT_LT(last_.prompt_tokens, 50);
  }
  EXPECT_GT(conversation.sequence().num_tokens(), 150);
  EXPECT_GE(conversation.sequence().cached_tokens(0), 64);
  EXPECT_LT(conversation.sequence().cached_tokens(0), 96);
}

TEST_F(ConversationTest, LongTextsAreRefusedAndChangeNothing) {
  Generator generator(loaded_->model, {.context = 96});
  Conversation conversation(*loaded_, generator, std::nullopt);
  const std::string before = reply(conversation, "Say hello.", 6);
  const int64_t known = conversation.sequence().num_tokens();
  std::string message;
  for (int i = 0; i < 80; ++i) {
    message += "again and ";
  }
  const std::string refused = refusal([&] { reply(conversation, message); });
  expect_parts(refused, {"96", "/reset", "--context", "--kv-policy", "window"});
  EXPECT_THROW(reply(conversation, message), ContextFull);
  EXPECT_EQ(conversation.messages().size(), 2U);
  EXPECT_EQ(conversation.messages().back().content, before);
  EXPECT_EQ(conversation.sequence().num_tokens(), known);
  EXPECT_FALSE(reply(conversation, "Hello.", 6).empty());
  // An answer that reaches the limit ends there and says so.
  conversation.reset();
  reply(conversation, "Tell me everything about the history of Rome, century by century.", 200);
  EXPECT_EQ(last_.finish, FinishReason::kContext);
  EXPECT_LE(conversation.sequence().num_tokens(), 96);
  EXPECT_THROW(reply(conversation, "Go on."), ContextFull);
  conversation.reset();
  EXPECT_FALSE(reply(conversation, "Say hello.", 6).empty());
}

TEST_F(ConversationTest, OtherCachesAndDamagedFilesAreRefused) {
  const auto path = folder_ / "chat";
  Generator generator(loaded_->model, {});
  Conversation conversation(*loaded_, generator, std::nullopt);
  reply(conversation, "Say hello.", 6);
  conversation.save(path);

  Generator exact(loaded_->model, {.kv_store = "f32"});
  Conversation other(*loaded_, exact, std::nullopt);
  expect_parts(refusal([&] { other.load(path); }), {path.string(), "kv-store", "f32", "f16"});
  Generator window(loaded_->model, {.kv_policy = "window"});
  Conversation third(*loaded_, window, std::nullopt);
  expect_parts(refusal([&] { third.load(path); }), {path.string(), "kv-policy", "window", "full"});
  expect_parts(refusal([&] { third.load(folder_ / "nothing"); }), {"nothing", "No such file"});
  expect_parts(refusal([&] { third.load(folder_); }), {"regular file"});
  expect_parts(refusal([&] { conversation.save(folder_ / "no" / "such"); }), {"such"});

  std::ifstream file(path, std::ios::binary);
  const std::string good{std::istreambuf_iterator<char>(file), {}};
  const auto load_bytes = [&](const std::string& bytes) {
    std::ofstream(folder_ / "damaged", std::ios::binary) << bytes;
    other.load(folder_ / "damaged");
  };
  for (size_t length = 0; length < good.size(); length += 1 + length / 4) {
    EXPECT_THROW(load_bytes(good.substr(0, length)), core::Error) << length;
  }
  EXPECT_TRUE(other.messages().empty());
  core::Rng rng(5);
  for (int round = 0; round < 60; ++round) {
    std::string damaged = good;
    damaged[rng.next_uint64() % 400] ^= static_cast<char>(1 + rng.next_uint64() % 255);
    Conversation victim(*loaded_, generator, std::nullopt);
    std::ofstream(folder_ / "damaged", std::ios::binary) << damaged;
    try {
      victim.load(folder_ / "damaged");  // other words may load; nothing may crash
    } catch (const core::Error&) {
      EXPECT_TRUE(victim.messages().empty());
    }
  }
  // The conversation that was saved has noticed nothing.
  EXPECT_FALSE(reply(conversation, "Again.", 6).empty());
}

}  // namespace
}  // namespace adze::infer
