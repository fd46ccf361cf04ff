// Documents in, token data out: readers, shards, manifests, and what damages them.
#include "data/token_data.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <unordered_map>

#include <gtest/gtest.h>

#include "core/check.h"
#include "core/error.h"
#include "core/parallel.h"
#include "data/documents.h"
#include "data/token_dataset.h"
#include "data/tokenizer_files.h"
#include "data/tokenizer_training.h"

namespace adze::data {
namespace {

namespace fs = std::filesystem;

class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "adze-data-XXXXXX").string();
    core::check(::mkdtemp(name.data()) != nullptr, "a folder");
    path_ = name;
  }
  ~Folder() { fs::remove_all(path_); }
  fs::path operator/(const std::string& name) const { return path_ / name; }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(path_ / name, std::ios::binary) << text;
  }

 private:
  fs::path path_;
};

text::Tokenizer byte_tokenizer() {
  return text::Tokenizer(byte_pair_tokenizer({}, "gpt-2"));
}

// The message of what it throws.
template <class Body>
std::string failure(Body&& body) {
  try {
    body();
  } catch (const core::Error& error) {
    return error.what();
  }
  return "nothing thrown";
}

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

std::vector<std::string> documents_of(const TokenData& data) {
  const text::Tokenizer tokenizer = byte_tokenizer();
  std::vector<std::string> texts;
  for (int64_t i = 0; i < data.num_documents(); ++i) {
    std::vector<int32_t> ids(static_cast<size_t>(data.length(i)));
    data.read(data.start(i), ids);
    EXPECT_EQ(ids.back(), 0);
    ids.pop_back();
    texts.push_back(tokenizer.decode(ids));
  }
  return texts;
}

TokenizeRequest request_for(const Folder& folder, const std::string& pattern) {
  TokenizeRequest request;
  request.inputs = {(folder / pattern).string()};
  request.folder = folder / "tokens";
  return request;
}

TEST(Documents, AreReadFromLinesAndWholeFiles) {
  const Folder folder;
  folder.write("a.jsonl",
               "{\"text\": \"one\", \"id\": 1}\n\n  \n{\"id\": {\"text\": \"no\"}, \"text\": "
               "\"t\\u00e4st\"}\r\n{\"text\":\"no end\"}");
  folder.write("b.txt", "two\nlines\n");
  folder.write("c.txt", "");
  tokenize_documents(byte_tokenizer(), request_for(folder, "?.*"));
  const TokenData data(folder / "tokens", true);
  EXPECT_EQ(documents_of(data),
            (std::vector<std::string>{"one", "täst", "no end", "two\nlines\n"}));
  EXPECT_EQ(data.vocab_size(), 257);
  EXPECT_EQ(data.manifest().token_bytes, 2);
}

TEST(Documents, PartsMergedAreTheWhole) {
  const Folder folder;
  std::string lines;
  for (int i = 0; i < 57; ++i) {
    lines += "{\"text\":\"" + std::string(static_cast<size_t>(i * 7 % 31 + 1), 'x') +
             std::to_string(i) + "\"}\n";
  }
  folder.write("a.jsonl", lines);
  folder.write("b.txt", "a whole file");
  folder.write("c.jsonl", "{\"text\":\"last\"}\n");
  TokenizeRequest request = request_for(folder, "?.*");
  tokenize_documents(byte_tokenizer(), request);
  const auto whole = documents_of(TokenData(folder / "tokens", true));
  EXPECT_EQ(whole.size(), 59U);
  for (const int64_t count : {2, 3, 70}) {
    request.folder = folder / ("parts-" + std::to_string(count));
    for (int64_t index = count - 1; index >= 0; --index) {
      request.part = {index, count};
      tokenize_documents(byte_tokenizer(), request);
    }
    merge_token_data(request.folder);
    EXPECT_EQ(documents_of(TokenData(request.folder, true)), whole) << count;
  }
}

TEST(Documents, BytesDoNotDependOnThreads) {
  const Folder folder;
  std::string lines;
  for (int i = 0; i < 500; ++i) {
    lines += "{\"text\":\"document " + std::to_string(i) + "\"}\n";
  }
  folder.write("a.jsonl", lines);
  TokenizeRequest request = request_for(folder, "a.jsonl");
  const int threads = core::num_threads();
  std::vector<std::string> sums;
  for (const int count : {1, 4}) {
    core::set_num_threads(count);
    request.folder = folder / ("t" + std::to_string(count));
    sums.push_back(tokenize_documents(byte_tokenizer(), request).shards[0].tokens_sha256);
  }
  core::set_num_threads(threads);
  EXPECT_EQ(sums[0], sums[1]);
}

TEST(Documents, WhatIsWrongIsNamed) {
  const Folder folder;
  folder.write("broken.jsonl", "{\"text\":\"fine\"}\n{\"text\": \"cut\n");
  folder.write("list.jsonl", "[1, {\"text\":\"x\"}]\n");
  folder.write("number.jsonl", "{\"text\": 3}\n");
  folder.write("twice.jsonl", "{\"text\": \"a\", \"text\": 3}\n");
  folder.write("bytes.txt", "abc\xff");
  folder.write("empty.jsonl", "");
  folder.write("notgz.jsonl.gz", "{\"text\":\"x\"}\n");
  const auto message = [&](const std::string& pattern) {
    return failure([&] { tokenize_documents(byte_tokenizer(), request_for(folder, pattern)); });
  };
  EXPECT_HAS(message("broken.jsonl"), "broken.jsonl: line 2");
  EXPECT_HAS(message("list.jsonl"), "line 1: expected an object with a text under \"text\"");
  EXPECT_HAS(message("number.jsonl"), "line 1");
  EXPECT_HAS(message("twice.jsonl"), "line 1");
  EXPECT_HAS(message("bytes.txt"), "byte 3: expected UTF-8, got 0xff");
  EXPECT_HAS(message("empty.jsonl"), "expected documents with text, got none");
  EXPECT_HAS(message("notgz.jsonl.gz"), "expected gzip or zstd");
  EXPECT_HAS(message("none-*.jsonl"), "matches none");
  EXPECT_FALSE(fs::exists(folder / "tokens" / kTokenManifest));
  EXPECT_HAS(failure([] { InputPart::parse("3/3"); }), "I from 0 to N - 1");
  for (const char* text : {"", "1", "a/2", "-1/2", "1/0", "1/2/3", "1/999999999"}) {
    EXPECT_THROW(InputPart::parse(text), core::InvalidOption) << text;
  }
}

TEST(Documents, NothingIsOverwritten) {
  const Folder folder;
  folder.write("a.jsonl", "{\"text\":\"x\"}\n");
  tokenize_documents(byte_tokenizer(), request_for(folder, "a.jsonl"));
  EXPECT_HAS(failure([&] { tokenize_documents(byte_tokenizer(), request_for(folder, "a.jsonl")); }),
             "nothing is overwritten");
}

TEST(Documents, ATokenizerIsOverwrittenByItselfAlone) {
  const Folder folder;
  folder.write("a.jsonl", "{\"text\":\"x\"}\n");
  const TokenizeRequest request = request_for(folder, "a.jsonl");
  const auto tokenize = [&] { tokenize_documents(byte_tokenizer(), request); };
  tokenize();
  fs::remove(request.folder / kTokenManifest);  // as if it had died before
  EXPECT_NO_THROW(tokenize());
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}) {
    fs::remove_all(request.folder);
    fs::create_directories(request.folder);
    folder.write("tokens/" + std::string(name), "{}");
    EXPECT_HAS(failure(tokenize), "nothing is overwritten");
    EXPECT_EQ(fs::file_size(request.folder / name), 2U);
    EXPECT_FALSE(fs::exists(request.folder / kTokenManifest));
  }
}

TEST(Documents, AMissingPartIsAnError) {
  const Folder folder;
  folder.write("a.jsonl", "{\"text\":\"x\"}\n{\"text\":\"y\"}\n");
  TokenizeRequest request = request_for(folder, "a.jsonl");
  EXPECT_HAS(failure([&] { merge_token_data(request.folder); }), "got none");
  request.part = {0, 2};
  tokenize_documents(byte_tokenizer(), request);
  EXPECT_HAS(failure([&] { merge_token_data(request.folder); }), "expected all parts");
}

TEST(TokenDataFiles, DamageIsFound) {
  const Folder folder;
  folder.write("a.jsonl", "{\"text\":\"hello there\"}\n{\"text\":\"again\"}\n");
  tokenize_documents(byte_tokenizer(), request_for(folder, "a.jsonl"));
  const fs::path tokens = folder / "tokens" / "shard-00000-of-00001.tokens";
  const fs::path lengths = folder / "tokens" / "shard-00000-of-00001.lengths";
  const auto flip = [](const fs::path& file, int64_t place) {
    std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
    stream.seekp(place);
    stream.put('\x7f');
  };
  flip(tokens, 4);
  EXPECT_NO_THROW(TokenData(folder / "tokens", false));
  EXPECT_HAS(failure([&] { TokenData(folder / "tokens", true); }), "is damaged");
  // High bytes make ids that the vocabulary lacks: found when they are read.
  flip(tokens, 5);
  const TokenData data(folder / "tokens", false);
  std::vector<int32_t> ids(4);
  EXPECT_HAS(failure([&] { data.read(0, ids); }), "token 2: expected an id below 257");
  flip(lengths, 0);
  EXPECT_HAS(failure([&] { TokenData(folder / "tokens", false); }), "lengths is damaged");
  fs::resize_file(tokens, 10);
  EXPECT_HAS(failure([&] { TokenData(folder / "tokens", false); }), "lengths");
}

TEST(TokenDataFiles, ManifestsOfStrangersAreRefused) {
  const Folder folder;
  const std::string shard =
      R"({"name":"shard-0","documents":1,"tokens":2,"tokens_sha256":"","lengths_sha256":""})";
  const auto manifest = [&](const std::string& fields, const std::string& shards) {
    return R"({"format":"adze tokens 1","vocab_size":10,"token_bytes":2,"end_of_text":0,)" +
           fields + R"("tokenizer_sha256":"","shards":[)" + shards + "]}";
  };
  const auto message = [&](const std::string& text) {
    folder.write("manifest.json", text);
    return failure([&] { read_token_manifest(folder / "manifest.json"); });
  };
  EXPECT_EQ(message(manifest("", shard)), "nothing thrown");
  EXPECT_HAS(message("{"), "manifest.json");
  EXPECT_HAS(message("[]"), "expected an object");
  EXPECT_HAS(message(R"({"format":"other"})"), "format");
  EXPECT_HAS(message(manifest(R"("token_bytes":3,)", shard)), "token_bytes");
  EXPECT_HAS(message(manifest(R"("vocab_size":-1,)", shard)), "vocab_size");
  EXPECT_HAS(message(manifest(R"("vocab_size":1e99,)", shard)), "vocab_size");
  EXPECT_HAS(message(manifest(R"("end_of_text":10,)", shard)), "end_of_text");
  EXPECT_HAS(message(manifest(R"("shards":3,)", shard).substr(0, 120)), "manifest.json");
  std::string outside = shard;
  outside.replace(outside.find("shard-0"), 7, "../../x");
  EXPECT_HAS(message(manifest("", outside)), "name: expected");
  std::string huge = shard;
  huge.replace(huge.find("\"tokens\":2"), 10, "\"tokens\":9223372036854775807");
  EXPECT_HAS(message(manifest("", huge)), "tokens");
}

// Pair counts by brute force after every merge, as the method is usually written down.
std::vector<std::pair<int32_t, int32_t>> learn_slowly(
    const std::unordered_map<std::string, int64_t>& words, int64_t count) {
  std::vector<std::pair<std::vector<int32_t>, int64_t>> state;
  for (const auto& [word, occurrences] : words) {
    std::vector<int32_t> ids;
    for (const char byte : word) {
      ids.push_back(static_cast<unsigned char>(byte));
    }
    state.emplace_back(ids, occurrences);
  }
  std::vector<std::pair<int32_t, int32_t>> merges;
  while (static_cast<int64_t>(merges.size()) < count) {
    std::map<std::pair<int32_t, int32_t>, int64_t> pairs;
    for (const auto& [ids, occurrences] : state) {
      for (size_t i = 0; i + 1 < ids.size(); ++i) {
        pairs[{ids[i], ids[i + 1]}] += occurrences;
      }
    }
    std::pair<int32_t, int32_t> best;
    int64_t most = 1;
    for (const auto& [pair, occurrences] : pairs) {  // rising, so the first of equals stays
      if (occurrences > most) {
        most = occurrences;
        best = pair;
      }
    }
    if (most < 2) {
      break;
    }
    const auto token = static_cast<int32_t>(256 + merges.size());
    merges.push_back(best);
    for (auto& [ids, occurrences] : state) {
      std::vector<int32_t> merged;
      for (size_t i = 0; i < ids.size(); ++i) {
        if (i + 1 < ids.size() && ids[i] == best.first && ids[i + 1] == best.second) {
          merged.push_back(token);
          ++i;
        } else {
          merged.push_back(ids[i]);
        }
      }
      ids = merged;
    }
  }
  return merges;
}

TEST(TokenizerTraining, MergesAreThoseOfBruteForce) {
  const std::unordered_map<std::string, int64_t> words = {{"aaaa", 5},
                                                          {"aaa", 3},
                                                          {"aabaab", 4},
                                                          {"banana", 7},
                                                          {"bandana", 2},
                                                          {"ab", 9},
                                                          {"abababab", 3},
                                                          {"x", 50},
                                                          {"nanna", 3},
                                                          {"aaaaaaa", 1}};
  const auto merges = learn_merges(words, 40);
  EXPECT_EQ(merges, learn_slowly(words, 40));
  EXPECT_GT(merges.size(), 15U);
  EXPECT_EQ(learn_merges(words, 3).size(), 3U);
  EXPECT_TRUE(learn_merges({}, 5).empty());
}

TEST(TokenizerTraining, TokenizersComeBackFromTheirFiles) {
  const Folder folder;
  WordCounts words("gpt-2");
  words.add({"the cat sat on the mat, the cat said", "the hat \xff of the cat"});
  EXPECT_EQ(words.counts().at(" cat"), 3);
  const text::TokenizerSpec spec = byte_pair_tokenizer(learn_merges(words.counts(), 20), "gpt-2");
  fs::create_directories(folder / "t");
  write_tokenizer_files(folder / "t", spec, std::nullopt);
  const text::Tokenizer tokenizer(tokenizer_spec(folder / "t"));
  const std::string text = "the cat on the hat\n\tüber 123!";
  const auto ids = tokenizer.encode(text, text::SpecialTokens::kPlain);
  EXPECT_EQ(tokenizer.decode(ids), text);
  EXPECT_LT(ids.size(), text.size());
  EXPECT_EQ(tokenizer.spec().end_of_text, 0);
  EXPECT_EQ(ids, text::Tokenizer(spec).encode(text, text::SpecialTokens::kPlain));
}

}  // namespace
}  // namespace adze::data
