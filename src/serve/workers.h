#pragma once
// What would hold up the network: run on other threads, awaited on the server's.

#include <exception>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>

#include "serve/http_server.h"

namespace adze::serve {

class Workers {
 public:
  Workers(boost::asio::io_context& context, size_t threads) : context_(context), pool_(threads) {}

  // The function's value, or what it throws. NOTE: name the function before the co_await; GCC 12
  // destroys temporaries of such an expression twice.
  template <class Function>
  boost::asio::awaitable<std::invoke_result_t<Function>> run(Function function) {
    struct State {
      std::optional<std::invoke_result_t<Function>> result;
      std::exception_ptr failure;
      std::shared_ptr<Signal> signal;
      bool done = false;
    };
    const auto state = std::make_shared<State>();
    state->signal = std::make_shared<Signal>(context_);
    boost::asio::post(pool_, [this, state, function = std::move(function)]() mutable {
      try {
        state->result.emplace(function());
      } catch (...) {
        state->failure = std::current_exception();
      }
      boost::asio::post(context_, [state] {
        state->done = true;
        state->signal->notify();
      });
    });
    while (!state->done) {
      co_await state->signal->wait();
    }
    if (state->failure) {
      std::rethrow_exception(state->failure);
    }
    co_return std::move(*state->result);
  }

  // Without waiting for it.
  template <class Function>
  void post(Function function) {
    boost::asio::post(pool_, std::move(function));
  }

  void join() { pool_.join(); }

 private:
  boost::asio::io_context& context_;
  boost::asio::thread_pool pool_;
};

}  // namespace adze::serve
