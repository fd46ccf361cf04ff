#include "data/hub_url.h"

#include <gtest/gtest.h>

namespace adze::data {
namespace {

TEST(HubUrl, SchemesAndHosts) {
  EXPECT_EQ(url_scheme("HTTPS://Host.Example:8/x"), "https");
  EXPECT_EQ(url_host("HTTPS://Host.Example:8/x"), "host.example");
  EXPECT_EQ(url_host("http://[::1]:80/"), "[::1]");
  for (const char* url : {"", "host", "/path", "http://", "://x", "http://a b/"}) {
    EXPECT_EQ(url_host(url), "") << url;
  }
}

TEST(HubUrl, Endpoints) {
  for (const char* url : {"https://huggingface.co", "http://127.0.0.1:80", "https://h/mirror/hf"}) {
    EXPECT_TRUE(is_endpoint(url)) << url;
  }
  for (const char* url : {"",
                          "huggingface.co",
                          "ftp://h",
                          "file:///x",
                          "https://u@h",
                          "https://u:p@h",
                          "https://h?x",
                          "https://h#x",
                          "https://"}) {
    EXPECT_FALSE(is_endpoint(url)) << url;
  }
}

TEST(HubUrl, TheTokenGoesToTheEndpointAlone) {
  EXPECT_TRUE(may_receive_token("https://hub.example", "https://hub.example/a/b"));
  EXPECT_TRUE(may_receive_token("https://hub.example", "HTTPS://HUB.EXAMPLE:443/a"));
  EXPECT_TRUE(may_receive_token("http://127.0.0.1:9", "http://127.0.0.1:9/a"));
  EXPECT_TRUE(may_receive_token("http://localhost", "http://localhost:80/a"));
  EXPECT_TRUE(may_receive_token("http://[::1]:9", "http://[::1]:9/a"));
  for (const char* url : {"http://hub.example/a",
                          "https://hub.example:8443/a",
                          "https://cdn.hub.example/a",
                          "https://hub.example.evil.example/a",
                          "https://hub.example@evil.example/a",
                          "https://evil.example/https://hub.example/",
                          "https:/hub",
                          "ftp://hub.example/a",
                          ""}) {
    EXPECT_FALSE(may_receive_token("https://hub.example", url)) << url;
  }
  // Plain http: on this machine alone.
  EXPECT_FALSE(may_receive_token("http://hub.example", "http://hub.example/a"));
  EXPECT_FALSE(may_receive_token("http://127.evil.example", "http://127.evil.example/a"));
  EXPECT_FALSE(may_receive_token("http://127.0.0.1", "http://127.0.0.1:8080/a"));
  EXPECT_FALSE(may_receive_token("http://10.0.0.1", "http://10.0.0.1/a"));
}

TEST(HubUrl, NextPages) {
  const std::string page = "https://h/api/tree?x=1";
  EXPECT_EQ(next_page_url(R"(<https://h/api/tree?cursor=a%3D>; rel="next")", page),
            "https://h/api/tree?cursor=a%3D");
  EXPECT_EQ(next_page_url(R"(<https://h/1>; rel="prev", <https://h/3>; rel="next")", page),
            "https://h/3");
  EXPECT_EQ(next_page_url("<https://h/3>;rel=next", page), "https://h/3");
  EXPECT_EQ(next_page_url(R"(<?cursor=2>; rel="next")", page), "https://h/api/tree?cursor=2");
  EXPECT_EQ(next_page_url(R"(</other>; rel="next")", page), "https://h/other");
  for (const char* link : {"",
                           "<",
                           ">",
                           "<>",
                           "<https://h/3>",
                           R"(<https://h/3>; rel="prev")",
                           R"(https://h/3; rel="next")",
                           R"(<https://h/3; rel="next")"}) {
    EXPECT_EQ(next_page_url(link, page), "") << link;
  }
}

TEST(HubUrl, ContentRanges) {
  EXPECT_EQ(parse_content_range("bytes 100-199/200").start, 100);
  EXPECT_EQ(parse_content_range("bytes 100-199/200").total, 200);
  EXPECT_EQ(parse_content_range("bytes 5-5/*").start, 5);
  EXPECT_EQ(parse_content_range("bytes 5-5/*").total, -1);
  for (const char* value : {"",
                            "bytes",
                            "bytes ",
                            "bytes */200",
                            "bytes 1-2",
                            "bytes 2-1/9",
                            "bytes 0-9/9",
                            "bytes -1-2/9",
                            "bytes 1--2/9",
                            "lines 1-2/9",
                            "bytes 1-2/9x",
                            "bytes 1-2/",
                            "bytes 99999999999999999999-2/9"}) {
    EXPECT_EQ(parse_content_range(value).start, -1) << value;
  }
}

TEST(HubUrl, StrongEntityTags) {
  EXPECT_TRUE(is_strong_entity_tag("\"abc\""));
  EXPECT_TRUE(is_strong_entity_tag("\"\""));
  for (const char* tag :
       {"", "\"", "abc", "W/\"abc\"", "\"a b\"", "\"a\r\nb\"", "\"abc", "abc\""}) {
    EXPECT_FALSE(is_strong_entity_tag(tag)) << tag;
  }
  EXPECT_FALSE(is_strong_entity_tag("\"" + std::string(300, 'a') + "\""));
}

}  // namespace
}  // namespace adze::data
