// Incident 7: every route of the table but those said to be open wants a key, and the OpenAPI file
// lists the table.

#include <algorithm>
#include <cctype>
#include <csignal>
#include <regex>
#include <set>
#include <string>
#include <thread>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "serve/server.h"
#include "serve/web_files.h"

namespace adze::serve {
namespace {

namespace http = boost::beast::http;
using boost::asio::ip::tcp;

constexpr char kKey[] = "key-0123456789abcdef";

class RoutesTest : public testing::Test {
 protected:
  RoutesTest() {
    ServerOptions options;
    options.port = 0;
    options.keys = {kKey, "another"};
    options.quiet = true;
    options.drain_seconds = 1;
    server_.emplace(options,
                    std::vector<ModelEntry>{{"none", "/nonexistent"}},
                    std::vector<AdapterEntry>(),
                    ModelHostOptions());
    port_ = server_->listen();
    thread_ = std::thread([this] { server_->run(); });
  }
  ~RoutesTest() override {
    std::raise(SIGTERM);  // the server's own signal set takes it
    thread_.join();
  }

  int status(const std::string& method, const std::string& path, const std::string& authorization) {
    boost::asio::io_context context;
    tcp::socket socket(context);
    socket.connect({boost::asio::ip::make_address("127.0.0.1"), static_cast<uint16_t>(port_)});
    http::request<http::string_body> request(http::string_to_verb(method), path, 11);
    request.set(http::field::host, "127.0.0.1");
    if (!authorization.empty()) {
      request.set(http::field::authorization, authorization);
    }
    if (method == "POST") {
      request.body() = "{}";
    }
    request.prepare_payload();
    http::write(socket, request);
    boost::beast::flat_buffer buffer;
    http::response<http::string_body> response;
    http::read(socket, buffer, response);
    return response.result_int();
  }

  std::optional<Server> server_;
  int port_ = 0;
  std::thread thread_;
};

TEST_F(RoutesTest, EveryRouteButHealthWantsAKey) {
  const auto routes = Server::routes();
  EXPECT_GE(routes.size(), 13U);
  std::set<std::string> open;
  for (const RouteInfo& route : routes) {
    std::string path = route.path;
    std::replace(path.begin(), path.end(), '*', 'x');
    if (route.open) {
      open.insert(route.path);
      EXPECT_EQ(status(route.method, path, ""), 200) << path;
      continue;
    }
    for (const std::string wrong : {"",
                                    "Bearer ",
                                    "Bearer key-0123456789abcde",
                                    "Basic eDp5",
                                    "key-0123456789abcdef",
                                    "Bearer key-0123456789abcdefg"}) {
      EXPECT_EQ(status(route.method, path, wrong), 401) << route.method << path << wrong;
    }
    EXPECT_NE(status(route.method, path, std::string("Bearer ") + kKey), 401) << path;
  }
  EXPECT_EQ(open, std::set<std::string>{"/health"});
}

TEST_F(RoutesTest, TheOpenApiFileListsTheTable) {
  const WebFile* file = find_web_file("/openapi.json");
  ASSERT_NE(file, nullptr);
  const auto document = nlohmann::json::parse(file->body);
  std::set<std::string> described;
  for (const auto& [path, methods] : document.at("paths").items()) {
    for (const auto& [method, operation] : methods.items()) {
      described.insert(method + " " + std::regex_replace(path, std::regex("\\{\\w+\\}"), "*"));
    }
  }
  std::set<std::string> table;
  for (const RouteInfo& route : Server::routes()) {
    std::string method = route.method;
    std::transform(method.begin(), method.end(), method.begin(), [](unsigned char c) {
      return static_cast<char>(std::tolower(c));
    });
    table.insert(method + " " + std::regex_replace(route.path, std::regex("\\*+"), "*"));
  }
  EXPECT_EQ(described, table);
}

}  // namespace
}  // namespace adze::serve
