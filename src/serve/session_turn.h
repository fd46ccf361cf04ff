#pragma once
// A turn of a session: what its messages add to the text that its cache holds. The same steps as
// infer::Conversation takes, so that a session says what `adze chat` does.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "infer/loaded_model.h"
#include "infer/scheduler.h"
#include "serve/completion_request.h"
#include "serve/model_host.h"
#include "serve/session.h"

namespace adze::serve {

// Bytes of messages from which on the older half of them is forgotten, where the template writes
// the newer half alike without them: a chat without end has a text and a cost of bounded size. The
// cache does not notice.
inline constexpr size_t kMostSessionText = 256 << 10;

// The model under its name, with the cache chosen. Throws core::UsageError: no such store or
// policy.
SessionBinding session_binding(const std::string& name,
                               const NamedModel& named,
                               const infer::CacheChoice& choice);

struct SessionTurn {
  SessionState state;           // with the new messages; the cache is the one that goes on
  std::vector<int32_t> tokens;  // that the cache lacks
  bool anew = false;            // all of the text, although there was a cache
};

// Takes long for long texts; any thread. Where the template changes earlier text (some trim
// answers), and after an answer that a stop string ended, the whole text is read anew. Throws
// ApiError.
SessionTurn next_turn(const infer::LoadedModel& loaded,
                      const CompletionRequest& request,
                      const SessionState& state,
                      int64_t most_tokens);

// After the answer `text`, whose cache is `kept`; null: it ended in the midst of a token's text.
void end_turn(SessionState& state,
              const text::Tokenizer& tokenizer,
              const std::string& text,
              std::shared_ptr<const infer::KeptText> kept);

}  // namespace adze::serve
