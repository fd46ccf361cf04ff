#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "serve/http_server.h"

namespace adze::serve {

namespace asio = boost::asio;

struct Signal::Implementation {
  asio::steady_timer timer;
  uint64_t notified = 0;
  uint64_t seen = 0;
};

Signal::Signal(asio::io_context& context)
    : implementation_(new Implementation{asio::steady_timer(context)}) {}
Signal::~Signal() = default;

void Signal::notify() {
  ++implementation_->notified;
  implementation_->timer.cancel();
}

asio::awaitable<void> Signal::wait() {
  Implementation& self = *implementation_;
  if (self.notified == self.seen) {
    self.timer.expires_at(std::chrono::steady_clock::time_point::max());
    co_await self.timer.async_wait(asio::as_tuple(asio::use_awaitable));
  }
  self.seen = self.notified;
}

}  // namespace adze::serve
