#pragma once
// Text as Python sees it: positions count characters, not bytes; white space and letter case are
// Unicode's. Case covers ASCII, Latin-1, Latin Extended-A, Greek and Cyrillic; other letters stay.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace adze::text::chat_template {

// Without `characters`: white space. Otherwise the characters of that set.
std::string_view strip_left(std::string_view text,
                            std::optional<std::string_view> characters = std::nullopt);
std::string_view strip_right(std::string_view text,
                             std::optional<std::string_view> characters = std::nullopt);
inline std::string_view strip(std::string_view text,
                              std::optional<std::string_view> characters = std::nullopt) {
  return strip_left(strip_right(text, characters), characters);
}

bool is_white_space(uint32_t code_point);

int64_t count_characters(std::string_view text);
size_t byte_offset(std::string_view text, int64_t characters);  // at most text.size()

std::string upper_case(std::string_view text);
std::string lower_case(std::string_view text);
std::string capitalized(std::string_view text);  // first upper, others lower
// Each word so. A word begins after a byte of `separators`; empty: after any non-letter.
std::string title_case(std::string_view text, std::string_view separators = {});

// Python's split: separator empty means runs of white space; at most `limit` cuts unless negative.
std::vector<std::string_view> split_text(std::string_view text,
                                         std::string_view separator,
                                         int64_t limit);
std::vector<std::string_view> split_text_from_right(std::string_view text,
                                                    std::string_view separator,
                                                    int64_t limit);
std::vector<std::string_view> split_lines(std::string_view text, bool keep_breaks);

}  // namespace adze::text::chat_template
