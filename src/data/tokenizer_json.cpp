#include "data/tokenizer_json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "core/error.h"
#include "data/json_place.h"
#include "data/tokenizer_json_steps.h"

namespace adze::data {

namespace {

using nlohmann::json;
using text::TokenizerModel;
using text::TokenizerSpec;
using text::TokenKind;

// The largest vocabularies in use have about 2^18 tokens and 2^19 merges.
constexpr size_t kMaxEntries = size_t{1} << 20;
constexpr char kWideSeparator = '\xFF';  // between the parts of a merge, see TokenizerSpec

bool is_byte_name(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789ABCDEF";
  return text.size() == 6 && text.starts_with("<0x") && text.ends_with('>') &&
         kDigits.find(text[3]) != std::string_view::npos &&
         kDigits.find(text[4]) != std::string_view::npos;
}

// The number as `tokenizers` reads it: its JSON parser divides all digits, as a whole number, by a
// power of ten, which may be a unit in the last place off. It matters where two ways to cut a text
// are equally likely but for rounding.
double as_reference_reads(double number) {
  constexpr int kMaxPower = 22;  // ten to this is exact
  char digits[32];
  const auto end =
      std::to_chars(digits, digits + sizeof(digits), std::abs(number), std::chars_format::fixed);
  if (end.ec != std::errc()) {
    return number;  // too long to be a score
  }
  const std::string_view shown(digits, static_cast<size_t>(end.ptr - digits));
  const size_t point = shown.find('.');
  const size_t places = point == std::string_view::npos ? 0 : shown.size() - point - 1;
  if (places == 0 || places > kMaxPower || shown.size() > 19) {
    return number;
  }
  uint64_t whole = 0;
  for (const char digit : shown) {
    whole = digit == '.' ? whole : whole * 10 + static_cast<uint64_t>(digit - '0');
  }
  return std::copysign(static_cast<double>(whole) / std::pow(10.0, static_cast<double>(places)),
                       number);
}

class Reader {
 public:
  Reader(const json& root, const std::string& file) : root_(root, file) {}

  TokenizerSpec read() {
    const JsonPlace model = root_.at("model");
    spec_.normalizers = normalizer_steps(root_.at("normalizer"));
    spec_.pre_tokenizers = pre_tokenizer_steps(root_.at("pre_tokenizer"));
    spec_.decoders = decoder_steps(root_.at("decoder"));
    const std::string type = model_type(model);
    if (type == "BPE") {
      read_pairs(model);
    } else if (type == "Unigram") {
      read_unigram(model);
    } else if (type == "WordPiece") {
      read_word_piece(model);
    } else {
      model.at("type").not_supported();
    }
    mark_bytes();
    read_added_tokens(root_.at("added_tokens"));
    if (spec_.unknown) {
      spec_.kinds[static_cast<size_t>(*spec_.unknown)] = TokenKind::kUnknown;
    }
    read_post_processor(root_.at("post_processor"));
    return std::move(spec_);
  }

 private:
  // Older files do not say it.
  static std::string model_type(const JsonPlace& model) {
    if (!model.at("type").is_null()) {
      return model.at("type").text();
    }
    if (!model.at("merges").is_null()) {
      return "BPE";
    }
    return model.at("vocab").json().is_array() ? "Unigram" : "WordPiece";
  }

  void add(const JsonPlace& place, int64_t id, const std::string& text) {
    if (id < 0 || id >= static_cast<int64_t>(kMaxEntries)) {
      place.fail(fmt::format("ids of 0 to {}", kMaxEntries - 1));
    }
    const auto position = static_cast<size_t>(id);
    if (position >= spec_.tokens.size()) {
      spec_.tokens.resize(position + 1);
      spec_.kinds.resize(position + 1, TokenKind::kUnused);  // ids without a token
    }
    if (spec_.kinds[position] != TokenKind::kUnused) {
      throw core::error("tokenizer",
                        "{}: expected an id for each token, got {} for {} and {}",
                        place.path(),
                        id,
                        formats::quote_untrusted(spec_.tokens[position]),
                        formats::quote_untrusted(text));
    }
    spec_.tokens[position] = text;
    spec_.kinds[position] = TokenKind::kNormal;
  }

  void read_vocabulary(const JsonPlace& place) {
    const json& vocabulary = place.json();
    if (!vocabulary.is_object() || vocabulary.size() > kMaxEntries) {
      place.fail(fmt::format("an object of at most {} tokens", kMaxEntries));
    }
    for (const auto& [text, id] : vocabulary.items()) {
      if (!id.is_number_integer()) {
        place.fail("whole numbers as ids");
      }
      add(place, id.get<int64_t>(), text);
    }
  }

  std::optional<int32_t> find(const std::string& text) const {
    const auto found = std::find(spec_.tokens.begin(), spec_.tokens.end(), text);
    return found == spec_.tokens.end()
               ? std::nullopt
               : std::optional(static_cast<int32_t>(found - spec_.tokens.begin()));
  }

  int32_t token_id(const JsonPlace& place) const {
    const auto id = find(place.text());
    if (!id) {
      place.fail("a token of the vocabulary");
    }
    return *id;
  }

  void read_pairs(const JsonPlace& model) {
    spec_.model = TokenizerModel::kMergedPairs;
    for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      if (!model.at(key).text_or("").empty()) {
        model.at(key).not_supported();
      }
    }
    const json& dropout = model.at("dropout").json();
    if (!dropout.is_null() && !(dropout.is_number() && dropout.get<double>() == 0)) {
      model.at("dropout").not_supported();
    }
    spec_.fuse_unknown = model.at("fuse_unk").flag_or(false);
    spec_.byte_fallback = model.at("byte_fallback").flag_or(false);
    spec_.prefers_whole_tokens = model.at("ignore_merges").flag_or(false);
    read_vocabulary(model.at("vocab"));
    if (!model.at("unk_token").is_null()) {
      spec_.unknown = token_id(model.at("unk_token"));
      spec_.writes_unknown = true;
    }
    read_merges(model.at("merges"));
  }

  void read_merges(const JsonPlace& place) {
    const json& merges = place.json();
    if (!merges.is_array() || merges.size() > kMaxEntries) {
      place.fail(fmt::format("an array of at most {} merges", kMaxEntries));
    }
    spec_.merges.reserve(merges.size());
    for (const json& merge : merges) {
      if (merge.is_string()) {
        const auto& line = merge.get_ref<const std::string&>();
        if (!line.starts_with("#version")) {
          spec_.merges.push_back(line);
        }
        continue;
      }
      if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() ||
          !merge[1].is_string()) {
        place.fail("pairs of strings");
      }
      const auto& left = merge[0].get_ref<const std::string&>();
      const auto& right = merge[1].get_ref<const std::string&>();
      const bool wide = left.find(' ') != std::string::npos || right.find(' ') != std::string::npos;
      spec_.merges.push_back(left);
      spec_.merges.back().append(1, wide ? kWideSeparator : ' ').append(right);
    }
  }

  void read_unigram(const JsonPlace& model) {
    spec_.model = TokenizerModel::kUnigram;
    spec_.byte_fallback = model.at("byte_fallback").flag_or(false);
    const JsonPlace place = model.at("vocab");
    const json& vocabulary = place.json();
    if (!vocabulary.is_array() || vocabulary.empty() || vocabulary.size() > kMaxEntries) {
      place.fail(fmt::format("an array of 1 to {} tokens", kMaxEntries));
    }
    for (const json& entry : vocabulary) {
      if (!entry.is_array() || entry.size() != 2 || !entry[0].is_string() ||
          !entry[1].is_number()) {
        place.fail("pairs of a string and a number");
      }
      spec_.tokens.push_back(entry[0].get<std::string>());
      spec_.scores.push_back(as_reference_reads(entry[1].get<double>()));
    }
    spec_.kinds.assign(spec_.tokens.size(), TokenKind::kNormal);
    spec_.unknown = static_cast<int32_t>(
        model.at("unk_id").integer(0, static_cast<int64_t>(spec_.tokens.size()) - 1));
  }

  void read_word_piece(const JsonPlace& model) {
    spec_.model = TokenizerModel::kWordPiece;
    spec_.continuing_prefix = model.at("continuing_subword_prefix").text_or("##");
    spec_.max_word_characters =
        static_cast<int32_t>(model.at("max_input_chars_per_word")
                                 .integer_or(100, 1, std::numeric_limits<int32_t>::max()));
    read_vocabulary(model.at("vocab"));
    spec_.unknown = token_id(model.at("unk_token"));
  }

  void mark_bytes() {
    for (size_t id = 0; id < spec_.tokens.size() && spec_.byte_fallback; ++id) {
      if (is_byte_name(spec_.tokens[id])) {
        spec_.kinds[id] = TokenKind::kByte;
      }
    }
  }

  void read_added_tokens(const JsonPlace& place) {
    spec_.added_tokens.emplace();
    if (place.is_null()) {
      return;
    }
    if (!place.json().is_array() || place.json().size() > kMaxEntries) {
      place.fail(fmt::format("an array of at most {} tokens", kMaxEntries));
    }
    // A few thousand tokens are looked up by text: sorted once.
    std::vector<std::pair<std::string, int32_t>> known;
    for (size_t id = 0; id < spec_.tokens.size(); ++id) {
      known.emplace_back(spec_.tokens[id], static_cast<int32_t>(id));
    }
    std::sort(known.begin(), known.end());
    for (const JsonPlace& token : place.elements()) {
      read_added_token(token, known);
    }
  }

  void read_added_token(const JsonPlace& place,
                        const std::vector<std::pair<std::string, int32_t>>& known) {
    const std::string& text = place.at("content").text();
    if (text.empty()) {
      return;  // the reference ignores them
    }
    const auto found = std::lower_bound(known.begin(), known.end(), std::pair(text, 0));
    int32_t id = 0;
    if (found != known.end() && found->first == text) {
      id = found->second;
    } else {
      id = static_cast<int32_t>(place.at("id").integer(0, static_cast<int64_t>(kMaxEntries) - 1));
      add(place.at("id"), id, text);
      spec_.scores.resize(spec_.scores.empty() ? 0 : spec_.tokens.size());
    }
    const bool special = place.at("special").flag_or(false);
    spec_.kinds[static_cast<size_t>(id)] = special ? TokenKind::kControl : TokenKind::kUserDefined;
    spec_.added_tokens->push_back({.id = id,
                                   .normalized = place.at("normalized").flag_or(!special),
                                   .left_strip = place.at("lstrip").flag_or(false),
                                   .right_strip = place.at("rstrip").flag_or(false),
                                   .single_word = place.at("single_word").flag_or(false)});
  }

  int32_t checked_id(const JsonPlace& place) const {
    return static_cast<int32_t>(place.integer(0, static_cast<int64_t>(spec_.tokens.size()) - 1));
  }

  // What goes before and behind a text.
  void read_post_processor(const JsonPlace& place) {
    if (place.is_null()) {
      return;
    }
    const std::string& type = place.at("type").text();
    if (type == "Sequence") {
      for (const JsonPlace& member : place.at("processors").elements()) {
        read_post_processor(member);
      }
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      put_begin(place, checked_pair_id(place.at("cls")));
      put_end(place, checked_pair_id(place.at("sep")));
    } else if (type == "TemplateProcessing") {
      read_template(place);
    } else if (type != "ByteLevel") {
      place.at("type").not_supported();
    }
  }

  int32_t checked_pair_id(const JsonPlace& place) const {
    const auto parts = place.elements();
    if (parts.size() != 2) {
      place.fail("a token and its id");
    }
    return checked_id(parts[1]);
  }

  void read_template(const JsonPlace& place) {
    bool behind = false;
    for (const JsonPlace& part : place.at("single").elements()) {
      if (!part.at("Sequence").is_null()) {
        if (std::exchange(behind, true)) {
          part.not_supported();
        }
        continue;
      }
      const std::string& name = part.at("SpecialToken").at("id").text();
      const JsonPlace ids = place.at("special_tokens").at(name.c_str()).at("ids");
      for (const JsonPlace& id : ids.elements()) {
        behind ? put_end(part, checked_id(id)) : put_begin(part, checked_id(id));
      }
    }
  }

  void put_begin(const JsonPlace& place, int32_t id) {
    if (spec_.add_begin_of_text) {
      throw core::error(
          "tokenizer", "{}: two tokens before a text are not supported", place.path());
    }
    spec_.add_begin_of_text = true;
    spec_.begin_of_text = id;
  }
  void put_end(const JsonPlace& place, int32_t id) {
    if (spec_.add_end_of_text) {
      throw core::error(
          "tokenizer", "{}: two tokens behind a text are not supported", place.path());
    }
    spec_.add_end_of_text = true;
    spec_.end_of_text = id;
  }

  JsonPlace root_;
  TokenizerSpec spec_;
};

}  // namespace

TokenizerSpec tokenizer_from_json(const json& root, const std::string& file) {
  return Reader(root, file).read();
}

}  // namespace adze::data
