#pragma once
// Models from huggingface.co, or a server with the same two addresses (HF_ENDPOINT):
//   GET {endpoint}/api/models/{repository}/tree/{revision}?recursive=true   the list of files
//   GET {endpoint}/{repository}/resolve/{revision}/{path}                   a file
// https://huggingface.co/docs/hub/api. Everything that comes is a stranger's: names, sizes,
// lengths.

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "data/hub_choice.h"
#include "data/hub_http.h"
#include "data/hub_name.h"

namespace adze::data {

struct HubOptions {
  int64_t timeout = 30;  // seconds
  int64_t retries = 4;   // the pause before each is twice the last one

  void validate() const;  // throws core::InvalidOption

  template <class Self, class Visit>
  static constexpr void fields(Self& self, Visit&& visit) {
    visit("timeout", self.timeout, "seconds to wait for a hub that sends nothing, 1 to 3600");
    visit("retries",
          self.retries,
          "further attempts after a busy hub or a broken connection, 0 to 20");
  }
};

struct HubEvents {
  std::function<bool()> stopped;                  // asked often; true ends the work
  std::function<void(std::string_view)> waiting;  // why there is a pause
};

// Every throw is a core::Error of one line that says what to do.
class Hub {
 public:
  // known: repositories that exist, for the nearest name to one that does not.
  Hub(HubAccess access,
      const HubOptions& options,
      HubEvents events,
      std::vector<std::string> known = {});

  const std::string& host() const { return host_; }

  std::vector<HubFile> list_files(const HubName& name);
  // Brings the file to `target`, from where an earlier attempt stopped; checks size and checksum.
  // `arrived` gets the bytes that are here, now and then. Returns the sha256.
  std::string fetch(const HubName& name,
                    const HubFile& file,
                    const std::filesystem::path& target,
                    const std::function<void(int64_t bytes)>& arrived);

 private:
  HttpReply ask(const std::function<HttpRequest()>& request,
                const ReadBody& read,
                const std::function<int64_t()>& progress);
  void pause(double seconds) const;
  [[noreturn]] void fail(const HttpReply& reply, const HubName& name, std::string_view file) const;
  [[noreturn]] void fail_status(const HttpReply& reply,
                                const HubName& name,
                                const std::string& subject) const;

  HubAccess access_;
  HubOptions options_;
  HubEvents events_;
  std::vector<std::string> known_;
  std::string host_;
  HttpClient client_;
  bool answered_ = false;  // the hub, to an earlier request: the network is there
};

}  // namespace adze::data
