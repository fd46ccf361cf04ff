#pragma once
// Cuts text into the pieces within which tokens may merge.

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "text/regular_expression.h"
#include "text/tokenizer_spec.h"

namespace adze::text {

class PreTokenizer {
 public:
  // Throws core::Error: expressions that are broken or not supported. No steps: the text is one
  // piece.
  explicit PreTokenizer(const std::vector<PreTokenizerStep>& steps);
  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;

  bool is_byte_level() const { return byte_level_; }

  // Work space of one thread: matching needs memory that must not be shared.
  struct Workspace;
  class WorkspaceDeleter {
   public:
    void operator()(Workspace* workspace) const;
  };
  using WorkspacePointer = std::unique_ptr<Workspace, WorkspaceDeleter>;
  WorkspacePointer make_workspace() const;
  // Memory and limits of expressions; call its begin() before each text.
  static RegularExpression::Workspace& expressions(Workspace& workspace);

  using Consumer = std::function<void(std::string_view piece)>;
  // `text` must be well-formed UTF-8. `at_start`: nothing stands before it, which decides where
  // PrependScheme::kFirst puts a space. Pieces of byte-level tokenizers are bytes, not their
  // alphabet.
  void split(std::string_view text,
             bool at_start,
             Workspace& workspace,
             const Consumer& consume) const;

 private:
  class Stage;
  struct Piece;
  void split_from(size_t stage,
                  const Piece& piece,
                  Workspace& workspace,
                  const Consumer& consume) const;

  std::vector<Stage> stages_;
  bool byte_level_ = false;
};

}  // namespace adze::text
