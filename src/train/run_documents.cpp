#include "train/run_documents.h"

#include <algorithm>
#include <span>
#include <string_view>

#include "core/error.h"
#include "formats/quote_untrusted.h"
#include "formats/sha256.h"

namespace adze::train {
namespace {

// A token's text; nothing where the number is padding or past the end.
std::string_view token_or_nothing(const text::TokenizerSpec& spec, size_t id) {
  const bool is_token = id < spec.tokens.size() && spec.tokens[id] != fmt::format("[PAD{}]", id);
  return is_token ? std::string_view(spec.tokens[id]) : std::string_view();
}

}  // namespace

std::string documents_sha256(const data::TokenData& training, const data::TokenData* validation) {
  formats::Sha256 hash;
  const auto add = [&](const data::TokenManifest& manifest) {
    std::string text = manifest.tokenizer_sha256 + "\n";
    for (const data::TokenShard& shard : manifest.shards) {
      text += shard.tokens_sha256 + " " + shard.lengths_sha256 + "\n";
    }
    text += "\n";
    hash.update(std::as_bytes(std::span(text)));
  };
  add(training.manifest());
  if (validation != nullptr) {
    add(validation->manifest());
  }
  return hash.finish();
}

void check_tokenizer(const std::string& model_name,
                     const text::TokenizerSpec& model,
                     const text::TokenizerSpec& data) {
  // A number without a token; tokenizer.json drops a token of the same text as one before it.
  const auto is_gap = [](const text::TokenizerSpec& spec, size_t id) {
    return id < spec.tokens.size() && spec.tokens[id].empty();
  };
  for (size_t id = 0; id < std::max(model.tokens.size(), data.tokens.size()); ++id) {
    const std::string_view expected = token_or_nothing(model, id);
    const std::string_view got = token_or_nothing(data, id);
    if (got != expected && !is_gap(model, id) && !is_gap(data, id)) {
      throw core::error("train",
                        "data: expected the tokenizer of {}, whose token {} is {}, got {}",
                        model_name,
                        id,
                        formats::quote_untrusted(expected),
                        formats::quote_untrusted(got));
    }
  }
}

}  // namespace adze::train
