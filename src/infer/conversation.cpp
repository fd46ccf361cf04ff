#include "infer/conversation.h"

#include <utility>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/mapped_file.h"
#include "core/state_stream.h"
#include "model/model.h"

namespace adze::infer {
namespace {

constexpr std::string_view kFormat = "adze conversation 1";

std::vector<ChatMessage> first_messages(const std::optional<std::string>& system) {
  if (!system) {
    return {};
  }
  return {{"system", *system}};
}

}  // namespace

Conversation::Conversation(const LoadedModel& loaded,
                           Generator& generator,
                           std::optional<std::string> system)
    : loaded_(loaded),
      generator_(generator),
      system_(std::move(system)),
      messages_(first_messages(system_)),
      sequence_(generator.new_sequence()) {}

void Conversation::reset() {
  messages_ = first_messages(system_);
  clear_cache();
}

void Conversation::clear_cache() {
  sequence_.clear();
  cached_text_.clear();
  pending_.clear();
}

std::vector<int32_t> Conversation::tokens_to_feed(const std::string& rendered) {
  if (!rendered.starts_with(cached_text_)) {
    // The template changed earlier text (some trim answers): start over.
    clear_cache();
  }
  std::vector<int32_t> tokens = pending_;
  const auto added = loaded_.tokenizer.encode(
      std::string_view(rendered).substr(cached_text_.size()), text::SpecialTokens::kParse);
  tokens.insert(tokens.end(), added.begin(), added.end());
  if (sequence_.num_tokens() == 0) {
    add_begin_of_text(loaded_.tokenizer, tokens);
  }
  return tokens;
}

TextAnswer Conversation::reply(const std::string& message,
                               const TextRequest& request,
                               const std::function<bool(std::string_view)>& on_text,
                               const Generator::ProgressCallback& on_progress) {
  messages_.push_back({"user", message});
  try {
    const std::string rendered = render_chat(loaded_, messages_, true);
    const auto tokens = tokens_to_feed(rendered);
    const int64_t expected =
        sequence_.num_tokens() + static_cast<int64_t>(tokens.size());  // once the prompt is in
    TextAnswer reply =
        answer(generator_, loaded_.tokenizer, sequence_, tokens, request, on_text, on_progress);
    const auto& generated = reply.result.tokens;
    const auto fed = static_cast<size_t>(sequence_.num_tokens() - expected);
    pending_.clear();
    for (size_t i = fed; i < generated.size(); ++i) {
      pending_.push_back(generated[i].token);
    }
    cached_text_ = rendered + reply.text;
    if (reply.stopped_by_text) {
      clear_cache();  // the next turn feeds what the text says
    }
    messages_.push_back({"assistant", reply.text});
    return reply;
  } catch (const ContextFull&) {
    messages_.pop_back();
    throw;
  } catch (...) {
    messages_.pop_back();
    clear_cache();
    throw;
  }
}

void Conversation::save(const std::filesystem::path& path) const {
  core::StateWriter writer;
  writer.text(kFormat);
  writer.text(loaded_.model->spec.name);
  writer.value(loaded_.model->weight_bytes());  // tells one quantisation from another
  writer.value(sequence_.num_tokens());
  writer.value(static_cast<uint64_t>(messages_.size()));
  for (const ChatMessage& message : messages_) {
    writer.text(message.role);
    writer.text(message.content);
  }
  writer.text(cached_text_);
  writer.list(std::span<const int32_t>(pending_));
  sequence_.save(writer);
  core::AtomicFile file(path);
  file.write(writer.buffer());
  file.commit();
}

void Conversation::load(const std::filesystem::path& path) {
  const core::MappedFile file(path);
  core::StateReader reader(path.string(), file.bytes());
  reader.expect("format", kFormat);
  reader.expect("model", loaded_.model->spec.name);
  reader.expect("weight bytes", loaded_.model->weight_bytes());
  const auto tokens = reader.value<int64_t>();
  if (!sequence_.policy().endless() && tokens > generator_.context()) {
    throw ContextFull(tokens, generator_.context());
  }
  std::vector<ChatMessage> messages;
  const auto count = reader.value<uint64_t>();
  for (uint64_t i = 0; i < count; ++i) {
    std::string role = reader.text();
    messages.push_back({std::move(role), reader.text()});
  }
  std::string cached_text = reader.text();
  auto pending = reader.list<int32_t>();
  for (const int32_t token : pending) {
    if (token < 0 || token >= loaded_.model->spec.vocab_size) {
      throw core::error("state",
                        "{}: expected tokens from 0 to {}, got {}",
                        path.string(),
                        loaded_.model->spec.vocab_size - 1,
                        token);
    }
  }
  kv::Sequence sequence = generator_.new_sequence();
  sequence.load(reader);
  if (!reader.at_end() || sequence.num_tokens() != tokens) {
    throw core::error("state",
                      "{}: expected {} tokens and the end of the file, got {} and more",
                      path.string(),
                      tokens,
                      sequence.num_tokens());
  }
  messages_ = std::move(messages);
  sequence_ = std::move(sequence);
  cached_text_ = std::move(cached_text);
  pending_ = std::move(pending);
}

}  // namespace adze::infer
