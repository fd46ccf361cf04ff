#pragma once
// Cuts text into the pieces within which tokens may merge. A pre-tokenizer is a list of regular
// expressions: each cuts the pieces of the one before it into its matches and what lies between.

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

namespace adze::text {

class PreTokenizer {
 public:
  // By the name that model files use ("smollm", "llama-bpe"); throws core::Error that lists the
  // known names. There is no default: one wrong rule gives plausible but worse results.
  explicit PreTokenizer(std::string_view name);
  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;

  // Whether a piece that is a token as a whole is taken as it is, even if no merges lead to it.
  bool prefers_whole_tokens() const { return prefers_whole_tokens_; }

  // Work space of one thread: matching needs memory that must not be shared.
  class Workspace;
  class WorkspaceDeleter {
   public:
    void operator()(Workspace* workspace) const;
  };
  using WorkspacePointer = std::unique_ptr<Workspace, WorkspaceDeleter>;
  WorkspacePointer make_workspace() const;

  using Consumer = std::function<void(std::string_view piece)>;
  // `text` must be well-formed UTF-8.
  void split(std::string_view text, Workspace& workspace, const Consumer& consume) const;

 private:
  class Stage;
  void split_from(size_t stage,
                  std::string_view text,
                  Workspace& workspace,
                  const Consumer& consume) const;

  std::vector<std::unique_ptr<Stage>> stages_;
  bool prefers_whole_tokens_ = false;
};

}  // namespace adze::text
