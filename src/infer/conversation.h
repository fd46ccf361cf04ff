#pragma once
// A chat with one model: messages, and a cache that keeps what earlier turns cost. Each turn feeds
// only what the template adds to the text that the cache already holds.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "infer/loaded_model.h"
#include "infer/text_answer.h"

namespace adze::infer {

class Conversation {
 public:
  // Both must outlive the conversation. system: the first message, if any.
  Conversation(const LoadedModel& loaded, Generator& generator, std::optional<std::string> system);

  // Adds the user's message and the answer. After ContextFull the message is taken back and nothing
  // has been computed; after any other error the next turn also computes the cache anew.
  TextAnswer reply(const std::string& message,
                   const TextRequest& request,
                   const std::function<bool(std::string_view)>& on_text,
                   const Generator::ProgressCallback& on_progress = {});

  void reset();  // back to the system message

  // Messages and cache; a loaded conversation goes on with equal logits and recomputes nothing.
  // Throw core::Error: full disk; another model, store or policy; damaged file. What was there
  // before stays then.
  void save(const std::filesystem::path& path) const;
  void load(const std::filesystem::path& path);

  const std::vector<ChatMessage>& messages() const { return messages_; }
  const kv::Sequence& sequence() const { return sequence_; }

 private:
  std::vector<int32_t> tokens_to_feed(const std::string& rendered);
  void clear_cache();

  const LoadedModel& loaded_;
  Generator& generator_;
  std::optional<std::string> system_;
  std::vector<ChatMessage> messages_;
  kv::Sequence sequence_;
  std::string cached_text_;       // what sequence_ and pending_ stand for
  std::vector<int32_t> pending_;  // answered but not fed yet: at most the last token
};

}  // namespace adze::infer
