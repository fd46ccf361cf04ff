// adze chat: a conversation on the terminal.

#include <atomic>
#include <csignal>
#include <iostream>

#include <unistd.h>

#include "cli/generation_options.h"
#include "cli/model_argument.h"
#include "cli/model_commands.h"
#include "cli/terminal.h"
#include "core/error.h"
#include "data/model_store.h"
#include "infer/conversation.h"

namespace adze::cli {
namespace {

struct ChatOptions {
  ModelOptions model;
  infer::LoadOptions loading;
  std::optional<std::string> system;
  std::optional<std::string> load;
  GenerationOptions generation;
  core::CommonOptions common;

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("", self.model, "");
    visit("", self.loading, "");
    visit("system", self.system, "system message; without it the template's own");
    visit("load", self.load, "go on with a conversation that /save wrote");
    visit("", self.generation, "");
    visit("", self.common, "");
  }
};

constexpr std::string_view kHelp =
    "  /reset        forget the conversation\n"
    "  /save FILE    write the conversation and its cache\n"
    "  /load FILE    go on with a saved one\n"
    "  /stats        tokens, cache bytes, speed\n"
    "  /help         this list\n"
    "  /quit         leave (or Ctrl-D)\n"
    "  A line that ends in \\ goes on in the next one; \"\"\" opens and closes a longer text.\n"
    "  Ctrl-C stops an answer.\n";

std::atomic<bool> interrupted = false;

void on_interrupt(int) {
  interrupted = true;
}

// Ctrl-C ends a read or an answer, never the program. Without SA_RESTART a blocked read returns.
void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_interrupt;
  ::sigaction(SIGINT, &action, nullptr);
}

// One message: lines joined while they end in a backslash, or between triple quotes. nullopt at the
// end of input.
std::optional<std::string> read_message(bool terminal) {
  std::string message;
  std::string line;
  bool quoted = false;
  for (bool first = true;; first = false) {
    if (terminal) {
      std::cout << (first ? "> " : ". ") << std::flush;
    }
    if (!std::getline(std::cin, line)) {
      if (!interrupted) {
        return first ? std::nullopt : std::optional(message);
      }
      interrupted = false;
      std::cin.clear();
      std::clearerr(stdin);
      std::cout << "\n(/quit or Ctrl-D leaves)\n";
      return "";
    }
    if (line.starts_with("\"\"\"") && !quoted && first) {
      quoted = true;
      line.erase(0, 3);
    }
    const bool closes = quoted && line.ends_with("\"\"\"");
    if (closes) {
      line.resize(line.size() - 3);
    }
    const bool continues = !quoted && line.ends_with('\\');
    if (continues) {
      line.pop_back();
    }
    message += line;
    if (quoted ? closes : !continues) {
      return message;
    }
    message += '\n';
  }
}

// Ctrl-C while a prompt is read in.
class Interrupted : public core::Error {
 public:
  using Error::Error;
};

class Chat {
 public:
  Chat(const ChatOptions& options, const infer::LoadedModel& loaded, infer::Generator& generator)
      : options_(options), conversation_(loaded, generator, options.system) {
    if (options.load) {
      conversation_.load(*options.load);
    }
  }

  // Returns false when the chat is over. Errors of a turn are told and survived.
  bool turn(const std::string& message) {
    try {
      if (message.starts_with('/')) {
        return command(message);
      }
      if (!message.empty()) {
        reply(message);
      }
    } catch (const Interrupted&) {
      write_notice("stopped; the message was taken back");
    } catch (const core::Error& failure) {
      write_notice(failure.what());
      failed_ = true;
    }
    interrupted = false;
    return true;
  }

  bool failed() const { return failed_; }

 private:
  bool command(const std::string& text) {
    const std::string name = text.substr(0, text.find(' '));
    const std::string argument =
        name.size() < text.size() ? text.substr(name.size() + 1) : std::string();
    if (name == "/quit" || name == "/exit") {
      return false;
    }
    if (name == "/help") {
      write_output(kHelp);
    } else if (name == "/reset") {
      conversation_.reset();
      write_notice("forgotten");
    } else if (name == "/stats") {
      write_output(stats());
    } else if (name == "/save" || name == "/load") {
      if (argument.empty()) {
        throw core::error("chat", "{}: expected a file name, got none", name);
      }
      name == "/save" ? conversation_.save(argument) : conversation_.load(argument);
      write_notice(fmt::format("{} {} messages, {} tokens",
                               name == "/save" ? "saved" : "loaded",
                               conversation_.messages().size(),
                               conversation_.sequence().num_tokens()));
    } else {
      const std::string nearest =
          core::nearest_name(name, {"/reset", "/save", "/load", "/stats", "/help", "/quit"});
      throw core::error("chat",
                        "unknown command {}{}",
                        printable(name),
                        nearest.empty() ? "; see /help" : "; did you mean " + nearest + "?");
    }
    return true;
  }

  void reply(const std::string& message) {
    interrupted = false;
    infer::TextRequest request{.generation = options_.generation.request(), .stop = {}};
    // Each answer of a conversation draws its own numbers; the first one those of `generate`.
    request.generation.sampling.seed += turns_++;
    PromptProgress progress(options_.generation.cache.prefill_chunk);
    last_ = conversation_
                .reply(
                    message,
                    request,
                    [](std::string_view text) {
                      write_output(text);
                      return !interrupted;
                    },
                    [&](int64_t done, int64_t all) {
                      if (interrupted) {
                        throw Interrupted("interrupted");
                      }
                      progress.update(done, all);
                    })
                .result;
    write_output("\n");
    if (interrupted) {
      write_notice("stopped");
    }
    if (last_.finish == infer::FinishReason::kContext) {
      write_notice(speed_text(last_));
    }
  }

  std::string stats() const {
    const kv::Sequence& sequence = conversation_.sequence();
    return fmt::format(
        "{} messages, {} tokens, {} of them in the cache: {} ({}, {})\nlast answer: {}\n",
        conversation_.messages().size(),
        sequence.num_tokens(),
        sequence.cached_tokens(0),
        bytes_text(sequence.bytes()),
        sequence.store().name(),
        sequence.policy().name(),
        speed_text(last_));
  }

  const ChatOptions& options_;
  infer::Conversation conversation_;
  infer::GenerationResult last_;
  uint64_t turns_ = 0;
  bool failed_ = false;
};

int chat(const std::vector<std::string>& arguments) {
  ChatOptions options;
  const core::CommandLine line{
      .name = "chat",
      .summary = "Talk to a model. Within the chat:\n" + std::string(kHelp),
      .options = core::list_options(options),
      .positionals = {}};
  if (!begin(line, arguments, options.common)) {
    return 0;
  }
  if (options.common.json) {
    throw core::UsageError("[chat] --json: expected a command with one result, such as generate");
  }
  options.generation.validate();
  const infer::LoadedModel loaded =
      infer::load_model(data::ModelStore().resolve(options.model.model), options.loading);
  infer::Generator generator(loaded.model, options.generation.cache);
  Chat chat(options, loaded, generator);
  catch_interrupts();
  const bool terminal = ::isatty(STDIN_FILENO) != 0;
  if (terminal) {
    write_notice("/help lists commands, Ctrl-C stops an answer, Ctrl-D leaves");
  }
  for (auto message = read_message(terminal); message; message = read_message(terminal)) {
    if (!chat.turn(*message)) {
      break;
    }
  }
  // A script that feeds a chat sees from the exit code that a turn failed; a person has been told.
  return chat.failed() && !terminal ? 1 : 0;
}

}  // namespace

core::Command chat_command() {
  return {.name = "chat", .summary = "Talk to a model", .run = chat};
}

}  // namespace adze::cli
