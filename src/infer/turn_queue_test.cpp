#include "infer/turn_queue.h"

#include <map>
#include <string>

#include <gtest/gtest.h>

namespace adze::infer {
namespace {

using Queue = TurnQueue<std::string>;
using Counts = std::map<std::string, int64_t>;

std::string drain(Queue& queue) {
  std::string order;
  while (const std::string* front = queue.front()) {
    const std::string item = *front;
    EXPECT_EQ(queue.pop(), item);
    order += (order.empty() ? "" : " ") + item;
  }
  EXPECT_EQ(queue.size(), 0);
  return order;
}

TEST(TurnQueue, OwnersTakeTurns) {
  Queue queue;
  for (const char* item : {"a1", "a2", "a3", "b1", "c1", "c2"}) {
    queue.push(std::string(1, item[0]), Queue::Kind::kNew, item);
  }
  EXPECT_EQ(queue.new_items(), (Counts{{"a", 3}, {"b", 1}, {"c", 2}}));
  EXPECT_EQ(drain(queue), "a1 b1 c1 a2 c2 a3");
}

TEST(TurnQueue, ForksAndNewItemsOfAnOwnerTakeTurns) {
  Queue queue;
  for (const char* item : {"f1", "f2", "f3", "f4"}) {
    queue.push("a", Queue::Kind::kFork, item);
  }
  queue.push("a", Queue::Kind::kNew, "n1");
  queue.push("a", Queue::Kind::kNew, "n2");
  queue.push("a", Queue::Kind::kReturning, "r2");
  queue.push("a", Queue::Kind::kReturning, "r1");
  queue.push("b", Queue::Kind::kNew, "b1");
  EXPECT_EQ(queue.size(), 9);
  EXPECT_EQ(queue.new_items(), (Counts{{"a", 2}, {"b", 1}}));
  EXPECT_EQ(drain(queue), "r1 b1 r2 n1 f1 n2 f2 f3 f4");
}

TEST(TurnQueue, RemovesWhatHasEnded) {
  Queue queue;
  queue.push("a", Queue::Kind::kNew, "x");
  queue.push("b", Queue::Kind::kFork, "y");
  queue.push("b", Queue::Kind::kNew, "x");
  queue.remove_if([](const std::string& item) { return item == "x"; });
  EXPECT_EQ(drain(queue), "y");
}

}  // namespace
}  // namespace adze::infer
